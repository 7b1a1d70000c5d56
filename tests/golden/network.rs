//! The StarDist network against recorded outputs of the original, and both executors against each other.

use cellsparse_tests as common;

use std::collections::HashMap;
use std::sync::Arc;

use cellsparse_core::networks::Method;
use cellsparse_core::networks::{CandleNetwork, CpuPlan, Device, Graph, Precision, StarDistConfig, Weights};
use cellsparse_core::random::Random;
use common::{Fixture, fixture};

/// Recorded Keras weights by their layer names.
fn recorded_weights(graph: &Graph, fixture: &Fixture) -> Weights {
    let arrays: HashMap<_, _> = fixture
        .names()
        .into_iter()
        .filter_map(|name| {
            let layer = name.strip_prefix("w.")?.to_string();
            let values = fixture.f32(&name);
            Some((layer, (values.shape().to_vec(), values.iter().copied().collect())))
        })
        .collect();
    Weights::from_named(graph, arrays).unwrap()
}

pub(crate) fn sigmoid(values: &[f32]) -> Vec<f32> {
    values.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect()
}

pub(crate) fn softmax(values: &[f32], classes: usize) -> Vec<f32> {
    values
        .chunks_exact(classes)
        .flat_map(|logits| {
            let total: f32 = logits.iter().map(|v| v.exp()).sum();
            logits.iter().map(move |v| v.exp() / total).collect::<Vec<_>>()
        })
        .collect()
}

pub(crate) fn assert_close(name: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{name}");
    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "{name}: off by {worst:e}");
}

/// All outputs of one executor for a recorded input.
pub(crate) fn outputs(
    graph: &Arc<Graph>,
    weights: &Weights,
    input: &[f32],
    shape: [usize; 3],
    method: Method,
) -> Vec<Vec<f32>> {
    let mut plan = CpuPlan::new(graph, method, shape, false).unwrap();
    plan.set_weights(weights);
    plan.forward(weights, input);
    (0..graph.outputs().len())
        .map(|index| {
            let mut output = vec![0.0; plan.output_shape(index).iter().product()];
            plan.output(index, &mut output);
            output
        })
        .collect()
}

fn check_forward(fixture: &Fixture, config: &StarDistConfig, name: &str) {
    let graph = Arc::new(config.graph());
    let weights = recorded_weights(&graph, fixture);
    for case in ["a", "b"] {
        if !fixture.has(&format!("{case}.input")) {
            continue;
        }
        let input = fixture.f32(&format!("{case}.input"));
        let shape = [input.shape()[0], input.shape()[1], input.shape()[2]];
        let input: Vec<f32> = input.iter().copied().collect();
        let want = |part: &str| fixture.f32(&format!("{case}.{part}")).iter().copied().collect::<Vec<_>>();
        let candle = CandleNetwork::new(&graph, &weights, &Device::cpu(), Precision::Single).unwrap();
        let pass = candle.forward(&input, shape, false).unwrap();
        let from_candle: Vec<Vec<f32>> = (0..graph.outputs().len())
            .map(|index| pass.output(index).unwrap().into_iter().map(|v| v as f32).collect())
            .collect();
        let runs = [
            ("direct", outputs(&graph, &weights, &input, shape, Method::Direct), 1.0),
            ("fast", outputs(&graph, &weights, &input, shape, Method::Fast), 5.0),
            ("candle", from_candle, 1.0),
        ];
        for (executor, got, slack) in runs {
            let label = format!("{name} {case} {executor}");
            assert_close(&format!("{label} prob"), &sigmoid(&got[0]), &want("prob"), slack * 2e-5);
            assert_close(&format!("{label} dist"), &got[1], &want("dist"), slack * 2e-4);
            if let Some(classes) = config.n_classes {
                let class = softmax(&got[2], classes + 1);
                assert_close(&format!("{label} class"), &class, &want("prob_class"), slack * 2e-5);
            }
        }
    }
}

fn small() -> StarDistConfig {
    StarDistConfig { n_filter_base: 4, n_rays: 8, n_depth: 2, net_conv_after_unet: 16, ..Default::default() }
}

