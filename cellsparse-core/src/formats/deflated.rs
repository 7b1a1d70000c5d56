//! A deflated entry of an archive, of which ranges are read without unpacking it whole.
//!
//! It is unpacked once, to compare its checksum; on the way the state of the unpacking is kept at some places, from which it goes
//! on when a range is asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

use super::source::Source;
use crate::raster::checksum::{ZIP, checksum};

/// Places from which unpacking can go on, at most: each takes 45 KiB.
const MOST_PLACES: u64 = 128;
/// Least distance of two places.
const LEAST_SPAN: u64 = 1 << 18;
/// What lies between two places, unpacked, is kept for the next reading: so many of them.
const KEPT: usize = 4;
/// Packed bytes that are held.
const HELD: u64 = 1 << 16;

/// Packed bytes that were unpacked once and matched their checksum.
pub(super) struct Deflated<'a> {
    packed: Source<'a>,
    length: u64,
    span: u64,
    places: Vec<Place>,
    kept: Mutex<VecDeque<(usize, Arc<Vec<u8>>)>>,
}

/// Where unpacking can go on.
#[derive(Clone)]
struct Place {
    state: Box<InflateState>,
    /// Packed bytes before it.
    read: u64,
}

impl<'a> Deflated<'a> {
    /// Packed bytes that become `length` bytes with that checksum; nothing when they do not.
    pub fn new(packed: Source<'a>, length: u64, sum: u32) -> Option<Self> {
        Self::with_span(packed, length, sum, (length / MOST_PLACES).max(LEAST_SPAN))
    }

    fn with_span(packed: Source<'a>, length: u64, sum: u32, span: u64) -> Option<Self> {
        let first = Place { state: InflateState::new_boxed(DataFormat::Raw), read: 0 };
        let mut unpacking = Unpacking::at(&packed, first);
        let (mut places, mut found, mut done) = (Vec::new(), 0, 0);
        let mut bytes = Vec::new();
        while done < length {
            places.push(unpacking.place());
            bytes.resize(usize::try_from(span.min(length - done)).ok()?, 0);
            unpacking.fill(&mut bytes)?;
            found = checksum::<ZIP>(found, &bytes);
            done += bytes.len() as u64;
        }
        (unpacking.has_ended() && found == sum).then_some(())?;
        Some(Self { packed, length, span, places, kept: Mutex::default() })
    }

    /// Its number of bytes, unpacked.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// So many bytes from `start` on, nothing when they are not there.
    pub fn get(&self, start: u64, length: u64) -> Option<Vec<u8>> {
        let end = start.checked_add(length).filter(|end| *end <= self.length)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(usize::try_from(length).ok()?).ok()?;
        let mut at = start;
        while at < end {
            let index = usize::try_from(at / self.span).ok()?;
            let begin = index as u64 * self.span;
            let part = self.between(index)?;
            let stop = (end - begin).min(part.len() as u64);
            bytes.extend_from_slice(part.get(usize::try_from(at - begin).ok()?..usize::try_from(stop).ok()?)?);
            at = begin + stop;
        }
        Some(bytes)
    }

    /// What lies between a place and the next one.
    fn between(&self, index: usize) -> Option<Arc<Vec<u8>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = kept.iter().find(|(other, _)| *other == index) {
            return Some(Arc::clone(bytes));
        }
        let length = self.span.min(self.length.checked_sub(index as u64 * self.span)?);
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        Unpacking::at(&self.packed, self.places.get(index)?.clone()).fill(&mut bytes)?;
        let bytes = Arc::new(bytes);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((index, Arc::clone(&bytes)));
        Some(bytes)
    }
}

/// An unpacking that goes on from a place.
struct Unpacking<'s, 'a> {
    packed: &'s Source<'a>,
    state: Box<InflateState>,
    /// Packed bytes that were taken from the source; the last ones are held.
    read: u64,
    held: Vec<u8>,
    used: usize,
    ended: bool,
}

