//! Cellpose flows, losses, schedules and augmentation against recorded values of cellpose 3.1.1.3 and of its fork for
//! sparse labels.

use cellsparse_tests as common;

use cellsparse_core::geometry::diffusion::{FlowRule, cell_centre};
use cellsparse_core::geometry::label_runs::LabelRuns;
use cellsparse_core::raster::taper::{
    TaperedSum, augmented_flip, augmented_tile_starts, flip_tile, taper, tile_starts, unflip_flows, zero_padding,
};
use cellsparse_core::raster::{percentile_normalize, resize_bilinear, resize_nearest, scaled_size};
use cellsparse_core::targets::cellpose::{diameter, masks_to_flows};
use cellsparse_core::training::augment_affine::{Outside, Patch, PatchRange, channel_last};
use cellsparse_core::training::loss_cellpose::cellpose_loss;
use cellsparse_core::training::schedule::{CellposeVersion, cellpose_rates};
use common::{Fixture, fixture, max_abs_diff, shared};
use ndarray::{Array2, Array3, Axis, Ix2, Ix3, Ix4, s};

const FLOWS: [&str; 7] = ["border", "concave", "disconnected_gaps", "long", "single_disc", "tiny", "touching"];

/// The committed files of those names, and the others that this machine has.
fn files(committed: &[&str], others: &[&str]) -> Vec<Fixture> {
    let mut files: Vec<Fixture> = committed.iter().map(|name| fixture(&format!("cellpose/{name}"))).collect();
    if let Some(shared) = shared() {
        let paths = others.iter().map(|name| shared.join(format!("fixtures/{name}.safetensors")));
        files.extend(paths.filter(|path| path.is_file()).map(|path| Fixture::read(&path)));
    }
    files
}

fn labels(file: &Fixture, name: &str) -> Array2<i32> {
    file.i32(name).into_dimensionality::<Ix2>().unwrap()
}

fn maps(file: &Fixture, name: &str) -> Array3<f32> {
    file.f32(name).into_dimensionality::<Ix3>().unwrap()
}

#[test]
fn flows_of_masks() {
    let committed: Vec<String> = FLOWS.iter().map(|name| format!("flows_{name}")).collect();
    let committed: Vec<&str> = committed.iter().map(String::as_str).collect();
    let others = [
        "cellpose/flows_ellipses_touching",
        "real/cellpose/flows_dsb_0e5edb07",
        "real/cellpose/flows_dsb_4327d275",
        "real/cellpose/flows_dsb_7f556782",
    ];
    for file in files(&committed, &others) {
        let labels = labels(&file, "labels");
        for (rule, name) in [(FlowRule::Reference, "v3"), (FlowRule::Fork, "v2")] {
            let flows = masks_to_flows(labels.view(), rule).unwrap();
            let expected = maps(&file, &format!("{name}_cpu"));
            let stable = file.f32(&format!("stable_{name}_cpu")).into_dimensionality::<Ix2>().unwrap();
            assert!(stable.iter().any(|&stable| stable == 1.0));
            let difference = max_abs_diff(&(&flows * &stable), &(&expected * &stable));
            assert!(difference < 1e-6, "{name} {:?}: {difference}", file.info());
        }
        let centres = file.i32("v3_cpu_centres_in_bbox");
        let cells = LabelRuns::new(labels.view()).unwrap();
        assert_eq!(centres.shape()[0], cells.len());
        for (cell, expected) in cells.iter().zip(centres.outer_iter()) {
            let [y, x] = cell_centre(cell, FlowRule::Reference);
            assert_eq!([(y - cell.bounds[0]) as i32, (x - cell.bounds[1]) as i32], [expected[0], expected[1]]);
        }
        let expected = file.f32("diameter_f64")[[0]];
        assert!((diameter(labels.view()) as f32 - expected).abs() < 1e-5 * expected);
    }
}

