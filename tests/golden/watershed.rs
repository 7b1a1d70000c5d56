//! Watershed, distance transform, connected components, and the two ways from probabilities to cells, against
//! scikit-image, SciPy and the original ELEPHANT.

use cellsparse_tests as common;

use cellsparse_core::geometry::distance::{distance_transform_edt, distance_transform_squared};
use cellsparse_core::geometry::ellipse::Ellipse;
use cellsparse_core::postprocess::elephant::{Elevation, InstanceMethod, WatershedOptions, elephant_instances};
use cellsparse_core::postprocess::patches::patch_predict;
use cellsparse_core::postprocess::spots::{SpotOptions, draw_spots, find_spots};
use cellsparse_core::postprocess::watershed::watershed;
use cellsparse_core::raster::{Connectivity, LabelImage, label_components};
use common::{Fixture, all_fixtures, fixture};
use ndarray::{Array2, Array3, Ix2, Ix3};

fn labels(fixture: &Fixture, name: &str) -> LabelImage {
    fixture.i32(name).into_dimensionality::<Ix2>().unwrap()
}

fn map(fixture: &Fixture, name: &str) -> Array2<f32> {
    fixture.f32(name).into_dimensionality::<Ix2>().unwrap()
}

/// Probabilities, channel last.
fn probabilities(fixture: &Fixture, name: &str) -> Array3<f32> {
    let first = fixture.f32(name).into_dimensionality::<Ix3>().unwrap();
    first.permuted_axes([1, 2, 0]).as_standard_layout().into_owned()
}

/// The names that end in `.what`, without that end.
fn cases(fixture: &Fixture, what: &str) -> Vec<String> {
    let end = format!(".{what}");
    fixture.names().iter().filter_map(|name| name.strip_suffix(&end).map(str::to_string)).collect()
}

#[test]
fn watershed_equals_scikit_image() {
    let mut count = 0;
    for fixture in all_fixtures("elephant/watershed") {
        let info = fixture.info();
        for case in cases(&fixture, "markers") {
            let eight = info["cases"][&case]["connectivity"] == 2;
            let connectivity = if eight { Connectivity::Eight } else { Connectivity::Four };
            let image = map(&fixture, &format!("{case}.image"));
            let markers = labels(&fixture, &format!("{case}.markers"));
            let name = format!("{case}.mask");
            let mask = fixture.has(&name).then(|| labels(&fixture, &name).mapv(|value| value != 0));
            let expected = labels(&fixture, &format!("{case}.labels"));
            let mask = mask.as_ref().map(|mask| mask.view());
            assert_eq!(watershed(image.view(), markers.view(), mask, connectivity).unwrap(), expected, "{case}");
            let wide = image.mapv(f64::from);
            assert_eq!(watershed(wide.view(), markers.view(), mask, connectivity).unwrap(), expected, "{case} f64");
            count += 1;
        }
    }
    assert!(count >= 19, "{count}");
}

#[test]
fn distances_and_components_equal_scipy_and_scikit_image() {
    for fixture in all_fixtures("elephant/edt_cc") {
        for case in cases(&fixture, "mask") {
            let mask = labels(&fixture, &format!("{case}.mask")).mapv(|value| value != 0);
            for (name, connectivity) in [("cc1", Connectivity::Four), ("cc2", Connectivity::Eight)] {
                let expected = labels(&fixture, &format!("{case}.{name}"));
                let (found, parts) = label_components(mask.view(), connectivity).unwrap();
                assert_eq!(found, expected, "{case} {name}");
                assert_eq!(parts as i32, expected.iter().copied().max().unwrap_or(0));
            }
            let squares = distance_transform_squared(mask.view());
            let distances = distance_transform_edt(mask.view());
            if case == "full" {
                // SciPy measures to a pixel that is not there.
                assert!(squares.iter().all(|square| *square == u64::MAX));
                assert!(distances.iter().all(|distance| distance.is_infinite()));
                continue;
            }
            let expected = labels(&fixture, &format!("{case}.edt_sq")).mapv(|square| square as u64);
            assert_eq!(squares, expected, "{case}");
            assert_eq!(distances, expected.mapv(|square| (square as f64).sqrt()), "{case}");
            let name = format!("{case}.edt_f64");
            if fixture.has(&name) {
                assert_eq!(distances, fixture.f64(&name).into_dimensionality::<Ix2>().unwrap(), "{case}");
            }
        }
    }
}

