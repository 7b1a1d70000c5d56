//! From Cellpose flows to masks, and the cleaning of masks, against recorded values of cellpose 3.1.1.3 and of its fork
//! for sparse labels.

use cellsparse_tests as common;

use std::collections::HashMap;

use cellsparse_core::metrics::{Criterion, matching};
use cellsparse_core::postprocess::flow_following::{FlowField, follow_flows};
use cellsparse_core::postprocess::mask_cleaning::{
    exclude_on_edges, fill_holes_and_remove_small_masks, fill_holes_and_renumber_as_fork,
};
use cellsparse_core::postprocess::masks::{FlowRule, MaskOptions, compute_masks, flow_errors, raw_masks};
use cellsparse_core::targets::cellpose::diameter;
use common::{Fixture, fixture, shared};
use ndarray::{Array2, Array3, Ix2, Ix3};

/// The committed files of those names, and the others that this machine has.
fn files(committed: &[&str], others: &[&str]) -> Vec<Fixture> {
    let mut files: Vec<Fixture> = committed.iter().map(|name| fixture(&format!("cellpose/{name}"))).collect();
    if let Some(shared) = shared() {
        let paths = others.iter().map(|name| shared.join(format!("fixtures/{name}.safetensors")));
        files.extend(paths.filter(|path| path.is_file()).map(|path| Fixture::read(&path)));
    }
    files
}

fn dynamics() -> Vec<Fixture> {
    let others = ["clean", "noisy_minsize", "noisy_short", "nothreshold"];
    let mut others: Vec<String> = others.iter().map(|name| format!("cellpose/dynamics_{name}")).collect();
    others.push("real/cellpose/dynamics_dsb_7f556782".into());
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    files(&["dynamics_noisy", "dynamics_nointerp"], &others)
}

fn labels(file: &Fixture, name: &str) -> Array2<i32> {
    file.i32(name).into_dimensionality::<Ix2>().unwrap()
}

fn flows(file: &Fixture) -> Array3<f32> {
    file.f32("dP").into_dimensionality::<Ix3>().unwrap()
}

fn cellprob(file: &Fixture) -> Array2<f32> {
    file.f32("cellprob").into_dimensionality::<Ix2>().unwrap()
}

fn options(file: &Fixture, rule: FlowRule) -> MaskOptions {
    let info = file.info();
    let number = |name: &str| info[name].as_f64().unwrap();
    MaskOptions {
        steps: number("niter") as usize,
        cellprob_threshold: number("cellprob_threshold") as f32,
        flow_threshold: number("flow_threshold") as f32,
        min_size: number(if rule == FlowRule::Fork { "min_size_v2" } else { "min_size_v3" }) as usize,
        max_size_fraction: number("max_size_fraction"),
        interpolate: info["interp"].as_bool().unwrap(),
        rule,
    }
}

/// Whether two label images have the same background and the same cells, under other numbers.
fn same_cells(a: &Array2<i32>, b: &Array2<i32>) -> bool {
    let (mut there, mut back) = (HashMap::from([(0, 0)]), HashMap::from([(0, 0)]));
    a.dim() == b.dim()
        && a.iter().zip(b).all(|(&a, &b)| *there.entry(a).or_insert(b) == b && *back.entry(b).or_insert(a) == a)
}

#[test]
fn pixels_end_where_the_reference_ends() {
    for file in dynamics() {
        let options = options(&file, FlowRule::Reference);
        let inside = cellprob(&file).mapv(|logit| logit > options.cellprob_threshold);
        let field = FlowField::new(flows(&file).view(), inside.view()).unwrap();
        let starts = file.i32("v3_inds").into_dimensionality::<Ix2>().unwrap();
        let starts: Vec<[usize; 2]> = starts.columns().into_iter().map(|p| [p[0] as usize, p[1] as usize]).collect();
        assert_eq!(starts.len(), inside.iter().filter(|inside| **inside).count());
        let ends = follow_flows(&field, &starts, options.steps, options.interpolate).unwrap();
        let expected = file.f32("v3_p").into_dimensionality::<Ix2>().unwrap();
        let distances: Vec<f32> = ends
            .iter()
            .zip(expected.columns())
            .map(|(end, expected)| (end[0] - expected[0]).abs().max((end[1] - expected[1]).abs()))
            .collect();
        let far = distances.iter().filter(|distance| **distance > 1e-3).count();
        assert!(far * 100 <= distances.len(), "{far} of {} end elsewhere", distances.len());
        assert!(distances.iter().all(|distance| *distance < 0.1));
    }
}