#[test]
fn intensities_are_scaled_by_percentiles() {
    let file = fixture("cellpose/normalize");
    for case in ["g8", "g16"] {
        let image = maps(&file, &format!("{case}.ch00.converted"));
        let found = percentile_normalize(image.view(), 1.0, 99.0).unwrap();
        let difference = max_abs_diff(&found, &maps(&file, &format!("{case}.ch00.v3_norm")));
        assert!(difference < 2e-6, "{case}: {difference}");
    }
}

#[test]
fn resizing() {
    let file = fixture("cellpose/normalize");
    let image = maps(&file, "resize.in");
    for scale in [0.5, 0.73, 1.37, 2.0] {
        let expected = maps(&file, &format!("resize.x{scale:?}"));
        let [rows, columns] = [image.dim().0, image.dim().1].map(|n| scaled_size(n, scale).unwrap());
        let found = resize_bilinear(image.view(), rows, columns).unwrap();
        let difference = max_abs_diff(&found, &expected);
        assert!(difference < 1e-6, "{scale}: {difference}");
    }
    let found = resize_bilinear(image.view(), 61, 29).unwrap();
    assert!(max_abs_diff(&found, &maps(&file, "resize.to_61_29")) < 1e-6);
    let found = resize_nearest(labels(&file, "resize_nn.in").view(), 57, 33).unwrap();
    assert_eq!(found, labels(&file, "resize_nn.to_57_33"));
}

/// `[y0, y1, x0, x1]` of all tiles.
fn rectangles(rows: &[usize], columns: &[usize], size: [usize; 2]) -> Vec<i32> {
    let one = |y: usize, x: usize| [y, y + size[0], x, x + size[1]].map(|v| v as i32);
    rows.iter().flat_map(|&y| columns.iter().flat_map(move |&x| one(y, x))).collect()
}

#[test]
fn tiles_and_their_weights() {
    let mut seen = 0;
    for file in files(&["tiles"], &["cellpose/tiles"]) {
        for name in file.names() {
            let sides: Vec<usize> = name.split('_').filter_map(|part| part.parse().ok()).collect();
            let [height, width] = sides[..] else { continue };
            seen += 1;
            if name.starts_with("taper") {
                let expected = file.f32(&name).into_dimensionality::<Ix2>().unwrap();
                let (rows, columns) = expected.dim();
                let found = taper(height, width).slice(s![..rows, ..columns]).mapv(|v| v as f32);
                assert!(max_abs_diff(&found, &expected) < 1e-7, "{name}");
                continue;
            }
            let expected: Vec<i32> = file.i32(&name).into_iter().collect();
            let found = if name.starts_with("tiles_aug") {
                let [height, width] = [height.max(224), width.max(224)];
                let starts = [height, width].map(|n| augmented_tile_starts(n, 224));
                rectangles(&starts[0], &starts[1], [224, 224])
            } else {
                let starts = [height, width].map(|n| tile_starts(n, 224, 0.1));
                rectangles(&starts[0], &starts[1], [height.min(224), width.min(224)])
            };
            assert_eq!(found, expected, "{name}");
        }
        for row in file.i32("pads_ly_lx_padded_start").outer_iter() {
            let row: Vec<usize> = row.iter().map(|&v| v as usize).collect();
            let [y, x] = [zero_padding(row[0]), zero_padding(row[1])];
            assert_eq!(row[2..], [y[0] + row[0] + y[1], x[0] + row[1] + x[1], y[0], x[0]]);
        }
    }
    assert!(seen >= 10);
}

