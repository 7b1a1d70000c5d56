//! The networks of Cellpose and ELEPHANT against recorded outputs of the originals, and both executors against each other.

use cellsparse_tests as common;

use std::collections::HashMap;
use std::sync::Arc;

use cellsparse_core::StarDistConfig;
use cellsparse_core::networks::Method;
use cellsparse_core::networks::{
    CandleNetwork, CellposeConfig, CpuPlan, Device, ElephantConfig, Engine, Graph, ParameterSpec, Precision, Weights,
    from_state_dict, to_state_dict,
};
use cellsparse_core::random::Random;
use cellsparse_core::training::loss_cellpose::cellpose_loss;
use cellsparse_core::training::optimizer::{Adam, Optimizer, Sgd};
use common::{Fixture, fixture};
use ndarray::ArrayD;

type Arrays = HashMap<String, (Vec<usize>, Vec<f32>)>;

/// The tensors of a fixture whose names begin with `prefix`, without it.
fn state_dict(fixture: &Fixture, prefix: &str) -> Arrays {
    let entry = |name: String| {
        let values = fixture.f32(&name);
        Some((name.strip_prefix(prefix)?.to_string(), (values.shape().to_vec(), values.iter().copied().collect())))
    };
    fixture.names().into_iter().filter_map(entry).collect()
}

/// `[N, C, H, W]` as `[N, H, W, C]` in row-major order.
fn channel_last(values: ArrayD<f32>) -> Vec<f32> {
    values.permuted_axes(vec![0, 2, 3, 1]).iter().copied().collect()
}

