use ndarray::{Array2, array};

use super::*;
use crate::random::Random;

/// The rules of the module in their plainest form: one heap for everything.
fn plain(landscape: &Array2<f64>, markers: &LabelImage, mask: &Array2<bool>, eight: bool) -> LabelImage {
    let (height, width) = landscape.dim();
    let mut labels = LabelImage::zeros((height, width));
    let mut heap = LiteralHeap::with_capacity(0);
    for ((y, x), &marker) in markers.indexed_iter() {
        if marker > 0 && mask[[y, x]] {
            labels[[y, x]] = marker;
            heap.push(landscape[[y, x]].key(), 0, (y * width + x) as u32);
        }
    }
    let mut steps = vec![(-1, 0), (0, -1), (0, 1), (1, 0)];
    if eight {
        steps.extend([(-1, -1), (-1, 1), (1, -1), (1, 1)]);
    }
    let mut age = 1;
    while let Some((level, at)) = heap.pop_up_to(u64::MAX) {
        let (y, x) = (at as usize / width, at as usize % width);
        for (dy, dx) in &steps {
            let (v, u) = (y.wrapping_add_signed(*dy), x.wrapping_add_signed(*dx));
            if v < height && u < width && mask[[v, u]] && labels[[v, u]] == 0 {
                labels[[v, u]] = labels[[y, x]];
                age += 1;
                heap.push(landscape[[v, u]].key().max(level), age, (v * width + u) as u32);
            }
        }
    }
    labels
}

#[test]
fn two_queues_flood_like_one_heap() {
    let mut random = Random::new(8, 0);
    for case in 0..60 {
        let shape = (1 + random.below(40), 1 + random.below(40));
        // From two levels, where nearly all markers are tied, to levels that are all different.
        let levels = [2, 5, 30, 1000, 1 << 30][case % 5];
        let landscape = Array2::from_shape_simple_fn(shape, || random.below(levels) as f64 - 1.0);
        let markers =
            Array2::from_shape_simple_fn(shape, || if random.chance(0.05) { 1 + random.below(9) as i32 } else { 0 });
        let mask = Array2::from_shape_simple_fn(shape, || random.chance(0.8));
        for connectivity in [Connectivity::Four, Connectivity::Eight] {
            let found = watershed(landscape.view(), markers.view(), Some(mask.view()), connectivity).unwrap();
            let expected = plain(&landscape, &markers, &mask, connectivity == Connectivity::Eight);
            assert_eq!(found, expected, "case {case} {connectivity:?}");
            let narrow = landscape.mapv(|level| level as i32);
            let found = watershed(narrow.view(), markers.view(), Some(mask.view()), connectivity).unwrap();
            assert_eq!(found, expected, "case {case} {connectivity:?} as integers");
        }
    }
}

#[test]
fn odd_inputs_have_an_answer() {
    let four = Connectivity::Four;
    for shape in [(0, 0), (0, 5), (5, 0)] {
        let found = watershed(Array2::<f32>::zeros(shape).view(), LabelImage::zeros(shape).view(), None, four);
        assert_eq!(found.unwrap().dim(), shape);
    }
    let flat = Array2::<u8>::zeros((3, 4));
    let none = LabelImage::zeros((3, 4));
    assert_eq!(watershed(flat.view(), none.view(), None, four).unwrap(), none);
    let mut one = none.clone();
    one[[1, 2]] = 7;
    assert_eq!(watershed(flat.view(), one.view(), None, four).unwrap(), LabelImage::from_elem((3, 4), 7));
    let masked = Array2::from_elem((3, 4), false);
    assert_eq!(watershed(flat.view(), one.view(), Some(masked.view()), four).unwrap(), none);
    assert_eq!(watershed(array![[0u16]].view(), array![[5]].view(), None, four).unwrap(), array![[5]]);
    // Unlabelled pixels are not markers.
    assert_eq!(watershed(flat.view(), one.mapv(|id| id.min(0) - 1).view(), None, four).unwrap(), none);
    assert!(watershed(flat.view(), LabelImage::zeros((4, 3)).view(), None, four).is_err());
    assert!(watershed(flat.view(), one.view(), Some(Array2::from_elem((3, 5), true).view()), four).is_err());
}

#[test]
fn values_that_are_not_numbers_are_flooded_last() {
    let landscape = array![[0.0, f64::NAN, f64::INFINITY, -0.0, 0.0, f64::NEG_INFINITY]];
    let markers = array![[1, 0, 0, 0, 0, 2]];
    let found = watershed(landscape.view(), markers.view(), None, Connectivity::Four).unwrap();
    // The second region reaches its side of the NaN at an infinite level, the first one comes to it at level 0.
    assert_eq!(found, array![[1, 1, 2, 2, 2, 2]]);
    let landscape = landscape.mapv(|level| level as f32);
    assert_eq!(watershed(landscape.view(), markers.view(), None, Connectivity::Four).unwrap(), found);
    assert_eq!((-0.0f32).key(), 0.0f32.key());
    assert!((-1.0f64).key() < 0.0f64.key() && f64::NEG_INFINITY.key() < (-1e300f64).key());
    assert!(f32::INFINITY.key() < f32::NAN.key() && (-1i32).key() < 0i32.key());
}