#[test]
fn forward_equals_the_original() {
    let cases = [
        ("net_f4_c1_g11_depth2", StarDistConfig { n_rays: 16, grid: [1, 1], ..small() }),
        ("net_f4_c1_g41", StarDistConfig { grid: [4, 1], ..small() }),
        ("net_f4_c1_g22_nofeat", StarDistConfig { net_conv_after_unet: 0, ..small() }),
        ("net_f4_c1_g22_bn", StarDistConfig { batch_norm: true, ..small() }),
        ("net_f4_c2_g22_classes3", StarDistConfig { n_channels: 2, n_classes: Some(3), ..small() }),
    ];
    for (name, config) in cases {
        check_forward(&fixture(&format!("stardist/{name}")), &config, name);
    }
}

#[test]
#[cfg_attr(not(real_images), ignore = "the folder with real images is not there (CELLSPARSE_SHARED)")]
fn forward_of_larger_networks_equals_the_original() {
    let shared = common::shared().unwrap();
    let eight = StarDistConfig { n_filter_base: 8, ..Default::default() };
    for (name, config) in [
        ("net_default_c1_g22", StarDistConfig::default()),
        ("net_f8_c1_g22", eight.clone()),
        ("net_f8_c3_g22", StarDistConfig { n_channels: 3, ..eight }),
    ] {
        let path = shared.join(format!("fixtures/stardist/{name}.safetensors"));
        check_forward(&Fixture::read(&path), &config, name);
    }
}

/// Loss `sum(output * factor)` of all outputs, so that the output gradients are the factors.
fn factors(graph: &Graph, shape: [usize; 3]) -> Vec<Vec<f64>> {
    let mut random = Random::new(11, 0);
    graph
        .outputs()
        .iter()
        .map(|&id| {
            let node = &graph.nodes()[id];
            let len = shape[0]
                * {
                    let [h, w] = node.size(shape[1], shape[2]);
                    h * w
                }
                * node.channels;
            (0..len).map(|_| random.uniform(-1.0, 1.0)).collect()
        })
        .collect()
}

/// A network with random weights and biases, an input, and the gradients that Candle computes in 64 bits.
struct Gradients {
    graph: Arc<Graph>,
    weights: Weights,
    input: Vec<f32>,
    factors: Vec<Vec<f64>>,
    want: Vec<Vec<f64>>,
}

impl Gradients {
    const SHAPE: [usize; 3] = [2, 16, 24];

    fn of(config: &StarDistConfig) -> Self {
        let graph = Arc::new(config.graph());
        let mut weights = Weights::init(&graph, 3);
        let mut random = Random::new(4, 0);
        for parameter in weights.parameters_mut() {
            if parameter.spec.shape.len() == 1 {
                parameter.values.iter_mut().for_each(|v| *v += random.uniform(0.0, 0.2) as f32);
            }
        }
        let values = Self::SHAPE.iter().product::<usize>() * config.n_channels;
        let input: Vec<f32> = (0..values).map(|_| random.uniform(0.0, 1.0) as f32).collect();
        let factors = factors(&graph, Self::SHAPE);
        let candle = CandleNetwork::new(&graph, &weights, &Device::cpu(), Precision::Double).unwrap();
        let pass = candle.forward(&input, Self::SHAPE, true).unwrap();
        let want = candle.backward(&pass, &factors).unwrap();
        Self { graph, weights, input, factors, want }
    }

    /// Those that the kernels of this crate compute.
    fn computed(&self, method: Method) -> Vec<Vec<f32>> {
        let mut plan = CpuPlan::new(&self.graph, method, Self::SHAPE, true).unwrap();
        plan.set_weights(&self.weights);
        plan.forward(&self.weights, &self.input);
        let single: Vec<Vec<f32>> = self.factors.iter().map(|f| f.iter().map(|v| *v as f32).collect()).collect();
        let single: Vec<&[f32]> = single.iter().map(Vec::as_slice).collect();
        let mut got: Vec<Vec<f32>> = self.weights.parameters().iter().map(|p| vec![0.0; p.values.len()]).collect();
        plan.backward(&self.weights, &single, &mut got);
        got
    }
}

#[test]
fn gradients_of_both_executors_agree() {
    for config in [
        small(),
        StarDistConfig { batch_norm: true, ..small() },
        StarDistConfig { grid: [4, 1], n_channels: 5, n_classes: Some(2), ..small() },
    ] {
        let case = Gradients::of(&config);
        let got = case.computed(Method::Fast);
        let largest = |values: &[f64]| values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let overall = case.want.iter().map(|values| largest(values)).fold(0.0, f64::max);
        for ((parameter, got), want) in case.weights.parameters().iter().zip(&got).zip(&case.want) {
            // The gradient of a bias before batch normalisation is 0 up to rounding.
            let scale = largest(want).max(1e-2 * overall);
            let worst = got.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(worst <= 2e-3 * scale, "{}: off by {worst:e} of {scale:e}", parameter.spec.name);
        }
    }
}

