//! Passes that are asked to stop at any moment: what they return is right, and so is what the same plan computes afterwards.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{CellposeConfig, CpuPlan, ElephantConfig, Graph, Method, StarDistConfig, Weights};
use crate::control::CancelToken;
use crate::error::Result;

const SHAPE: [usize; 3] = [2, 64, 64];

struct Passes {
    plan: CpuPlan,
    weights: Weights,
    input: Vec<f32>,
    slopes: Vec<Vec<f32>>,
}

impl Passes {
    fn new(graph: Graph) -> Self {
        let (graph, input) = (Arc::new(graph), SHAPE.iter().product::<usize>());
        let weights = Weights::init(&graph, 1);
        let mut plan = CpuPlan::new(&graph, Method::Fast, SHAPE, true).unwrap();
        plan.set_weights(&weights);
        let values = |count: usize, period: usize| (0..count).map(|at| (at % period) as f32 / period as f32).collect();
        let input = values(input * graph.input_channels(), 7);
        let outputs = 0..plan.output_count();
        let slopes = outputs.map(|index| values(plan.output_shape(index).iter().product(), 5)).collect();
        Self { plan, weights, input, slopes }
    }

    /// Outputs of a forward pass and gradients of a backward pass.
    fn run(&mut self, cancel: &CancelToken) -> Result<[Vec<Vec<f32>>; 2]> {
        self.plan.forward_until(&self.weights, &self.input, cancel)?;
        let mut outputs = self.slopes.clone();
        outputs.iter_mut().enumerate().for_each(|(index, output)| self.plan.output(index, output));
        let slopes: Vec<&[f32]> = self.slopes.iter().map(Vec::as_slice).collect();
        let mut gradients: Vec<Vec<f32>> =
            self.weights.parameters().iter().map(|parameter| vec![0.0; parameter.values.len()]).collect();
        self.plan.backward_until(&self.weights, &slopes, &mut gradients, cancel)?;
        Ok([outputs, gradients])
    }
}

#[test]
fn a_pass_that_is_stopped_at_any_moment_leaves_the_next_one_as_it_was() {
    let graphs = [
        StarDistConfig { n_filter_base: 8, n_depth: 1, net_conv_after_unet: 16, ..Default::default() }.graph(),
        CellposeConfig { widths: vec![8, 16], ..Default::default() }.graph(),
        ElephantConfig { widths: vec![8, 16], ..Default::default() }.graph(),
    ];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let mut stopped = 0;
    for graph in graphs {
        let mut passes = Passes::new(graph);
        let mut run = |cancel: &CancelToken| pool.install(|| passes.run(cancel));
        let expected = run(&CancelToken::new()).unwrap();
        let begun = Instant::now();
        assert!(run(&CancelToken::new()).unwrap() == expected);
        let whole = begun.elapsed();
        for moment in 0..30_u32 {
            let cancel = CancelToken::new();
            let outcome = thread::scope(|scope| {
                scope.spawn(|| {
                    let asked = Instant::now();
                    while asked.elapsed() < whole * moment / 30 {
                        thread::sleep(Duration::from_micros(20));
                    }
                    cancel.cancel();
                });
                run(&cancel)
            });
            match outcome {
                Ok(values) => assert!(values == expected, "an unfinished pass was taken for a whole one"),
                Err(_) => stopped += 1,
            }
            assert!(run(&CancelToken::new()).unwrap() == expected, "what was stopped is left in the next pass");
        }
    }
    assert!(stopped > 20, "{stopped} passes of 90 were stopped");
}