impl<'s, 'a> Unpacking<'s, 'a> {
    fn at(packed: &'s Source<'a>, place: Place) -> Self {
        Self { packed, state: place.state, read: place.read, held: Vec::new(), used: 0, ended: false }
    }

    fn place(&self) -> Place {
        Place { state: self.state.clone(), read: self.read - (self.held.len() - self.used) as u64 }
    }

    /// Fills all bytes; nothing when the packed ones are damaged or end before.
    fn fill(&mut self, bytes: &mut [u8]) -> Option<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            let count = self.step(&mut bytes[filled..])?;
            (count > 0 || !self.ended).then_some(())?;
            filled += count;
        }
        Some(())
    }

    /// Whether nothing follows.
    fn has_ended(&mut self) -> bool {
        let mut more = [0];
        while !self.ended {
            if self.step(&mut more) != Some(0) {
                return false;
            }
        }
        true
    }

    /// Unpacks some bytes, perhaps none.
    fn step(&mut self, bytes: &mut [u8]) -> Option<usize> {
        if self.ended {
            return Some(0);
        }
        if self.used == self.held.len() {
            let length = HELD.min(self.packed.len() - self.read);
            self.held = self.packed.get(self.read, length)?.into_owned();
            self.read += length;
            self.used = 0;
        }
        let result = inflate(&mut self.state, &self.held[self.used..], bytes, MZFlush::None);
        self.used += result.bytes_consumed;
        // Without progress it would go on for ever: the packed bytes are cut off.
        let is_stuck = result.bytes_consumed == 0 && result.bytes_written == 0;
        match result.status {
            Ok(MZStatus::StreamEnd) => self.ended = true,
            Ok(_) if !is_stuck => {}
            _ => return None,
        }
        Some(result.bytes_written)
    }
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::compress_to_vec;

    use super::*;

    fn content() -> Vec<u8> {
        (0..100_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8 & (index >> 9) as u8).collect()
    }

    #[test]
    fn ranges_are_those_of_what_was_packed() {
        let bytes = content();
        let sum = checksum::<ZIP>(0, &bytes);
        for level in [0, 1, 9] {
            let packed = compress_to_vec(&bytes, level);
            for span in [1000, 4096, 99_999, 100_000, 1 << 20] {
                let found = Deflated::with_span(Source::Bytes(&packed), bytes.len() as u64, sum, span).unwrap();
                for (start, length) in [(99_000, 1000), (0, 1), (999, 2), (12_345, 60_000), (100_000, 0), (0, 100_000)]
                {
                    assert_eq!(found.get(start as u64, length as u64).unwrap(), bytes[start..start + length]);
                }
                assert!(found.get(99_999, 2).is_none() && found.get(u64::MAX, 1).is_none());
            }
        }
        assert!(Deflated::new(Source::Bytes(&compress_to_vec(&[], 6)), 0, 0).is_some());
    }

    #[test]
    fn what_is_damaged_or_of_another_size_is_refused() {
        let bytes = content();
        let sum = checksum::<ZIP>(0, &bytes);
        let packed = compress_to_vec(&bytes, 6);
        let is_read = |packed: &[u8], length: usize, sum: u32| {
            Deflated::with_span(Source::Bytes(packed), length as u64, sum, 4096).is_some()
        };
        assert!(is_read(&packed, bytes.len(), sum));
        assert!(!is_read(&packed, bytes.len() - 1, checksum::<ZIP>(0, &bytes[..bytes.len() - 1])));
        assert!(!is_read(&packed, bytes.len() + 1, sum) && !is_read(&packed, bytes.len(), sum ^ 1));
        assert!(!is_read(&[], 1, 0) && !is_read(&[], 0, 0));
        for length in (0..packed.len()).step_by(packed.len() / 50) {
            assert!(!is_read(&packed[..length], bytes.len(), sum), "{length}");
        }
    }
}
