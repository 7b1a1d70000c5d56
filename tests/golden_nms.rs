//! Suppression and drawing of star-convex polygons against recorded results of StarDist.

mod common;

use cellsparse_core::geometry::{Outline, Overlap, polygon};
use cellsparse_core::postprocess::StarCandidates;
use cellsparse_core::postprocess::nms::{integer_outline, non_maximum_suppression};
use common::Fixture;
use ndarray::{Array1, Array2, Array3, ArrayD, Ix1, Ix2, Ix3};

fn f1(fixture: &Fixture, name: &str) -> Array1<f32> {
    fixture.f32(name).into_dimensionality::<Ix1>().unwrap()
}

fn f2(fixture: &Fixture, name: &str) -> Array2<f32> {
    fixture.f32(name).into_dimensionality::<Ix2>().unwrap()
}

fn f3(fixture: &Fixture, name: &str) -> Array3<f32> {
    fixture.f32(name).into_dimensionality::<Ix3>().unwrap()
}

fn points(array: ArrayD<i32>) -> Vec<[i32; 2]> {
    array.outer_iter().map(|row| [row[0], row[1]]).collect()
}

/// The names before `suffix`, of all tensors that begin with `prefix`.
fn cases(fixture: &Fixture, prefix: &str, suffix: &str) -> Vec<String> {
    let names = fixture.names();
    names
        .iter()
        .filter(|name| name.starts_with(prefix))
        .filter_map(|name| name.strip_suffix(suffix))
        .map(String::from)
        .collect()
}

fn sparse(fixture: &Fixture, case: &str) -> StarCandidates {
    StarCandidates {
        points: points(fixture.i32(&format!("{case}.points"))),
        prob: f1(fixture, &format!("{case}.prob")).to_vec(),
        dist: f2(fixture, &format!("{case}.dist")),
    }
}

#[test]
fn areas_of_single_polygons_are_exact() {
    for fixture in common::fixture_and_real("stardist/nms") {
        for case in cases(&fixture, "sparse_", ".area") {
            let list = sparse(&fixture, &case);
            for (k, &expected) in f1(&fixture, &format!("{case}.area")).iter().enumerate() {
                let outline = integer_outline(list.points[k], list.dist.row(k));
                let area = 0.5 * polygon::doubled_area(&outline).unsigned_abs() as f32;
                assert_eq!(area, expected, "{case} {k}");
            }
        }
    }
}

#[test]
fn overlaps_of_pairs_are_exact() {
    for fixture in common::fixture_and_real("stardist/nms") {
        for case in cases(&fixture, "sparse_", ".pairs") {
            let list = sparse(&fixture, &case);
            let vertices: Vec<_> = (0..list.len()).map(|k| integer_outline(list.points[k], list.dist.row(k))).collect();
            let outlines: Vec<_> = vertices.iter().map(|vertices| Outline::new(vertices)).collect();
            let areas = f1(&fixture, &format!("{case}.area"));
            let expected = f1(&fixture, &format!("{case}.pair_overlap"));
            let mut overlap = Overlap::default();
            let mut wrong = Vec::new();
            for (pair, &expected) in points(fixture.i32(&format!("{case}.pairs"))).iter().zip(&expected) {
                let [i, j] = pair.map(|k| k as usize);
                let shared = overlap.area(&outlines[i], &outlines[j]);
                let share = (f64::from(shared) / (f64::from(areas[i].min(areas[j])) + 1e-10)) as f32;
                if (share - expected).abs() > 1e-6 {
                    wrong.push((i, j, share, expected));
                }
            }
            println!("{case}: {} pairs, {} differ", expected.len(), wrong.len());
            assert!(wrong.is_empty(), "{case}: {} of {}: {wrong:?}", wrong.len(), expected.len());
        }
    }
}

#[test]
fn survivors_of_lists_are_exact() {
    for fixture in common::fixture_and_real("stardist/nms") {
        for case in cases(&fixture, "sparse_", ".dist") {
            let list = sparse(&fixture, &case);
            for percent in [10, 30, 40, 50, 80] {
                let keep = fixture.i32(&format!("{case}.keep_n{percent}"));
                let expected: Vec<usize> =
                    keep.iter().enumerate().filter(|(_, keep)| **keep != 0).map(|(k, _)| k).collect();
                let kept = non_maximum_suppression(&list, percent as f32 / 100.0).unwrap();
                assert_eq!(kept, expected, "{case} at {percent}");
            }
        }
    }
}
