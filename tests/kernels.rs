//! Every layer but the convolution with every instruction set of the machine against the same layer in plain Rust.
//!
//! `tests/neon.sh` runs this and the tests of the crate itself on an emulated AArch64 processor.

use cellsparse_kernels::*;

#[path = "../cellsparse-kernels/src/test_random.rs"]
mod test_random;

use test_random::Random;

/// Values in [-1, 1), a quarter of them rounded so that equal ones, zeros of both signs and ties occur.
fn map(random: &mut Random, layout: &Layout) -> Buffer {
    let len = layout.batch() * layout.height() * layout.width() * layout.channels();
    let values: Vec<f32> = (0..len)
        .map(|_| {
            let value = random.uniform(-1.0, 1.0);
            (if random.uniform(0.0, 1.0) < 0.25 { (4.0 * value).round() / 4.0 } else { value }) as f32
        })
        .collect();
    let mut map = Buffer::zeros(layout.len());
    layout.pack(&values, map.as_mut_slice());
    map
}

fn line(random: &mut Random, layout: &Layout) -> Vec<f32> {
    (0..layout.batch() * layout.channels()).map(|_| random.uniform(-1.0, 1.0) as f32).collect()
}

/// What a layer gives on every level, by the name of the layer.
type Results = Vec<(String, Vec<f64>)>;

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// All ways to store a gradient.
fn stores(values: Option<&[f32]>) -> Vec<(&'static str, Store<'_>)> {
    let slope = |negative_slope| Some(ActivationDerivative { values, negative_slope });
    vec![
        ("stored", Store::default()),
        ("added", Store { accumulate: true, slope: None }),
        ("times a slope", Store { accumulate: false, slope: slope(0.0) }),
        ("added, times a slope", Store { accumulate: true, slope: slope(0.25) }),
    ]
}

fn layers(level: Level, (batch, channels, height, width): (usize, usize, usize, usize)) -> Results {
    let mut random = Random::new(11, (channels * height + width) as u64);
    let by = (2, 3);
    let coarse = Layout::new(batch, channels, height, width);
    let fine = Layout::new(batch, channels, height * by.0, width * by.1);
    let (small, large) = (map(&mut random, &coarse), map(&mut random, &fine));
    let (small_gradient, large_gradient) = (map(&mut random, &coarse), map(&mut random, &fine));
    let coefficients: [Vec<f32>; 3] = std::array::from_fn(|_| line(&mut random, &coarse));
    let mut results = Results::new();

    let mut to = Buffer::zeros(coarse.len());
    max_pool(level, &fine, large.as_slice(), by, &coarse, to.as_mut_slice());
    results.push(("max_pool".into(), widened(to.as_slice())));
    let mut to = Buffer::zeros(fine.len());
    upsample(level, &coarse, small.as_slice(), by, &fine, to.as_mut_slice());
    results.push(("upsample".into(), widened(to.as_slice())));
    for slope in [None, Some(0.0), Some(0.25)] {
        let mut to = Buffer::zeros(coarse.len());
        affine(level, &coarse, small.as_slice(), [&coefficients[0], &coefficients[1]], slope, to.as_mut_slice());
        results.push((format!("affine {slope:?}"), widened(to.as_slice())));
    }
    let sums = channel_products(level, &coarse, small.as_slice(), small_gradient.as_slice(), &coefficients[0]);
    results.push(("channel_products".into(), sums.into_iter().flatten().collect()));
    let moments = channel_moments(level, &coarse, small.as_slice());
    results.push(("channel_moments".into(), moments.into_iter().flatten().collect()));

    for (name, store) in stores(Some(large.as_slice())) {
        let mut to = large_gradient.clone();
        let gradient = (&coarse, small_gradient.as_slice());
        max_pool_gradient(level, (&fine, Some(large.as_slice())), by, gradient, to.as_mut_slice(), store);
        results.push((format!("max_pool_gradient {name}"), widened(to.as_slice())));
    }
    let in_place = Store { accumulate: false, slope: Some(ActivationDerivative { values: None, negative_slope: 0.5 }) };
    let mut to = large.clone();
    max_pool_gradient(level, (&fine, None), by, (&coarse, small_gradient.as_slice()), to.as_mut_slice(), in_place);
    results.push(("max_pool_gradient in place".into(), widened(to.as_slice())));
    for (name, store) in stores(Some(small.as_slice())) {
        let mut to = small_gradient.clone();
        upsample_gradient(level, (&fine, large_gradient.as_slice()), by, &coarse, to.as_mut_slice(), store);
        results.push((format!("upsample_gradient {name}"), widened(to.as_slice())));
        let mut to = small_gradient.clone();
        let coefficients = coefficients.each_ref().map(Vec::as_slice);
        let inputs = (small_gradient.as_slice(), Some(small.as_slice()));
        affine_gradient(level, &coarse, inputs, coefficients, to.as_mut_slice(), store);
        results.push((format!("affine_gradient {name}"), widened(to.as_slice())));
    }
    results
}

