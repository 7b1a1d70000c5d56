use super::*;
use crate::error::Error;
use crate::networks::{CandleNetwork, CellposeConfig, ElephantConfig, Precision, StarDistConfig};
use crate::random::Random;

fn graphs() -> [Graph; 3] {
    let star = StarDistConfig {
        n_rays: 5,
        n_classes: Some(2),
        n_depth: 2,
        n_filter_base: 4,
        net_conv_after_unet: 6,
        ..StarDistConfig::default()
    };
    let cellpose = CellposeConfig { widths: vec![3, 4, 5], ..CellposeConfig::default() };
    [star.graph(), cellpose.graph(), ElephantConfig { widths: vec![4, 8], ..ElephantConfig::default() }.graph()]
}

fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::init(graph, 5);
    let mut random = Random::new(1, 9);
    for parameter in weights.parameters_mut().filter(|parameter| parameter.spec.shape.len() == 1) {
        parameter.values.iter_mut().for_each(|value| *value += random.uniform(0.0, 0.3) as f32);
    }
    weights
}

#[test]
fn passes_agree_with_autograd_in_64_bits() {
    let shape = [2, 32, 48];
    for graph in graphs().map(Arc::new) {
        let weights = weights(&graph);
        let mut random = Random::new(2, 3);
        let len = shape.iter().product::<usize>() * graph.input_channels();
        let input: Vec<f32> = (0..len).map(|_| random.normal() as f32).collect();
        let oracle = CandleNetwork::new(&graph, &weights, &Device::cpu(), Precision::Double).unwrap();
        let network = DeviceNetwork::new(&graph, &CandleDevice::Cpu, DType::F64).unwrap();
        let parameters = network.parameters(&weights).unwrap();
        let cancel = CancelToken::new();
        for purpose in [Purpose::Inference(None), Purpose::Training] {
            let want = oracle.forward(&input, shape, purpose == Purpose::Training).unwrap();
            let pass = network.forward(&parameters, &input, shape, purpose, &cancel).unwrap();
            let mut factors = Vec::new();
            for (index, output) in pass.outputs().iter().enumerate() {
                let rows = output.permute((0, 2, 3, 1)).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
                let want = want.output(index).unwrap();
                assert!(rows.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-10), "output {index}");
                factors.push((0..rows.len()).map(|_| random.normal() / 100.0).collect::<Vec<f64>>());
            }
            if purpose != Purpose::Training {
                continue;
            }
            let given = pass.outputs().iter().zip(&factors).map(|(output, factors)| {
                let (b, c, h, w) = output.dims4().unwrap();
                let factors = Tensor::from_slice(factors, (b, h, w, c), &CandleDevice::Cpu).unwrap();
                Some(factors.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap())
            });
            let given: Vec<_> = given.collect();
            let statistics = want.statistics().unwrap();
            let own = network.statistics(&pass);
            assert_eq!(own.len(), statistics.len());
            for ((_, own, _), (_, want)) in own.iter().zip(&statistics) {
                for (own, want) in own.iter().zip(want) {
                    let own = own.to_vec1::<f64>().unwrap();
                    assert!(own.iter().zip(want).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-6));
                }
            }
            let wanted = oracle.backward(&want, &factors).unwrap();
            let found = network.backward(&parameters, pass, &given, &cancel).unwrap();
            for ((spec, found), want) in graph.parameters().iter().zip(found).zip(wanted) {
                let Some(found) = found else {
                    assert!(!spec.trainable || want.iter().all(|value| *value == 0.0), "{}", spec.name);
                    continue;
                };
                assert_eq!(found.dims(), spec.shape);
                let found = found.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                let far = found.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(far < 1e-9, "{}: {far:e}", spec.name);
            }
        }
    }
}

/// The accelerator that the tests are to run on, else the CPU.
fn accelerator() -> CandleDevice {
    let device = match std::env::var("CELLSPARSE_TEST_DEVICE").ok().as_deref() {
        None => Device::stand_in(None),
        Some("metal") => Device::metal().unwrap(),
        Some(name) => Device::cuda(name.trim_start_matches("cuda:").parse().unwrap()).unwrap(),
    };
    device.candle()
}