fn worst(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// All outputs of both executors, labelled.
fn run(
    graph: &Arc<Graph>,
    weights: &Weights,
    input: &[f32],
    shape: [usize; 3],
    training: bool,
) -> Vec<(String, Vec<Vec<f32>>)> {
    let mut runs = Vec::new();
    for method in [Method::Direct, Method::Fast] {
        let mut plan = CpuPlan::new(graph, method, shape, training).unwrap();
        plan.set_weights(weights);
        plan.forward(weights, input);
        let output = |index: usize| {
            let mut output = vec![0.0; plan.output_shape(index).iter().product()];
            plan.output(index, &mut output);
            output
        };
        runs.push((format!("{method:?}"), (0..plan.output_count()).map(output).collect()));
    }
    let network = CandleNetwork::new(graph, weights, &Device::cpu(), Precision::Single).unwrap();
    let pass = network.forward(input, shape, training).unwrap();
    let output = |index: usize| pass.output(index).unwrap().into_iter().map(|v| v as f32).collect();
    runs.push(("Candle".into(), (0..graph.outputs().len()).map(output).collect()));
    runs
}

fn small_cellpose() -> CellposeConfig {
    CellposeConfig { n_channels: 2, widths: vec![6, 10, 14], diam_mean: 30.0 }
}

#[test]
fn cellpose_equals_the_original() {
    let recorded = fixture("cellpose/cpnet_small");
    let graph = Arc::new(small_cellpose().graph());
    let weights = from_state_dict(&graph, state_dict(&recorded, "weights.")).unwrap();
    let input = channel_last(recorded.f32("x"));
    for (mode, training) in [("eval", false), ("train", true)] {
        let y = channel_last(recorded.f32(&format!("{mode}.y")));
        let style: Vec<f32> = recorded.f32(&format!("{mode}.style")).iter().copied().collect();
        for (executor, got) in run(&graph, &weights, &input, [2, 32, 48], training) {
            // Winograd's rounding errors are about ten times those of the direct kernels.
            let tolerance = if executor == "Fast" { 1e-4 } else { 2e-5 };
            let (off, style_off) = (worst(&got[0], &y), worst(&got[1], &style));
            assert!(off <= tolerance && style_off <= tolerance, "{mode} {executor}: {off:e} {style_off:e}");
        }
    }
}

#[test]
fn cellpose_moving_statistics_equal_the_original() {
    let recorded = fixture("cellpose/cpnet_small");
    let graph = Arc::new(small_cellpose().graph());
    let mut weights = from_state_dict(&graph, state_dict(&recorded, "weights.")).unwrap();
    let want = from_state_dict(&graph, {
        let mut all = state_dict(&recorded, "weights.");
        all.extend(state_dict(&recorded, "train_after_m0.05."));
        all
    })
    .unwrap();
    let mut engine = Engine::new(&graph, &Device::cpu(), [2, 32, 48], true).unwrap();
    engine.set_weights(&weights).unwrap();
    engine.forward(&weights, &channel_last(recorded.f32("x")), &mut Vec::new()).unwrap();
    engine.update_statistics(&mut weights, 0.0);
    let mut moved = 0;
    for (got, want) in weights.parameters().iter().zip(want.parameters()) {
        let off = worst(&got.values, &want.values);
        assert!(off <= 2e-6, "{}: off by {off:e}", got.spec.name);
        moved += usize::from(got.spec.name.contains("moving"));
    }
    assert!(moved > 50);
}

#[test]
fn cellpose_learns_like_the_original() {
    let recorded = fixture("cellpose/cpnet_small");
    let graph = Arc::new(small_cellpose().graph());
    let start = state_dict(&recorded, "weights.");
    let (input, targets) = (channel_last(recorded.f32("x")), channel_last(recorded.f32("step.lbl")));
    // Parameters that a recording leaves out, such as moving statistics among gradients, keep their first values.
    let known = |prefix: &str| {
        let mut arrays = start.clone();
        arrays.extend(state_dict(&recorded, prefix));
        from_state_dict(&graph, arrays).unwrap()
    };
    let first = known("step.grad.");
    let trainable = first.parameters().iter().filter(|p| p.spec.trainable);
    let overall = trainable.flat_map(|p| &p.values).fold(0.0, |m: f32, v| m.max(v.abs()));
    let begin = from_state_dict(&graph, start.clone()).unwrap();
    let (mut sgd, mut adamw) = (Sgd::new(&begin), Adam::pytorch(&begin));
    (sgd.decay, adamw.decay) = (1e-4, 1e-5);
    let optimizers: [(&str, Optimizer, f32, f32); 2] =
        [("sgd", sgd.into(), 0.02, 3e-5), ("adamw", adamw.into(), 0.005, 1e-3)];
    for (name, mut optimizer, rate, tolerance) in optimizers {
        let mut weights = begin.clone();
        let mut plan = CpuPlan::new(&graph, Method::Direct, [2, 32, 48], true).unwrap();
        for step in 0..2 {
            plan.set_weights(&weights);
            plan.forward(&weights, &input);
            let outputs: Vec<Vec<f32>> = (0..plan.output_count())
                .map(|index| {
                    let mut output = vec![0.0; plan.output_shape(index).iter().product()];
                    plan.output(index, &mut output);
                    output
                })
                .collect();
            let mut of_outputs: Vec<Vec<f32>> = outputs.iter().map(|output| vec![0.0; output.len()]).collect();
            let loss = cellpose_loss(&outputs[0], &targets, Some(&mut of_outputs[0])).unwrap().total;
            let want = f64::from(recorded.f32(&format!("step.{name}.losses_f64"))[[step]]);
            assert!((loss - want).abs() <= 1e-5 * want, "{name}, step {step}: loss {loss}, not {want}");
            let mut gradients: Vec<Vec<f32>> = weights.parameters().iter().map(|p| vec![0.0; p.values.len()]).collect();
            let of_outputs: Vec<&[f32]> = of_outputs.iter().map(Vec::as_slice).collect();
            plan.backward(&weights, &of_outputs, &mut gradients);
            let trainable = first.parameters().iter().zip(&gradients).filter(|(p, _)| step == 0 && p.spec.trainable);
            for (want, got) in trainable {
                // A bias before a normalisation has no gradient but rounding noise.
                let off = worst(got, &want.values);
                let largest = want.values.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
                assert!(off <= 1e-3 * largest.max(1e-3 * overall), "{}: off by {off:e} of {largest:e}", want.spec.name);
            }
            optimizer.step(&mut weights, &gradients, rate);
        }
        let after = known(&format!("step.{name}.after2."));
        let mut compared = 0;
        let parameters = weights.parameters().iter().zip(after.parameters()).zip(first.parameters());
        for ((got, want), gradient) in parameters.filter(|((p, _), _)| p.spec.trainable) {
            for ((a, b), gradient) in got.values.iter().zip(&want.values).zip(&gradient.values) {
                // AdamW turns the sign of a rounding error into a whole step.
                if name == "sgd" || gradient.abs() > 1e-3 * overall {
                    assert!((a - b).abs() <= tolerance, "{name} {}: {a}, not {b}", got.spec.name);
                    compared += 1;
                }
            }
        }
        assert!(2 * compared > begin.count(), "{name}: {compared}");
    }
}

#[test]
fn cellpose_state_dict_maps_one_to_one() {
    let recorded = fixture("cellpose/cpnet_small");
    let graph = small_cellpose().graph();
    let arrays = state_dict(&recorded, "weights.");
    let weights = from_state_dict(&graph, arrays.clone()).unwrap();
    let written = to_state_dict(&graph, &weights);
    for (name, shape, values) in &written {
        assert_eq!(arrays.get(name), Some(&(shape.clone(), values.clone())), "{name}");
    }
    let extra = |name: &&String| !name.ends_with("num_batches_tracked") && !name.starts_with("diam_");
    assert_eq!(written.len(), arrays.keys().filter(extra).count());
    let reference = CellposeConfig::reference().graph();
    let trainable = |spec: &&ParameterSpec| spec.trainable;
    let count = |spec: &ParameterSpec| spec.shape.iter().product::<usize>();
    assert_eq!(reference.parameters().iter().filter(trainable).map(count).sum::<usize>(), 6_600_843);
}

/// The weights of the recorded ResUNet by the formula in the fixture: a multiplicative hash of the index.
fn formula_weights(info: &serde_json::Value, graph: &Graph) -> Weights {
    let seed = info["seed"].as_u64().unwrap();
    let zeros = to_state_dict(graph, &Weights::init(graph, 0));
    let mut arrays = Arrays::new();
    for (t, name) in info["order"].as_array().unwrap().iter().enumerate() {
        let name = name.as_str().unwrap();
        let shape = &zeros.iter().find(|(other, ..)| other == name).unwrap_or_else(|| panic!("{name}")).1;
        let scale = match shape[..] {
            [_, inputs, rows, columns] => 2.0 * (6.0 / (inputs * rows * columns) as f64).sqrt(),
            _ => 0.2,
        };
        let offset = if shape.len() == 1 && name.ends_with("weight") { 1.0 } else { 0.0 };
        let value = |i: u64| {
            let hash = (i + 1_000_003 * (t as u64 + 1) + seed).wrapping_mul(2_654_435_761) % (1 << 32);
            (offset + scale * (hash as f64 / 2f64.powi(32) - 0.5)) as f32
        };
        let values = (0..shape.iter().product::<usize>() as u64).map(value).collect();
        arrays.insert(name.to_string(), (shape.clone(), values));
    }
    from_state_dict(graph, arrays).unwrap()
}

fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let one = |pixel: &[f32]| -> Vec<f32> {
        let largest = pixel.iter().copied().fold(f32::MIN, f32::max);
        let total: f32 = pixel.iter().map(|v| (v - largest).exp()).sum();
        pixel.iter().map(|v| v - largest - total.ln()).collect()
    };
    logits.as_chunks::<3>().0.iter().flat_map(|pixel| one(pixel)).collect()
}