#[test]
fn cells_by_watershed_equal_the_reference() {
    for fixture in all_fixtures("elephant/watershed_post") {
        for case in cases(&fixture, "seeds") {
            let p = probabilities(&fixture, &format!("{case}.prob"));
            for (name, elevation) in [("prob", Elevation::Probability), ("edt", Elevation::Distance)] {
                let method = InstanceMethod::Watershed(WatershedOptions { elevation, ..Default::default() });
                let found = elephant_instances(p.view(), &method, 10.0).unwrap();
                assert_eq!(found, labels(&fixture, &format!("{case}.{name}.label")), "{case} {name}");
            }
        }
    }
}

#[test]
fn ellipses_cover_the_pixels_of_the_reference() {
    let fixture = fixture("elephant/ellipse_post");
    for i in 0..12 {
        let p = fixture.f64(&format!("prim.{i}.params_f64")).into_raw_vec_and_offset().0;
        let expected = labels(&fixture, &format!("prim.{i}.mask"));
        // The columns of the matrix are the axes.
        let ellipse = Ellipse { center: [p[0], p[1]], radii: [p[2], p[3]], axes: [[p[4], p[6]], [p[5], p[7]]] };
        let (height, width) = expected.dim();
        let mut found = LabelImage::zeros((height, width));
        let mut factor = 1.0f64;
        // The reference enlarges the limit by a tenth until enough pixels are inside.
        loop {
            let larger = ellipse.scaled(factor.sqrt());
            larger.for_each_pixel([height, width], 1.0, |y, x, _| found[[y, x]] = 1);
            if p[8] <= 0.0 || f64::from(found.sum()) >= p[8] {
                break;
            }
            factor *= 1.1;
        }
        assert_eq!(found, expected, "ellipse {i}");
    }
}

#[test]
fn spots_equal_the_reference() {
    for fixture in all_fixtures("elephant/ellipse_post") {
        let info = fixture.info();
        for case in cases(&fixture, "spots_f64") {
            let parameter = |name: &str| info["cases"][&case][name].as_f64().unwrap();
            let options = SpotOptions {
                threshold: parameter("p_thresh") as f32,
                center_ratio: parameter("c_ratio"),
                min_radius: parameter("r_min"),
                max_radius: parameter("r_max"),
            };
            let p = probabilities(&fixture, &format!("{case}.prob"));
            let center = p.index_axis(ndarray::Axis(2), p.dim().2 - 1);
            let found = find_spots(center, &options).unwrap();
            let expected = fixture.f64(&format!("{case}.spots_f64")).into_dimensionality::<Ix2>().unwrap();
            assert_eq!(found.len(), expected.nrows(), "{case}");
            for (spot, row) in found.iter().zip(expected.outer_iter()) {
                let [c00, c01, c11] = spot.covariance;
                let values = [spot.center[0], spot.center[1], c00, c01, c01, c11];
                let scale = row.iter().skip(2).fold(0.0f64, |largest, value| largest.max(value.abs()));
                for (k, (a, b)) in values.iter().zip(row).enumerate() {
                    // 1e-9 of the value, of the largest entry for the matrix.
                    let limit = 1e-9 * if k < 2 { b.abs().max(1.0) } else { scale };
                    assert!((a - b).abs() <= limit, "{case}: {a} and {b}");
                }
            }
            let drawn = draw_spots(&found, [p.dim().0, p.dim().1]).unwrap();
            let expected = labels(&fixture, &format!("{case}.label"));
            let ambiguous = labels(&fixture, &format!("{case}.ambiguous"));
            for ((at, id), expected) in drawn.indexed_iter().zip(&expected) {
                assert!(id == expected || ambiguous[at] != 0, "{case} {at:?}: {id}, {expected}");
            }
        }
    }
}

#[test]
fn blended_patches_equal_the_reference() {
    for fixture in all_fixtures("elephant/patch_predict") {
        for case in cases(&fixture, "patch") {
            let x = map(&fixture, &format!("{case}.x"));
            let patch = fixture.i32(&format!("{case}.patch"));
            let patch = [patch[[0]] as usize, patch[[1]] as usize];
            let (height, width) = x.dim();
            let place = |i: usize, n: usize| (i as f64 / (n - 1) as f64) as f32;
            // The function that stands in for a network in the fixture.
            let found = patch_predict([height, width], patch, 3, |[top, left], patch| {
                Ok(Array3::from_shape_fn((patch[0], patch[1], 3), |(i, j, c)| {
                    let (x, yy, xx) = (x[[top + i, left + j]], place(i, patch[0]), place(j, patch[1]));
                    let logits = [x + yy, x * xx - 0.5, 0.3 * x - yy * xx];
                    logits[c].exp() / logits.iter().map(|z| z.exp()).sum::<f32>()
                }))
            });
            let difference = common::max_abs_diff(&found.unwrap(), &probabilities(&fixture, &format!("{case}.prob")));
            assert!(difference < 1e-6, "{case}: {difference}");
        }
    }
}
