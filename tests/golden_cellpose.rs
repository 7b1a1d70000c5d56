//! Cellpose flows, losses, schedules and augmentation against recorded values of cellpose 3.1.1.3 and of its fork for
//! sparse labels.

mod common;

use cellsparse_core::geometry::diffusion::{FlowRule, cell_centre};
use cellsparse_core::geometry::label_runs::LabelRuns;
use cellsparse_core::targets::cellpose::{diameter, masks_to_flows};
use common::{Fixture, fixture, max_abs_diff, shared};
use ndarray::{Array2, Array3, Ix2, Ix3};

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
