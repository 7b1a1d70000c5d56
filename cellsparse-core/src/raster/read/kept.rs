//! Decoded pieces of a file, of which those that were used last are kept.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::Decoded;

/// What takes memory.
pub(super) trait Bytes {
    /// Bytes that it takes.
    fn bytes(&self) -> usize;
}

impl Bytes for Vec<u8> {
    fn bytes(&self) -> usize {
        self.len()
    }
}

/// Pieces by their places.
pub(super) struct Kept<K, V> {
    pieces: HashMap<K, (u64, Arc<V>)>,
    bytes: usize,
    most: usize,
    /// Bytes that are kept even where `most` is less.
    at_least: usize,
    uses: u64,
}

impl<K: Eq + Hash + Copy, V: Bytes> Kept<K, V> {
    /// Keeps so many bytes, and one piece at least.
    pub(super) fn new(most: usize) -> Self {
        Self { pieces: HashMap::new(), bytes: 0, most, at_least: 0, uses: 0 }
    }

    /// Keeps at least so many bytes from now on.
    pub(super) fn keep_at_least(&mut self, bytes: usize) {
        self.at_least = self.at_least.max(bytes);
    }

    /// The piece of that place, decoded if it is not kept; `None`, which is not kept, when decoding gives nothing.
    pub(super) fn get(&mut self, key: K, decode: impl FnOnce() -> Decoded<Option<V>>) -> Decoded<Option<Arc<V>>> {
        self.uses += 1;
        if let Some((used, piece)) = self.pieces.get_mut(&key) {
            *used = self.uses;
            return Ok(Some(Arc::clone(piece)));
        }
        let Some(piece) = decode()? else { return Ok(None) };
        let piece = Arc::new(piece);
        self.bytes += piece.bytes();
        self.pieces.insert(key, (self.uses, Arc::clone(&piece)));
        while self.bytes > self.most.max(self.at_least) && self.pieces.len() > 1 {
            let Some(oldest) = self.pieces.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key) else {
                break;
            };
            if let Some((_, piece)) = self.pieces.remove(&oldest) {
                self.bytes -= piece.bytes();
            }
        }
        Ok(Some(piece))
    }
}