#[test]
fn results_of_tiles_are_blended() {
    for file in files(&["tiles"], &["cellpose/tiles"]) {
        let channel_last = |name: &str| {
            file.f32(name)
                .into_dimensionality::<Ix4>()
                .unwrap()
                .permuted_axes([0, 2, 3, 1])
                .as_standard_layout()
                .into_owned()
        };
        let image_last = |name: &str| maps(&file, name).permuted_axes([1, 2, 0]).as_standard_layout().into_owned();
        let starts = [70, 90].map(|n| tile_starts(n, 48, 0.1));
        let answers = channel_last("avg_y");
        let mut blend = TaperedSum::new(70, 90, 3, [48, 48]).unwrap();
        let places = |starts: [Vec<usize>; 2]| -> Vec<[usize; 2]> {
            starts[0].iter().flat_map(|&y| starts[1].iter().map(move |&x| [y, x])).collect()
        };
        for (answer, place) in answers.outer_iter().zip(places(starts)) {
            blend.add(answer, place).unwrap();
        }
        assert!(max_abs_diff(&blend.finish(), &image_last("avg_out")) < 1e-5);
        if !file.has("aug_y") {
            continue;
        }
        let starts = [70, 90].map(|n| augmented_tile_starts(n, 48));
        let [_, columns] = [starts[0].len(), starts[1].len()];
        let (image, inputs) = (image_last("avg_img"), channel_last("aug_tiles_in"));
        let (answers, unflipped) = (channel_last("aug_y"), channel_last("aug_unaug"));
        let mut blend = TaperedSum::new(70, 90, 3, [48, 48]).unwrap();
        let mut places = places(starts).into_iter();
        assert_eq!(places.len(), answers.len_of(Axis(0)));
        for (index, [y, x]) in places.by_ref().enumerate() {
            let flip = augmented_flip(index / columns, index % columns);
            let tile = flip_tile(image.slice(s![y..y + 48, x..x + 48, ..]), flip);
            assert_eq!(tile, inputs.index_axis(Axis(0), index));
            let answer = unflip_flows(answers.index_axis(Axis(0), index), flip);
            assert_eq!(answer, unflipped.index_axis(Axis(0), index));
            blend.add(answer.view(), [y, x]).unwrap();
        }
        assert!(max_abs_diff(&blend.finish(), &image_last("aug_out")) < 1e-5);
    }
}

/// An array `[B, C, H, W]` with the channel last, its channels in another order.
fn reordered(file: &Fixture, name: &str, order: [usize; 3]) -> Vec<f32> {
    let array = file.f32(name).into_dimensionality::<Ix4>().unwrap();
    let array = array.select(Axis(1), &order).permuted_axes([0, 2, 3, 1]);
    array.as_standard_layout().into_owned().into_raw_vec_and_offset().0
}

