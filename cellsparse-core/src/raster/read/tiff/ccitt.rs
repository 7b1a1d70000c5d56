//! Bilevel rows of fax machines (ITU-T T.4 and T.6) to packed bits: white 0, black 1, rows on whole bytes.
//!
//! The tables of codes are those of the `fax` crate. Its own decoders know T.6 and one-dimensional T.4 with end-of-line
//! codes only.

use std::convert::Infallible;

use fax::maps::{Mode, black, mode, white};
use fax::{BitReader, ByteReader};

use super::super::{Decoded, Problem, buffer};

/// Rows of runs without any marker, each on a whole byte (TIFF compression 2).
pub(super) fn rows(data: &[u8], width: usize, rows: usize, size: usize) -> Decoded<Vec<u8>> {
    let mut bits = Bits::new(data);
    paint(width, rows, size, |_| {
        let row = bits.runs(width)?;
        bits.align();
        Some(row)
    })
}

/// T.4 (TIFF compression 3): rows behind end-of-line codes; in the two-dimensional form a bit says how each is coded.
pub(super) fn fax3(data: &[u8], width: usize, rows: usize, size: usize, two_dimensional: bool) -> Decoded<Vec<u8>> {
    let mut bits = Bits::new(data);
    paint(width, rows, size, |above| {
        let ended = bits.skip_end_of_line();
        if !two_dimensional || (ended && bits.bit()?) { bits.runs(width) } else { bits.modes(width, above) }
    })
}

/// T.6 (TIFF compression 4): every row relative to the one above.
pub(super) fn fax4(data: &[u8], width: usize, rows: usize, size: usize) -> Decoded<Vec<u8>> {
    let mut bits = Bits::new(data);
    paint(width, rows, size, |above| bits.modes(width, above))
}

/// Paints the rows that `next` gives as columns where the colour changes, beginning with white; `next` gets those of
/// the row above. Rows that are missing at the end are not made up.
fn paint(
    width: usize,
    rows: usize,
    size: usize,
    mut next: impl FnMut(&[usize]) -> Option<Vec<usize>>,
) -> Decoded<Vec<u8>> {
    let row_bytes = width.div_ceil(8);
    if size != row_bytes.saturating_mul(rows) {
        return Err(Problem::unusable("the TIFF has fax rows of an unusual size; save it uncompressed"));
    }
    let mut out = buffer(size)?;
    let mut above = Vec::new();
    for (y, row) in out.chunks_exact_mut(row_bytes).enumerate() {
        let Some(changes) = next(&above) else {
            out.truncate(y * row_bytes);
            return Ok(out);
        };
        for pair in changes.chunks(2) {
            let end = pair.get(1).copied().unwrap_or(width);
            for x in pair[0]..end.min(width) {
                row[x / 8] |= 0x80 >> (x % 8);
            }
        }
        above = changes;
    }
    Ok(out)
}

type Bytes<'a> = std::iter::Map<
    std::iter::Chain<std::iter::Copied<std::slice::Iter<'a, u8>>, std::iter::RepeatN<u8>>,
    fn(u8) -> Result<u8, Infallible>,
>;

struct Bits<'a>(Option<ByteReader<Bytes<'a>>>);

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        // Codes are looked up by more bits than they have, so the last one needs some behind it.
        let padded = data.iter().copied().chain(std::iter::repeat_n(0, 4));
        let bytes: Bytes<'a> = padded.map(Ok as fn(u8) -> Result<u8, Infallible>);
        Self(ByteReader::new(bytes).ok())
    }

    fn bit(&mut self) -> Option<bool> {
        let reader = self.0.as_mut()?;
        let bit = reader.peek(1)? == 1;
        reader.consume(1).ok()?;
        Some(bit)
    }

    fn align(&mut self) {
        if let Some(reader) = self.0.as_mut() {
            let _ = reader.consume(reader.bits_to_byte_boundary());
        }
    }

    /// Skips an end-of-line code (at least eleven 0, then 1) with its fill bits, and says whether there was one.
    fn skip_end_of_line(&mut self) -> bool {
        let Some(reader) = self.0.as_mut() else { return false };
        // No code of a run or mode starts with nine zeros.
        if reader.peek(9) != Some(0) {
            return false;
        }
        while reader.peek(1) == Some(0) {
            let _ = reader.consume(1);
        }
        let _ = reader.consume(1);
        true
    }

    /// The length of one run.
    fn run(&mut self, is_black: bool) -> Option<usize> {
        let reader = self.0.as_mut()?;
        let mut sum = 0usize;
        loop {
            let part = if is_black { black::decode(reader) } else { white::decode(reader) }?;
            sum += usize::from(part);
            if part < 64 {
                return Some(sum);
            }
            if sum > 1 << 30 {
                return None;
            }
        }
    }

    /// A row of runs, white first.
    fn runs(&mut self, width: usize) -> Option<Vec<usize>> {
        let (mut at, mut is_black, mut changes) = (0usize, false, Vec::new());
        while at < width {
            at = at.checked_add(self.run(is_black)?)?.min(width);
            changes.push(at);
            is_black = !is_black;
        }
        Some(changes)
    }

    /// A row relative to the one above it.
    fn modes(&mut self, width: usize, above: &[usize]) -> Option<Vec<usize>> {
        // `at` is the place from which the row is still open; before its first code this is left of the first pixel.
        let (mut at, mut started, mut is_black) = (0usize, false, false);
        let mut changes: Vec<usize> = Vec::new();
        let mut first = 0usize;
        while at < width {
            // The next change of the row above to the other colour, right of `at`, which only ever moves to the right.
            while above.get(first).is_some_and(|&change| change < at || (change == at && started)) {
                first += 1;
            }
            let index = if first % 2 == usize::from(is_black) { first } else { first + 1 };
            let below = above.get(index).copied().unwrap_or(width).min(width);
            match mode::decode(self.0.as_mut()?)? {
                Mode::Pass => at = above.get(index + 1).copied().unwrap_or(width).min(width),
                Mode::Vertical(shift) => {
                    let change = below.checked_add_signed(isize::from(shift))?.min(width);
                    if change < at {
                        return None;
                    }
                    changes.push(change);
                    (at, is_black) = (change, !is_black);
                }
                Mode::Horizontal => {
                    for color in [is_black, !is_black] {
                        at = at.checked_add(self.run(color)?)?.min(width);
                        changes.push(at);
                    }
                }
                Mode::Extension | Mode::EOF => return None,
            }
            started = true;
        }
        Some(changes)
    }
}
