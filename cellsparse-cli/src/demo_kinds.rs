//! Other cells than nuclei in the demo: of one drawn field each, one half is annotated and the other one segmented.

use cellsparse_core::annotations::SparseLabels;
use cellsparse_core::model::Algorithm;
use cellsparse_core::synthetic::{
    AnnotationOptions, Field, World, WorldChannels, WorldKind, WorldOptions, annotate, draw_world,
};
use cellsparse_core::{Image, LabelImage, Result};
use ndarray::{Array3, Slice};

use crate::demo_data::{Annotated, DemoData, Unseen};

/// Optimiser steps for each of them, at most.
pub const STEPS: usize = 50;

/// Side of a half in pixels.
const SIDE: usize = 256;

/// Each half shows at least so many cells.
const FEWEST: usize = 12;

/// Fields that are drawn at most until one has enough cells in both halves.
const TRIES: u64 = 40;

/// A kind of cells that the demo shows beside nuclei.
pub struct Kind {
    /// One word for files.
    pub name: &'static str,
    /// What people see above the pictures.
    pub title: &'static str,
    /// What is trained unless the user names another one.
    pub algorithm: Algorithm,
    world: WorldKind,
    channels: WorldChannels,
    diameter: [f32; 2],
}

/// The kinds, in the order in which they are shown.
pub const KINDS: [Kind; 2] = [
    Kind {
        name: "bacteria",
        title: "Bacteria",
        algorithm: Algorithm::Cellpose,
        world: WorldKind::Bacteria,
        channels: WorldChannels::Grey,
        diameter: [14.0, 20.0],
    },
    Kind {
        name: "tissue",
        title: "Stained tissue",
        algorithm: Algorithm::Stardist,
        world: WorldKind::Tissue,
        channels: WorldChannels::Colour,
        diameter: [18.0, 26.0],
    },
];

impl Kind {
    /// Draws a field and annotates its left half: `NAME_annotated` and `NAME_unseen`.
    pub fn draw(&self, seed: u64) -> Result<DemoData> {
        let (left, right) = self.halves(seed)?;
        let labels = SparseLabels::from_signed(annotate(&left, &AnnotationOptions::default(), seed))?;
        Ok(DemoData {
            annotated: vec![Annotated { name: format!("{}_annotated", self.name), image: left.image, labels }],
            annotated_truth: vec![left.truth],
            unseen: vec![Unseen {
                name: format!("{}_unseen", self.name),
                image: right.image,
                truth: Some(right.truth),
            }],
            source: None,
            same_images: false,
        })
    }

    /// The halves of the first field that shows enough cells in both, or of the last one.
    fn halves(&self, seed: u64) -> Result<(Field, Field)> {
        let mut options = WorldOptions::default();
        options.size = [SIDE, 2 * SIDE];
        options.kinds = vec![self.world];
        options.channels = self.channels;
        options.diameter = self.diameter;
        let mut number = 0;
        loop {
            let world = draw_world(&options, seed.wrapping_mul(1_000_003).wrapping_add(number))?;
            let halves = (half(&world, 0)?, half(&world, SIDE)?);
            number += 1;
            if number == TRIES || (count(&halves.0.truth) >= FEWEST && count(&halves.1.truth) >= FEWEST) {
                return Ok(halves);
            }
        }
    }
}

/// [`SIDE`] columns of a world, with 8 bits a sample.
fn half(world: &World, first: usize) -> Result<Field> {
    let columns = Slice::from(first..first + SIDE);
    let samples = eight_bits(&world.image);
    let image = samples.slice_axis(ndarray::Axis(1), columns).to_owned();
    Field::new(Image::U8(image), world.labels.slice_axis(ndarray::Axis(1), columns).to_owned())
}

/// The samples between the smallest and the largest one, as 0 to 255.
fn eight_bits(image: &Image) -> Array3<u8> {
    let samples = image.to_f32();
    let low = samples.iter().copied().fold(f32::INFINITY, f32::min);
    let high = samples.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    samples.mapv(|value| ((value - low) / (high - low).max(1e-6) * 255.0).round() as u8)
}

fn count(labels: &LabelImage) -> usize {
    labels.iter().filter(|label| **label > 0).collect::<std::collections::BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_shows_cells_in_both_halves_and_annotates_one() {
        for kind in &KINDS {
            let data = kind.draw(3).unwrap();
            let truth = data.unseen[0].truth.as_ref().unwrap();
            assert!(count(truth) >= FEWEST && count(&data.annotated_truth[0]) >= FEWEST, "{}", kind.name);
            assert_eq!(data.cells(), 6, "{}", kind.name);
            assert!(data.labelled() > 0.005 && data.labelled() < 0.3, "{}", kind.name);
            let (image, labels) = (&data.annotated[0].image, data.annotated[0].labels.labels());
            assert_eq!((image.height(), image.width()), labels.dim());
            for (drawn, truth) in labels.iter().zip(&data.annotated_truth[0]) {
                assert!(*drawn < 0 || drawn == truth, "{}", kind.name);
            }
        }
    }
}
