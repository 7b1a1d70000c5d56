//! Time of every layer of a network in a training step or a prediction, beside what the processor could do at most.
//!
//! `cargo run --release -p cellsparse-core --example layers -- [stardist|cellpose|cellpose-reference|elephant] [THREADS] [SIDE] [f32|bf16] [BATCH] [train|predict]`
//! runs training steps on batches of BATCH patches (8), or forward passes alone, and prints medians. Heads that are computed together
//! stand in the line of the first. Speeds count the multiplications and additions of the
//! direct algorithm, so Winograd layers may exceed the peak.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cellsparse_core::networks::{CellposeConfig, CpuPlan, ElephantConfig, Graph, Method, NodeTimes, Op, Weights};
use cellsparse_core::random::Random;
use cellsparse_core::{Error, Result, StarDistConfig};
use cellsparse_kernels::multiply_add_peak;

const STEPS: usize = 9;
const WARM_UP: usize = 2;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("stardist", String::as_str);
    let number = |index: usize, default: usize| arguments.get(index).and_then(|v| v.parse().ok()).unwrap_or(default);
    let (threads, side) = (number(1, 2), number(2, 224));
    let graph = match name {
        "stardist" => StarDistConfig::default().graph(),
        "cellpose" => CellposeConfig::default().graph(),
        "cellpose-reference" => CellposeConfig::reference().graph(),
        "elephant" => ElephantConfig::default().graph(),
        other => return Err(Error::Config(format!("no network '{other}'; see the first lines of benches/layers.rs"))),
    };
    let method = if arguments.get(3).is_some_and(|name| name == "bf16") { Method::FastBf16 } else { Method::Fast };
    let trains = arguments.get(5).is_none_or(|name| name != "predict");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| Error::Internal(error.to_string()))?
        .install(|| measure(name, &Arc::new(graph), method, threads, [number(4, 8), side, side], trains))
}

fn measure(
    name: &str,
    graph: &Arc<Graph>,
    method: Method,
    threads: usize,
    shape: [usize; 3],
    trains: bool,
) -> Result<()> {
    let mut plan = CpuPlan::new(graph, method, shape, trains)?;
    let weights = Weights::init(graph, 0);
    let mut random = Random::new(0, 0);
    let input: Vec<f32> =
        (0..shape.iter().product::<usize>() * graph.input_channels()).map(|_| random.unit() as f32).collect();
    let outputs: Vec<Vec<f32>> =
        (0..plan.output_count()).map(|index| vec![1e-3; plan.output_shape(index).iter().product()]).collect();
    let outputs: Vec<&[f32]> = outputs.iter().map(Vec::as_slice).collect();
    let mut gradients: Vec<Vec<f32>> = weights.parameters().iter().map(|p| vec![0.0; p.values.len()]).collect();
    let (mut steps, mut nodes, mut packing) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..WARM_UP + STEPS {
        let begin = Instant::now();
        plan.set_weights(&weights);
        let packed = begin.elapsed();
        plan.forward(&weights, &input);
        if trains {
            plan.backward(&weights, &outputs, &mut gradients);
        }
        if step >= WARM_UP {
            steps.push(begin.elapsed());
            packing.push(packed);
            nodes.push(plan.times().to_vec());
        }
    }
    let peak = multiply_add_peak(plan.level()) / 1e9;
    let [batch, side, _] = shape;
    println!("{name}, {batch} x {side} x {side}, {threads} threads, {}, {method:?}", plan.level().name());
    println!(
        "{} {:.1} ms, weights packed in {:.1} ms",
        if trains { "step without loss and optimiser" } else { "forward" },
        ms(&steps),
        ms(&packing)
    );
    println!("maps and gradients {:.0} MB, multiply-add peak {peak:.0} GFLOP/s\n", plan.bytes() as f64 / 1e6);
    println!(
        "| layer | ms forward | ms input gradient | ms weight gradient | GFLOP/s forward, % of peak | input | weights |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (id, node) in graph.nodes().iter().enumerate() {
        let pick =
            |part: fn(&NodeTimes) -> Duration| ms(&nodes.iter().map(|times| part(&times[id])).collect::<Vec<_>>());
        let times = [pick(|t| t.forward), pick(|t| t.inputs), pick(|t| t.parameters)];
        let [h, w] = node.size(side, side);
        let (title, work) = match node.op {
            Op::Conv { input, kernel, .. } => {
                let inputs = graph.nodes()[input].channels;
                let work = 2 * kernel * kernel * inputs * node.channels * batch * h * w;
                (format!("{} {kernel}x{kernel} {inputs}->{} @{h}", node.name, node.channels), work as f64 / 1e6)
            }
            Op::Input | Op::Concat { .. } => continue,
            _ => (format!("{} @{h}", node.name), 0.0),
        };
        if times.iter().sum::<f64>() < 0.3 {
            continue;
        }
        // A layer that reads the input of the network passes no gradient on.
        let speed = |ms: f64| match work > 0.0 && ms > 0.05 {
            true => format!("{:.0}, {:.0} %", work / ms, 100.0 * work / ms / peak),
            false => "-".into(),
        };
        println!(
            "| {title} | {:.1} | {:.1} | {:.1} | {} | {} | {} |",
            times[0],
            times[1],
            times[2],
            speed(times[0]),
            speed(times[1]),
            speed(times[2])
        );
    }
    Ok(())
}

fn ms(times: &[Duration]) -> f64 {
    let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}
