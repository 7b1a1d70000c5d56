//! Suppression and drawing of star-convex polygons against recorded results of StarDist.

use cellsparse_tests as common;

use cellsparse_core::geometry::{IntegerPolygon, Overlap, polygon};
use cellsparse_core::postprocess::clean::remove_small_labels_as_reference;
use cellsparse_core::postprocess::nms::{integer_outline, non_maximum_suppression, non_maximum_suppression_dense};
use cellsparse_core::postprocess::stars::{coord_to_label, dist_to_coord, polygons_to_label};
use cellsparse_core::postprocess::{BORDER, StarCandidates, candidates};
use common::Fixture;
use ndarray::{Array1, Array2, Array3, ArrayD, Axis, Ix1, Ix2, Ix3};

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
            let outlines: Vec<_> = vertices.iter().map(|vertices| IntegerPolygon::new(vertices)).collect();
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

#[test]
fn dense_maps_give_the_recorded_objects() {
    for fixture in common::fixture_and_real("stardist/nms") {
        for case in cases(&fixture, "dense_", ".dist") {
            let prob = f2(&fixture, &format!("{case}.prob"));
            let dist = f3(&fixture, &format!("{case}.dist"));
            let grid = if case.ends_with("g22") { [2, 2] } else { [1, 1] };
            let sorted = candidates(prob.view(), dist.view(), grid, 0.5, BORDER).unwrap().sorted().unwrap();
            let expected = points(fixture.i32(&format!("{case}.cand_p50_sorted_points")));
            assert_eq!(sorted.points, expected, "{case}");
            for result in cases(&fixture, &format!("{case}.p"), ".points") {
                let (p, n) = result.rsplit_once(".p").unwrap().1.split_once("_n").unwrap();
                let thresholds = [p, n].map(|percent| percent.parse::<f32>().unwrap() / 100.0);
                let found =
                    non_maximum_suppression_dense(prob.view(), dist.view(), grid, BORDER, thresholds[0], thresholds[1])
                        .unwrap();
                assert_eq!(found.points, points(fixture.i32(&format!("{result}.points"))), "{result}");
                assert_eq!(found.prob, f1(&fixture, &format!("{result}.prob")).to_vec(), "{result}");
                check_drawing(&fixture, &found, &result);
            }
        }
    }
}

#[test]
fn survivors_of_lists_are_drawn_as_recorded() {
    for fixture in common::fixture_and_real("stardist/nms") {
        for case in cases(&fixture, "sparse_", ".n40.coord") {
            let list = sparse(&fixture, &case);
            let kept = non_maximum_suppression(&list, 0.4).unwrap();
            let expected: Vec<usize> =
                fixture.i32(&format!("{case}.n40.kept_index")).iter().map(|&k| k as usize).collect();
            assert_eq!(kept, expected, "{case}");
            check_drawing(&fixture, &list.select(&kept).unwrap(), &format!("{case}.n40"));
        }
    }
}

fn real_points(points: &[[i32; 2]]) -> Vec<[f64; 2]> {
    points.iter().map(|point| point.map(f64::from)).collect()
}

/// Compares `<name>.coord` and, if recorded, `<name>.labels`.
fn check_drawing(fixture: &Fixture, found: &StarCandidates, name: &str) {
    let coord = dist_to_coord(found.dist.view(), &real_points(&found.points), [1.0, 1.0]).unwrap();
    assert_eq!(coord, f3(fixture, &format!("{name}.coord")), "{name}");
    if fixture.has(&format!("{name}.labels")) {
        let expected = labels(fixture, &format!("{name}.labels"));
        let (h, w) = expected.dim();
        assert_eq!(coord_to_label(coord.view(), [h, w], Some(&found.prob)).unwrap(), expected, "{name}");
    }
}

fn labels(fixture: &Fixture, name: &str) -> Array2<i32> {
    fixture.i32(name).into_dimensionality::<Ix2>().unwrap()
}

#[test]
fn label_images_are_drawn_as_recorded() {
    let fixture = common::fixture("stardist/render");
    for case in cases(&fixture, "", ".dist") {
        let dist = f2(&fixture, &format!("{case}.dist"));
        let prob = f1(&fixture, &format!("{case}.prob")).to_vec();
        let points = real_points(&points(fixture.i32(&format!("{case}.points"))));
        let coord = dist_to_coord(dist.view(), &points, [1.0, 1.0]).unwrap();
        assert_eq!(coord, f3(&fixture, &format!("{case}.coord")), "{case}");
        let draw = |points: &[[f64; 2]], prob: Option<&[f32]>, scale: [f64; 2]| {
            polygons_to_label(dist.view(), points, [40, 44], prob, scale).unwrap()
        };
        assert_eq!(draw(&points, Some(&prob), [1.0, 1.0]), labels(&fixture, &format!("{case}.labels")), "{case}");
        assert_eq!(draw(&points, None, [1.0, 1.0]), labels(&fixture, &format!("{case}.labels_noprob")), "{case}");
        let stretched: Vec<[f64; 2]> = points.iter().map(|[y, x]| [y * 2.0, x * 0.5]).collect();
        let drawn = draw(&stretched, Some(&prob), [0.5, 2.0]);
        assert_eq!(drawn, labels(&fixture, &format!("{case}.labels_scale")), "{case}");
    }
}

#[test]
fn single_polygons_are_filled_as_recorded() {
    let fixture = common::fixture("stardist/render");
    let masks = fixture.i32("poly6.masks");
    for (k, polygon) in f3(&fixture, "poly6.coord").outer_iter().enumerate() {
        let one = polygon.insert_axis(Axis(0));
        let drawn = coord_to_label(one.view(), [20, 22], None).unwrap();
        assert_eq!(drawn.into_dyn(), masks.index_axis(Axis(0), k), "polygon {k}");
    }
}

#[test]
fn the_literal_small_object_filter_agrees() {
    for fixture in common::fixture_and_real("cellsparse/remove_small_labels") {
        for name in fixture.names().iter().filter(|name| !name.ends_with(".label")) {
            let (case, area) = name.split_once('.').unwrap();
            let mut image = labels(&fixture, &format!("{case}.label"));
            remove_small_labels_as_reference(&mut image, area.parse().unwrap());
            assert_eq!(image, labels(&fixture, name), "{name}");
        }
    }
}