/// Compares all cases of a recorded ELEPHANT network whose size needs no scaling.
fn check_elephant(recorded: &Fixture, graph: &Arc<Graph>, weights: &Weights, tolerance: f32) {
    for case in ["s64", "b2_48x80"] {
        let input = recorded.f32(&format!("{case}.input"));
        let shape = [input.shape()[0], input.shape()[2], input.shape()[3]];
        let want = channel_last(recorded.f32(&format!("{case}.logp")));
        for (executor, got) in run(graph, weights, &channel_last(input), shape, false) {
            let off = worst(&log_softmax(&got[0]), &want);
            assert!(off <= tolerance, "{case} {executor}: {off:e}");
        }
    }
}

#[test]
fn elephant_equals_the_original() {
    let recorded = fixture("elephant/resunet_forward");
    let graph = Arc::new(ElephantConfig { residual: true, ..Default::default() }.graph());
    check_elephant(&recorded, &graph, &formula_weights(&recorded.info(), &graph), 1e-3);
}

#[test]
#[cfg_attr(not(real_images), ignore = "the folder with real images is not there (CELLSPARSE_SHARED)")]
fn elephant_of_the_original_size_equals_the_original() {
    let shared = common::shared().unwrap();
    let read = |name: &str| Fixture::read(&shared.join(format!("fixtures/elephant/{name}.safetensors")));
    let graph = Arc::new(ElephantConfig::default().graph());
    let weights = from_state_dict(&graph, state_dict(&read("unet_weights"), "")).unwrap();
    assert_eq!(weights.count(), 1_965_315);
    check_elephant(&read("unet_forward"), &graph, &weights, 5e-4);
}