#[test]
fn masks_are_the_cells_of_the_reference() {
    for file in dynamics() {
        let (flows, cellprob) = (flows(&file), cellprob(&file));
        for (rule, before, after, errors) in [
            (FlowRule::Reference, "v3_get_masks", "v3_masks_fixed", "v3_flow_errors_f64"),
            (FlowRule::Fork, "v2_get_masks", "v2_masks", "v2_flow_errors_f64"),
        ] {
            let options = options(&file, rule);
            let raw = raw_masks(flows.view(), cellprob.view(), &options).unwrap();
            if file.has(before) {
                assert_eq!(raw, labels(&file, before), "{rule:?}");
            }
            let found = flow_errors(raw.view(), flows.view(), rule).unwrap();
            let expected: Vec<f32> = file.f32(errors).into_iter().collect();
            assert_eq!(found.len(), expected.len());
            for ((label, found), expected) in found.iter().zip(expected) {
                let difference = (found - f64::from(expected)).abs();
                assert!(difference < 0.15, "{rule:?}, cell {label}: {found} and {expected}");
            }
            let masks = compute_masks(flows.view(), cellprob.view(), &options).unwrap();
            let expected = labels(&file, after);
            assert!(expected.iter().any(|&label| label > 5));
            assert!(same_cells(&masks, &expected), "{rule:?}");
            let count = *expected.iter().max().unwrap();
            assert!((1..=count).all(|label| masks.iter().any(|&found| found == label)));
        }
    }
}

#[test]
fn holes_and_small_cells() {
    let mut cases = 0;
    for file in files(&["fill_holes"], &["cellpose/fill_holes"]) {
        for name in file.names() {
            let Some((case, rule)) = name.split_once('.') else { continue };
            let Some((rule, size)) = rule.split_once("_min") else { continue };
            let min_size = size.parse::<i32>().unwrap().max(0) as usize;
            let (input, expected) = (labels(&file, &format!("{case}.in")), labels(&file, &name));
            match rule {
                "v2" => {
                    assert_eq!(fill_holes_and_renumber_as_fork(input.view(), min_size).unwrap(), expected, "{name}")
                }
                "v3fixed" => {
                    let found = fill_holes_and_remove_small_masks(input.view(), min_size).unwrap();
                    assert!(same_cells(&found, &expected), "{name}");
                }
                _ => continue,
            }
            cases += 1;
        }
        let edges = exclude_on_edges(labels(&file, "edges.in").view()).unwrap();
        assert_eq!(edges, labels(&file, "edges.removed"));
    }
    assert!(cases >= 10);
}

#[test]
fn average_precision_is_the_accuracy_of_a_matching() {
    let file = fixture("cellpose/metrics");
    let thresholds = [0.3, 0.5, 0.75, 0.9];
    for case in ["0", "1", "2"] {
        let (truth, found) = (labels(&file, &format!("{case}.true")), labels(&file, &format!("{case}.pred")));
        let expected = |name: &str| file.f32(&format!("{case}.{name}"));
        for (i, threshold) in thresholds.into_iter().enumerate() {
            let score = matching(&truth, &found, threshold, Criterion::Iou, false).unwrap();
            let counts = [score.tp, score.fp, score.fn_].map(|count| count as f32);
            assert_eq!(counts, ["tp", "fp", "fn"].map(|name| expected(name)[[i]]), "{case} {threshold}");
            assert!((score.accuracy as f32 - expected("ap")[[i]]).abs() < 1e-6);
        }
        assert!((diameter(truth.view()) as f32 - expected("diam_f64")[[0]]).abs() < 1e-4);
    }
}