#[test]
fn levels_include_the_one_of_the_processor() {
    let names: Vec<&str> = Level::available().into_iter().map(Level::name).collect();
    println!("levels: {names:?}, detected: {}", Level::detect().name());
    assert_eq!(names[0], "scalar");
    assert!(!cfg!(target_arch = "aarch64") || names.contains(&"neon"), "{names:?}");
}

#[test]
fn layers_agree_with_plain_rust_on_every_level() {
    let sizes = [(1, 1, 1, 1), (2, 5, 3, 7), (1, 16, 5, 9), (3, 33, 2, 5), (2, 20, 7, 3)];
    for size in sizes.into_iter().take(if cfg!(miri) { 2 } else { 5 }) {
        let expected = layers(Level::SCALAR, size);
        for level in Level::available() {
            for ((name, got), (_, want)) in layers(level, size).iter().zip(&expected) {
                // A fused multiply-add rounds once; the other operations give the same values on every level.
                let fused = name.starts_with("affine") || name.starts_with("channel");
                let tolerance = if fused { 1e-5 } else { 0.0 };
                assert_eq!(got.len(), want.len());
                for (got, want) in got.iter().zip(want) {
                    let agrees = (got - want).abs() <= tolerance;
                    assert!(agrees, "{} {name} {size:?}: {got} instead of {want}", level.name());
                }
            }
        }
    }
}

#[test]
fn values_that_are_no_numbers_pass_through_pooling_as_in_plain_rust() {
    let (fine, coarse) = (Layout::new(1, 16, 2, 2), Layout::new(1, 16, 1, 1));
    let pooled = |level, place: usize| {
        let values: Vec<f32> = (0..64).map(|i| if i / 16 == place { f32::NAN } else { i as f32 }).collect();
        let (mut from, mut to) = (Buffer::zeros(fine.len()), Buffer::zeros(coarse.len()));
        fine.pack(&values, from.as_mut_slice());
        max_pool(level, &fine, from.as_slice(), (2, 2), &coarse, to.as_mut_slice());
        to.as_slice().iter().map(|value| value.to_bits()).collect::<Vec<_>>()
    };
    for level in Level::available() {
        for place in 0..4 {
            assert_eq!(pooled(level, place), pooled(Level::SCALAR, place), "{} {place}", level.name());
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "arithmetic on large maps")]
fn moments_of_large_and_nearly_equal_values_are_exact() {
    let layout = Layout::new(2, 17, 29, 31);
    let mut random = Random::new(2, 0);
    let pixels = layout.height() * layout.width();
    for (mean, deviation) in [(0.0, 1.0), (1e3, 1e-2), (-3e4, 0.5), (0.0, 1e-4)] {
        // Means and deviations differ by channel and image, and the first row lies far from the others.
        let values: Vec<f32> = (0..2 * pixels * 17)
            .map(|i| {
                let channel = (i % 17) as f64;
                let far = if (i / 17) % pixels < 31 { 20.0 * deviation } else { 0.0 };
                (mean * (1.0 + channel / 8.0) + far + deviation * random.uniform(-1.0, 1.0)) as f32
            })
            .collect();
        let mut map = Buffer::zeros(layout.len());
        layout.pack(&values, map.as_mut_slice());
        for level in Level::available() {
            let moments = channel_moments(level, &layout, map.as_slice());
            for (index, [found, squares]) in moments.into_iter().enumerate() {
                let (n, channel) = (index / 17, index % 17);
                let values = values[n * pixels * 17..][..pixels * 17].iter().skip(channel).step_by(17);
                let values: Vec<f64> = values.map(|value| f64::from(*value)).collect();
                let exact = values.iter().sum::<f64>() / pixels as f64;
                let wanted: f64 = values.iter().map(|value| (value - exact) * (value - exact)).sum();
                let name = format!("{} {mean} {deviation} {index}", level.name());
                assert!((found - exact).abs() < 1e-4 * deviation, "{name}: mean {found} instead of {exact}");
                assert!((squares / wanted - 1.0).abs() < 1e-4, "{name}: squares {squares} instead of {wanted}");
            }
        }
    }
}
