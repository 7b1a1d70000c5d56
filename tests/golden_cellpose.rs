//! Cellpose flows, losses, schedules and augmentation against recorded values of cellpose 3.1.1.3 and of its fork for
//! sparse labels.

mod common;

use cellsparse_core::geometry::diffusion::{FlowRule, cell_centre};
use cellsparse_core::geometry::label_runs::LabelRuns;
use cellsparse_core::raster::taper::{
    TaperedSum, augmented_flip, augmented_tile_starts, flip_tile, taper, tile_starts, unflip_flows, zero_padding,
};
use cellsparse_core::raster::{resize_bilinear, resize_nearest, scaled_size};
use cellsparse_core::targets::cellpose::{diameter, masks_to_flows};
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
        let cells = LabelRuns::new(labels.view());
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
fn resizing() {
    let file = fixture("cellpose/normalize");
    let image = maps(&file, "resize.in");
    for scale in [0.5, 0.73, 1.37, 2.0] {
        let expected = maps(&file, &format!("resize.x{scale:?}"));
        let [rows, columns] = [image.dim().0, image.dim().1].map(|n| scaled_size(n, scale).unwrap());
        let found = resize_bilinear(image.view(), rows, columns).unwrap();
        assert!(max_abs_diff(&found, &expected) < 1e-6, "{scale}");
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
            file.f32(name).into_dimensionality::<Ix4>().unwrap().permuted_axes([0, 2, 3, 1]).as_standard_layout().into_owned()
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