#[test]
fn an_accelerator_computes_what_the_cpu_does_in_64_bits() {
    let shape = [2, 32, 48];
    for graph in graphs().map(Arc::new) {
        let weights = weights(&graph);
        let mut random = Random::new(4, 3);
        let len = shape.iter().product::<usize>() * graph.input_channels();
        let input: Vec<f32> = (0..len).map(|_| random.normal() as f32).collect();
        let cancel = CancelToken::new();
        let computed = |device: &CandleDevice, numbers: DType| -> Vec<Vec<f32>> {
            let network = DeviceNetwork::new(&graph, device, numbers).unwrap();
            let parameters = network.parameters(&weights).unwrap();
            let pass = network.forward(&parameters, &input, shape, Purpose::Training, &cancel).unwrap();
            let outputs = pass.outputs().to_vec();
            let given: Vec<_> = outputs.iter().map(|output| Some((output / 100.0).unwrap())).collect();
            let gradients = network.backward(&parameters, pass, &given, &cancel).unwrap();
            let values = |tensor: &Tensor| {
                let tensor = tensor.flatten_all().unwrap().to_device(&CandleDevice::Cpu).unwrap();
                tensor.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap()
            };
            outputs.iter().chain(gradients.iter().flatten()).map(values).collect()
        };
        let want = computed(&CandleDevice::Cpu, DType::F64);
        for (index, (found, want)) in computed(&accelerator(), DType::F32).iter().zip(&want).enumerate() {
            let largest = want.iter().fold(1e-3f32, |largest, value| largest.max(value.abs()));
            let far = found.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-3 * largest, "{index}: {far:e} of {largest:e}");
        }
    }
}

#[test]
fn a_part_of_an_image_is_normalised_by_the_statistics_of_the_whole_as_on_the_cpu() {
    let [.., graph] = graphs();
    let graph = Arc::new(graph);
    let weights = weights(&graph);
    let shape = [1, 32, 32];
    let image = |shift: f32| -> Vec<f32> {
        let pixel = |i: usize| shift + ((i * 7919) % 100) as f32 / 50.0;
        (0..32 * 32 * graph.input_channels()).map(pixel).collect()
    };
    let told = [Device::cpu(), Device::stand_in(None)].map(|device| {
        let mut engine = crate::networks::Engine::new(&graph, &device, shape, false).unwrap();
        engine.set_weights(&weights).unwrap();
        let mut outputs = Vec::new();
        engine.forward(&weights, &image(0.0), &mut outputs).unwrap();
        let seen = engine.image_statistics();
        engine.set_image_statistics(Some(&seen));
        engine.forward(&weights, &image(0.5), &mut outputs).unwrap();
        (seen, outputs)
    });
    let [(on_cpu, want), (on_device, found)] = told;
    assert!(!on_cpu.is_empty());
    let pairs = on_cpu.0.iter().flatten().flatten().zip(on_device.0.iter().flatten().flatten());
    assert!(pairs.clone().count() > 10 && pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-3 * (1.0 + a.abs())));
    assert!(want[0].iter().zip(&found[0]).all(|(a, b)| (a - b).abs() < 1e-3 * (1.0 + a.abs())));
}

#[test]
fn sixteen_bits_stay_near() {
    let shape = [1, 32, 32];
    for graph in graphs().map(Arc::new) {
        let weights = weights(&graph);
        let input: Vec<f32> =
            (0..32 * 32 * graph.input_channels()).map(|i| ((i * 7919) % 100) as f32 / 50.0 - 1.0).collect();
        let outputs = |numbers: DType| {
            let network = DeviceNetwork::new(&graph, &CandleDevice::Cpu, numbers).unwrap();
            let parameters = network.parameters(&weights).unwrap();
            let cancel = CancelToken::new();
            let pass = network.forward(&parameters, &input, shape, Purpose::Training, &cancel).unwrap();
            let output = pass.outputs()[0].clone();
            assert_eq!(output.dtype(), DType::F32);
            let found = network.backward(&parameters, pass, &[Some(output.clone())], &cancel).unwrap();
            let gradient = found.into_iter().flatten().next().unwrap();
            assert_eq!(gradient.dtype(), DType::F32);
            [output, gradient].map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        };
        let (near, exact) = (outputs(DType::BF16), outputs(DType::F32));
        for (near, exact) in near.iter().zip(&exact) {
            let apart = near.iter().zip(exact).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            let size = exact.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
            // A value has 8 bits, and goes through some twenty layers, forward and back.
            assert!((apart / size).sqrt() < 0.3, "{}", (apart / size).sqrt());
        }
    }
}

#[test]
fn a_pass_ends_between_two_layers() {
    let graph = Arc::new(ElephantConfig { widths: vec![2, 2], ..ElephantConfig::default() }.graph());
    let network = DeviceNetwork::new(&graph, &CandleDevice::Cpu, DType::F32).unwrap();
    let parameters = network.parameters(&Weights::init(&graph, 0)).unwrap();
    let cancel = CancelToken::new();
    cancel.cancel();
    let input = vec![0.0; 32 * 32 * graph.input_channels()];
    let ended = network.forward(&parameters, &input, [1, 32, 32], Purpose::Training, &cancel);
    assert!(matches!(ended, Err(Error::Cancelled)));
}