#[test]
fn gradients_from_16_bit_factors_lie_within_a_tenth_of_those_in_64_bits() {
    // Of a network with random weights that normalises over batches, gradients follow the last digits of the maps: no bound holds.
    for config in [small(), StarDistConfig { grid: [4, 1], n_channels: 5, n_classes: Some(2), ..small() }] {
        let case = Gradients::of(&config);
        let got = case.computed(Method::FastBf16);
        let length = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
        let whole = length(&mut case.want.iter().flatten().copied());
        let error = got.iter().flatten().zip(case.want.iter().flatten()).map(|(a, b)| f64::from(*a) - b);
        let error = length(&mut error.into_iter()) / whole;
        assert!(error < 0.1, "{error}");
        assert!(error > 1e-4, "{error}: nothing was rounded");
        assert_eq!(got, case.computed(Method::FastBf16));
    }
}

#[test]
fn gradients_agree_with_central_differences_in_f64() {
    let config = small();
    let graph = config.graph();
    let mut weights = Weights::init(&graph, 9);
    let shape = [1, 16, 16];
    let mut random = Random::new(6, 0);
    // Biases of 0 put dead pixels exactly on the kink of the ReLU, where a central difference is half the slope.
    for parameter in weights.parameters_mut().filter(|p| p.spec.shape.len() == 1) {
        parameter.values.iter_mut().for_each(|value| *value = random.uniform(0.01, 0.2) as f32);
    }
    let input: Vec<f32> = (0..16 * 16).map(|_| random.uniform(0.0, 1.0) as f32).collect();
    let factors = factors(&graph, shape);
    let loss = |weights: &Weights| -> f64 {
        let network = CandleNetwork::new(&graph, weights, &Device::cpu(), Precision::Double).unwrap();
        let pass = network.forward(&input, shape, true).unwrap();
        let sum =
            |index: usize| -> f64 { pass.output(index).unwrap().iter().zip(&factors[index]).map(|(a, b)| a * b).sum() };
        sum(0) + sum(1)
    };
    let network = CandleNetwork::new(&graph, &weights, &Device::cpu(), Precision::Double).unwrap();
    let pass = network.forward(&input, shape, true).unwrap();
    let gradients = network.backward(&pass, &factors).unwrap();
    let names: Vec<String> = weights.parameters().iter().map(|p| p.spec.name.clone()).collect();
    let mut checked = 0;
    for (index, name) in names.iter().enumerate() {
        let at = random.below(gradients[index].len());
        let old = weights.values(index)[at];
        let step = 2e-6f32;
        let mut at_value = |value: f32| {
            weights.values_mut(index)[at] = value;
            loss(&weights)
        };
        let (up, down) = (old + step, old - step);
        let slope = (at_value(up) - at_value(down)) / (f64::from(up) - f64::from(down));
        at_value(old);
        let scale = gradients[index].iter().fold(1e-6, |m: f64, v| m.max(v.abs()));
        assert!((slope - gradients[index][at]).abs() < 2e-3 * scale, "{name}: {slope} and {}", gradients[index][at]);
        checked += 1;
    }
    assert!(checked > 20);
}

#[test]
fn weights_of_another_network_are_refused() {
    let recorded = fixture("stardist/net_f4_c1_g22_nofeat");
    let graph = small().graph();
    let arrays = recorded
        .names()
        .into_iter()
        .filter_map(|name| {
            let values = recorded.f32(&name);
            let layer = name.strip_prefix("w.")?.to_string();
            Some((layer, (values.shape().to_vec(), values.iter().copied().collect())))
        })
        .collect();
    let message = Weights::from_named(&graph, arrays).unwrap_err().to_string();
    assert!(message.contains("features/kernel"), "{message}");
}

#[test]
fn a_size_that_does_not_divide_is_refused() {
    let graph = Arc::new(small().graph());
    let message = CpuPlan::new(&graph, Method::Fast, [1, 20, 16], false).unwrap_err().to_string();
    assert!(message.contains("multiple of 8") && message.contains("20 x 16"), "{message}");
}
