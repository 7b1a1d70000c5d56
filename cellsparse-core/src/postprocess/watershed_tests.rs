use ndarray::{Array2, array};

use super::*;
use crate::geometry::distance::distance_transform_edt;
use crate::random::Random;

/// The rules of the reference in their plainest form: one binary heap for everything, whose items are swapped.
fn plain(elevation: &Array2<f64>, markers: &LabelImage, mask: &Array2<bool>, eight: bool) -> LabelImage {
    let (height, width) = elevation.dim();
    let mut labels = LabelImage::zeros((height, width));
    let mut heap: Vec<(f64, u32, (usize, usize))> = Vec::new();
    let smaller = |a: &(f64, u32, (usize, usize)), b: &(f64, u32, (usize, usize))| (a.0, a.1) < (b.0, b.1);
    let push = |heap: &mut Vec<(f64, u32, (usize, usize))>, item| {
        heap.push(item);
        let mut at = heap.len() - 1;
        while at > 0 && smaller(&heap[at], &heap[(at - 1) / 2]) {
            heap.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    };
    for (at, &marker) in markers.indexed_iter() {
        if marker > 0 && mask[at] {
            labels[at] = marker;
            push(&mut heap, (elevation[at], 0, at));
        }
    }
    let mut steps = vec![(-1, 0), (0, -1), (0, 1), (1, 0)];
    if eight {
        steps.extend([(-1, -1), (-1, 1), (1, -1), (1, 1)]);
    }
    let mut age = 1;
    while !heap.is_empty() {
        let (level, _, (y, x)) = heap.swap_remove(0);
        let mut at = 0;
        loop {
            let mut smallest = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < heap.len() && smaller(&heap[child], &heap[smallest]) {
                    smallest = child;
                }
            }
            if smallest == at {
                break;
            }
            heap.swap(at, smallest);
            at = smallest;
        }
        for (dy, dx) in &steps {
            let next = (y.wrapping_add_signed(*dy), x.wrapping_add_signed(*dx));
            if next.0 < height && next.1 < width && mask[next] && labels[next] == 0 {
                labels[next] = labels[[y, x]];
                age += 1;
                push(&mut heap, (elevation[next].max(level), age, next));
            }
        }
    }
    labels
}

/// Compares every way of flooding with the plain one.
fn compare(elevation: &Array2<f64>, markers: &LabelImage, mask: &Array2<bool>, case: &str) {
    for connectivity in [Connectivity::Four, Connectivity::Eight] {
        let expected = plain(elevation, markers, mask, connectivity == Connectivity::Eight);
        let (mask, markers) = (Some(mask.view()), markers.view());
        let found = watershed(elevation.view(), markers, mask, connectivity).unwrap();
        assert_eq!(found, expected, "{case} {connectivity:?}");
        let found = flood_many_levels(elevation.view(), markers, mask, connectivity, &CancelToken::new()).unwrap();
        assert_eq!(found, expected, "{case} {connectivity:?}, many levels");
        let grey_levels = GreyLevels::new(elevation.view(), markers, mask, connectivity).unwrap().unwrap();
        assert_eq!(grey_levels.flood_wide().unwrap(), expected, "{case} {connectivity:?}, wide items in the heap");
        let narrow = elevation.mapv(|level| level as i32);
        if narrow.mapv(f64::from) == *elevation {
            let found = watershed(narrow.view(), markers, mask, connectivity).unwrap();
            assert_eq!(found, expected, "{case} {connectivity:?} as integers");
        }
    }
}

#[test]
fn all_queues_flood_like_one_heap() {
    let mut random = Random::new(8, 0);
    for case in 0..60 {
        let shape = (1 + random.below(40), 1 + random.below(40));
        // From two levels, where nearly all markers are tied, to levels that are all different.
        let levels = [2, 5, 30, 1000, 1 << 30][case % 5];
        let elevation = Array2::from_shape_simple_fn(shape, || random.below(levels) as f64 - 1.0);
        let markers =
            Array2::from_shape_simple_fn(shape, || if random.chance(0.05) { 1 + random.below(9) as i32 } else { 0 });
        let mask = Array2::from_shape_simple_fn(shape, || random.chance(0.8));
        compare(&elevation, &markers, &mask, &format!("case {case}"));
    }
}

#[test]
fn tied_markers_on_distances_and_plateaus_flood_like_one_heap() {
    let mut random = Random::new(9, 0);
    for case in 0..12 {
        let side = 60 + random.below(80);
        let circles: Vec<[f64; 3]> = (0..side / 4)
            .map(|_| [random.uniform(0.0, side as f64), random.uniform(0.0, side as f64), random.uniform(3.0, 12.0)])
            .collect();
        let mask = Array2::from_shape_fn((side, side), |(y, x)| {
            circles.iter().any(|[v, u, radius]| (y as f64 - v).hypot(x as f64 - u) < *radius)
        });
        let distances = distance_transform_edt(mask.view());
        // Distances, wide plateaus made of them, and a plain with a few pits.
        let elevation = match case % 3 {
            0 => distances.mapv(|distance| -distance),
            1 => distances.mapv(|distance| -(distance / 2.5).floor()),
            _ => distances.mapv(|_| if random.chance(0.01) { -1.0 } else { 0.0 }),
        };
        let mut id = 0;
        let markers = Array2::from_shape_simple_fn((side, side), || {
            let marked = random.chance([0.002, 0.02, 0.2][case / 4]);
            id += i32::from(marked);
            if marked { id } else { 0 }
        });
        compare(&elevation, &markers, &mask, &format!("case {case}"));
        let everywhere = Array2::from_elem((side, side), true);
        compare(&elevation.mapv(f64::abs), &markers, &everywhere, &format!("case {case} without a mask"));
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
    let elevation = array![[0.0, f64::NAN, f64::INFINITY, -0.0, 0.0, f64::NEG_INFINITY]];
    let markers = array![[1, 0, 0, 0, 0, 2]];
    let found = watershed(elevation.view(), markers.view(), None, Connectivity::Four).unwrap();
    // The second region reaches its side of the NaN at an infinite level, the first one comes to it at level 0.
    assert_eq!(found, array![[1, 1, 2, 2, 2, 2]]);
    let elevation = elevation.mapv(|level| level as f32);
    assert_eq!(watershed(elevation.view(), markers.view(), None, Connectivity::Four).unwrap(), found);
    assert_eq!((-0.0f32).key(), 0.0f32.key());
    assert!((-1.0f64).key() < 0.0f64.key() && f64::NEG_INFINITY.key() < (-1e300f64).key());
    assert!(f32::INFINITY.key() < f32::NAN.key() && (-1i32).key() < 0i32.key());
}
