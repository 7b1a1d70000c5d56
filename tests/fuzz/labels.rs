//! Label images of every kind.

use cellsparse_core::annotations::{Dataset, LabelEncoding, SparseLabels, background_rim};
use cellsparse_core::model::Normalization;
use cellsparse_core::pseudo_labels::add_pseudo_labels;
use cellsparse_core::random::Random;
use cellsparse_core::raster::{Image, RawLabels};
use ndarray::{Array2, Array3};

use crate::fuzz;
use crate::readers::refused;

fn values(random: &mut Random, shape: (usize, usize)) -> Array2<i64> {
    let largest = [1, 3, 20, 70_000, i64::from(u32::MAX)][random.below(5)];
    let coarse = Array2::from_shape_simple_fn((8, 8), || random.uniform(-1.0, largest as f64 + 0.99) as i64);
    let noise = random.uniform(0.0, 0.3);
    Array2::from_shape_fn(shape, |(y, x)| {
        if random.chance(noise) {
            random.uniform(-2.0, largest as f64 + 0.99) as i64
        } else {
            coarse[[y / 5 % 8, x / 5 % 8]]
        }
    })
}

#[test]
fn labels_are_parsed_or_refused_and_completed_without_change() {
    fuzz("labels", 200, |random| {
        let shape = (random.below(40), random.below(40));
        let values = values(random, shape);
        let raw = match random.below(2) {
            0 => RawLabels::Unsigned(values.mapv(|value| value.max(0) as u32)),
            _ => RawLabels::Signed(values.mapv(|value| value.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)),
        };
        let encodings = [
            LabelEncoding::Auto,
            LabelEncoding::Wire,
            LabelEncoding::Dense,
            LabelEncoding::Signed,
            LabelEncoding::Cells,
        ];
        let labels = match SparseLabels::parse(raw, encodings[random.below(5)]) {
            Ok(labels) => labels,
            Err(error) => return refused(&error),
        };
        let pixels: usize = labels.areas().values().sum();
        if pixels != labels.labels().iter().filter(|label| **label > 0).count() {
            return Err(format!("{pixels} pixels of objects"));
        }
        let image = Array3::from_shape_fn((shape.0, shape.1, 1), |(y, x, _)| {
            labels.labels()[[y, x]].clamp(-1, 1) as f32 + random.uniform(0.0, 0.5) as f32
        });
        let drawn = background_rim(labels.labels(), random.below(4)).unwrap();
        let completed = add_pseudo_labels(image.view(), &drawn, 1);
        if drawn.iter().zip(&completed).any(|(old, new)| *old >= 0 && old != new) {
            return Err("what was drawn was changed".into());
        }
        match Dataset::new(vec![Image::F32(image)], vec![labels]) {
            Ok(_) => Ok(true),
            Err(error) => refused(&error),
        }
    });
}

/// Intensities at which sums and quotients go wrong.
const INTENSITIES: [f32; 10] = [0.0, 1.0, -1.0, 1e8, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-44, 65_535.0, f32::NAN];

#[test]
fn scaled_intensities_are_finite() {
    fuzz("intensities", 300, |random| {
        let shape = (random.below(9), random.below(9), 1 + random.below(4));
        let odd = random.uniform(0.0, 0.5);
        let few = if random.chance(0.8) { INTENSITIES.len() - 1 } else { INTENSITIES.len() };
        let image = Array3::from_shape_simple_fn(shape, || {
            if random.chance(odd) { INTENSITIES[random.below(few)] } else { random.uniform(0.0, 200.0) as f32 }
        });
        let limits = [(1.0, 99.8), (0.0, 100.0), (50.0, 50.1)][random.below(3)];
        match (Normalization { pmin: limits.0, pmax: limits.1 }).apply(&Image::F32(image)) {
            Ok(scaled) => match scaled.iter().find(|value| !value.is_finite()) {
                Some(value) => Err(format!("{value} among the scaled intensities")),
                None => Ok(true),
            },
            Err(error) => refused(&error),
        }
    });
}
