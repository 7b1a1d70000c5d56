//! Convolution layers of the default StarDist network at batch 8: forward, input gradient, weight gradient.
//!
//! `cargo bench -p cellsparse-core --bench kernels`; throughput is in multiplications and additions of the direct
//! algorithm, whichever method runs.

use std::hint::black_box;

use cellsparse_kernels::{ActivationDerivative, Buffer, Conv, Destination, Layout, Level, Method, Store};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Kernel, input channels, output channels, side of the map.
const LAYERS: [(usize, usize, usize, usize); 6] =
    [(3, 1, 32, 224), (3, 32, 32, 224), (3, 64, 64, 56), (3, 128, 128, 28), (3, 128, 256, 14), (1, 128, 32, 112)];

fn layers(criterion: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().build().expect("a thread pool");
    for (kernel, inputs, outputs, side) in LAYERS {
        let mut group = criterion.benchmark_group(format!("{kernel}x{kernel} {inputs}->{outputs} @{side}"));
        group
            .sample_size(10)
            .throughput(Throughput::Elements((2 * kernel * kernel * inputs * outputs * 8 * side * side) as u64));
        let (from, to) = (Layout::input(8, inputs, side, side), Layout::new(8, outputs, side, side));
        let mut conv = Conv::new(Level::detect(), Method::Fast, kernel, &[from], &[to]);
        let weights = vec![0.01; kernel * kernel * inputs * outputs];
        conv.set_weights(&weights, &vec![0.0; outputs]);
        let mut x = Buffer::zeros(from.len());
        from.pack(&vec![0.5; 8 * side * side * inputs], x.as_mut_slice());
        let mut y = Buffer::zeros(to.len());
        group.bench_function("forward", |b| {
            b.iter(|| {
                pool.install(|| conv.forward(&[x.as_slice()], None, Some(0.0), &mut [black_box(y.as_mut_slice())]))
            })
        });
        if inputs > Layout::NARROW {
            conv.set_transposed_weights(&weights);
            let mut gradient = Buffer::zeros(from.len());
            group.bench_function("input gradient", |b| {
                b.iter(|| {
                    pool.install(|| {
                        let gradient = black_box(gradient.as_mut_slice());
                        let slope = Some(ActivationDerivative { values: Some(x.as_slice()), negative_slope: 0.0 });
                        let to = Destination { gradient, store: Store { accumulate: false, slope } };
                        conv.input_gradient(&[y.as_slice()], &mut [to]);
                    })
                })
            });
        }
        let (mut workspace, mut dw, mut db) = (Buffer::default(), weights.clone(), vec![0.0; outputs]);
        group.bench_function("weight gradient", |b| {
            b.iter(|| {
                pool.install(|| {
                    conv.weight_gradient(&[x.as_slice()], &[y.as_slice()], black_box(&mut dw), &mut db, &mut workspace);
                })
            })
        });
        group.finish();
    }
}

criterion_group!(benches, layers);
criterion_main!(benches);