#[test]
fn gradients_of_both_executors_agree() {
    let graphs = [
        ("cellpose", CellposeConfig { widths: vec![8, 20, 16], ..small_cellpose() }.graph()),
        ("elephant", ElephantConfig { n_channels: 3, widths: vec![8, 64, 32], residual: false }.graph()),
        ("elephant residual", ElephantConfig { n_channels: 1, widths: vec![8, 16, 64], residual: true }.graph()),
    ];
    for (name, graph) in graphs {
        let graph = Arc::new(graph);
        let mut weights = Weights::init(&graph, 3);
        let mut random = Random::new(4, 0);
        for parameter in weights.parameters_mut().filter(|p| p.spec.shape.len() == 1) {
            parameter.values.iter_mut().for_each(|v| *v += random.uniform(0.0, 0.2) as f32);
        }
        let shape = [2, 16, 24];
        let input: Vec<f32> =
            (0..2 * 16 * 24 * graph.input_channels()).map(|_| random.uniform(0.0, 1.0) as f32).collect();
        let factors: Vec<Vec<f64>> = graph
            .outputs()
            .iter()
            .map(|&id| {
                let [h, w] = graph.nodes()[id].size(shape[1], shape[2]);
                (0..shape[0] * h * w * graph.nodes()[id].channels).map(|_| random.uniform(-1.0, 1.0)).collect()
            })
            .collect();
        let candle = CandleNetwork::new(&graph, &weights, &Device::cpu(), Precision::Double).unwrap();
        let pass = candle.forward(&input, shape, true).unwrap();
        let want = candle.backward(&pass, &factors).unwrap();

        let mut plan = CpuPlan::new(&graph, Method::Fast, shape, true).unwrap();
        plan.set_weights(&weights);
        plan.forward(&weights, &input);
        let single: Vec<Vec<f32>> = factors.iter().map(|f| f.iter().map(|v| *v as f32).collect()).collect();
        let single: Vec<&[f32]> = single.iter().map(Vec::as_slice).collect();
        let mut got: Vec<Vec<f32>> = weights.parameters().iter().map(|p| vec![0.0; p.values.len()]).collect();
        plan.backward(&weights, &single, &mut got);
        let largest = |values: &[f64]| values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let overall = want.iter().map(|values| largest(values)).fold(0.0, f64::max);
        for ((parameter, got), want) in weights.parameters().iter().zip(&got).zip(&want) {
            let scale = largest(want).max(1e-2 * overall);
            let worst = got.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(worst <= 2e-3 * scale, "{name} {}: off by {worst:e} of {scale:e}", parameter.spec.name);
        }
    }
}

#[test]
fn an_inference_plan_forgets_earlier_images() {
    let graphs = [
        StarDistConfig { n_filter_base: 4, n_depth: 2, ..Default::default() }.graph(),
        CellposeConfig { widths: vec![8, 20, 16], ..small_cellpose() }.graph(),
        ElephantConfig { n_channels: 3, widths: vec![8, 64, 32], residual: true }.graph(),
    ];
    for graph in graphs {
        let graph = Arc::new(graph);
        let weights = Weights::init(&graph, 3);
        let shape = [2, 40, 56];
        let mut random = Random::new(1, 0);
        let mut image = || -> Vec<f32> {
            (0..2 * 40 * 56 * graph.input_channels()).map(|_| random.uniform(-1.0, 1.0) as f32).collect()
        };
        let (first, second) = (image(), image());
        let mut plan = CpuPlan::new(&graph, Method::Fast, shape, false).unwrap();
        plan.set_weights(&weights);
        let mut answer = |input: &[f32]| {
            plan.forward(&weights, input);
            let mut outputs = Vec::new();
            for index in 0..plan.output_count() {
                let mut output = vec![0.0; plan.output_shape(index).iter().product()];
                plan.output(index, &mut output);
                outputs.push(output);
            }
            outputs
        };
        let before = answer(&first);
        assert_ne!(answer(&second), before);
        assert_eq!(answer(&first), before);
        let direct = run(&graph, &weights, &first, shape, false);
        for (got, want) in before.iter().zip(&direct[0].1) {
            let scale = want.iter().fold(1.0, |m: f32, v| m.max(v.abs()));
            assert!(worst(got, want) <= 1e-3 * scale);
        }
    }
}