#[test]
fn losses_and_gradients() {
    let file = fixture("cellpose/loss");
    for case in ["dense", "sparse", "interpolated", "one_image_blank", "single_pixel"] {
        let outputs = reordered(&file, &format!("{case}.y"), [0, 1, 2]);
        let targets = reordered(&file, &format!("{case}.lbl"), [0, 1, 2]);
        let mut gradient = vec![9.0; outputs.len()];
        let loss = cellpose_loss(&outputs, &targets, Some(&mut gradient)).unwrap();
        let expected = f64::from(file.f32(&format!("{case}.fork_loss_f64"))[[0]]);
        assert!((loss.total - expected).abs() < 1e-5 * expected, "{case}: {} {expected}", loss.total);
        let terms = file.f32(&format!("{case}.terms_flow_prob_f64"));
        for (found, expected) in [loss.flow, loss.cellprob].into_iter().zip(&terms) {
            assert!((found - f64::from(*expected)).abs() < 1e-5 * found, "{case}: {found} {expected}");
        }
        let expected = reordered(&file, &format!("{case}.fork_grad"), [0, 1, 2]);
        assert!(expected.iter().any(|gradient| *gradient != 0.0));
        assert!(gradient.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{case}");
    }
}

#[test]
fn learning_rates_of_every_epoch() {
    for file in files(&["schedules"], &["cellpose/schedules"]) {
        for name in file.names() {
            let version = if name.starts_with("v3") { CellposeVersion::Reference } else { CellposeVersion::Fork };
            let epochs = name.split('_').find_map(|part| part.parse().ok()).unwrap();
            let found: Vec<f32> = cellpose_rates(version, epochs, 0.2).into_iter().map(|rate| rate as f32).collect();
            let expected: Vec<f32> = file.f32(&name).into_iter().collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}

#[test]
fn crops_are_cut_like_the_reference_cuts_them() {
    for file in files(&["augment_opencv4"], &["cellpose/augment_opencv4"]) {
        for case in ["a", "b", "c", "d"].into_iter().filter(|case| file.has(&format!("{case}.X"))) {
            crops_of(&file, case, "exact_", [1e-5, 1e-4, 1e-3]);
            if let (true, Some(shared)) = (file.has(&format!("{case}.imgi")), shared()) {
                crops_of(&file, case, "", [0.025, 0.06, 2e-3]);
                let newer = Fixture::read(&shared.join("fixtures/cellpose/augment_opencv5.safetensors"));
                compare_crops(&file, &newer, case, "", [5e-5, 5e-5, 1e-3]);
            }
        }
    }
}

fn crops_of(file: &Fixture, case: &str, prefix: &str, tolerances: [f32; 3]) {
    compare_crops(file, file, case, prefix, tolerances);
}

/// Cuts with the recorded matrices; `tolerances` are those of samples, flows, and the fraction of other cell probabilities.
fn compare_crops(input: &Fixture, output: &Fixture, case: &str, prefix: &str, tolerances: [f32; 3]) {
    let four = |file: &Fixture, name: &str| file.f32(&format!("{case}.{name}")).into_dimensionality::<Ix4>().unwrap();
    let (x, y) = (four(input, "X"), four(input, "Y"));
    let (samples, labels) = (four(output, &format!("{prefix}imgi")), four(output, &format!("{prefix}lbl")));
    let draws = input.f64(&format!("{case}.draws_flip_theta_scale_dx_dy_f64"));
    let matrices = output.f64(&format!("{case}.M_f64"));
    let size = [samples.dim().2, samples.dim().3];
    for i in 0..x.dim().0 {
        let draws: [f64; 5] = std::array::from_fn(|k| draws[[i, k]]);
        let matrix = [0, 1].map(|row| [0, 1, 2].map(|column| matrices[[i, row, column]]));
        let patch = Patch { flip: draws[0] > 0.5, theta: std::f64::consts::TAU * draws[1], matrix };
        let (image, targets) =
            (channel_last(x.index_axis(Axis(0), i)).unwrap(), channel_last(y.index_axis(Axis(0), i)).unwrap());
        let mut cut = [vec![9.0; size[0] * size[1] * 2], vec![9.0; size[0] * size[1] * 3]];
        let [cut_image, cut_targets] = &mut cut;
        patch.cut(size, image.view(), targets.view(), Outside::Background, cut_image, cut_targets).unwrap();
        let expected = channel_last(samples.index_axis(Axis(0), i)).unwrap();
        for (found, expected) in cut_image.iter().zip(&expected) {
            assert!((found - expected).abs() < tolerances[0], "{case} {i} {prefix}: {found} {expected}");
        }
        let expected = channel_last(labels.index_axis(Axis(0), i)).unwrap();
        let mut other = 0;
        for (found, expected) in cut_targets.chunks(3).zip(expected.lanes(Axis(2))) {
            other += usize::from(found[0] != expected[0]);
            let difference = (found[1] - expected[1]).abs().max((found[2] - expected[2]).abs());
            assert!(difference < tolerances[1], "{case} {i} {prefix}: {found:?} {expected}");
        }
        assert!(other as f32 <= tolerances[2] * (size[0] * size[1]) as f32, "{case} {i} {prefix}: {other}");
        // The recorded matrices carry the rounding of their making.
        let info = &input.info()["cases"][case];
        let scale_range = info["scale_range"].as_f64().unwrap();
        let range = PatchRange { size, scale_range, rescale: info["rescale"].as_f64().unwrap_or(1.0) };
        let own = range.patch([x.dim().2, x.dim().3], draws);
        assert_eq!(own.flip, patch.flip);
        for (own, recorded) in own.matrix.iter().flatten().zip(matrix.iter().flatten()) {
            assert!((own - recorded).abs() < 1e-3, "{case} {i}: {own} {recorded}");
        }
    }
}
