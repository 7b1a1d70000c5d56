//! Networks laid out in memory, kept between predictions.

use std::sync::Mutex;

use crate::networks::{Device, Engine};

/// Engines that are not in use, by shape and device. Cleared when the weights change.
#[derive(Debug, Default)]
pub(super) struct Engines(Mutex<Vec<(Key, Engine)>>);

type Key = ([usize; 3], String);

/// Engines kept at most; each holds the maps of one image.
const KEPT: usize = 2;

impl Engines {
    /// An engine for that shape with the current weights, if one is free.
    pub fn take(&self, shape: [usize; 3], device: &Device) -> Option<Engine> {
        let mut engines = self.0.lock().ok()?;
        let key = key(shape, device);
        let found = engines.iter().position(|(other, _)| *other == key)?;
        Some(engines.swap_remove(found).1)
    }

    /// Keeps an engine for later.
    pub fn put(&self, shape: [usize; 3], device: &Device, engine: Engine) {
        if let Ok(mut engines) = self.0.lock() {
            if engines.len() >= KEPT {
                engines.remove(0);
            }
            engines.push((key(shape, device), engine));
        }
    }

    /// Forgets all engines.
    pub fn clear(&self) {
        if let Ok(mut engines) = self.0.lock() {
            engines.clear();
        }
    }
}

fn key(shape: [usize; 3], device: &Device) -> Key {
    (shape, device.location())
}
