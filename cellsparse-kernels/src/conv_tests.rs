//! Every instruction set and method against a plain convolution in `f64`.

use super::*;
use crate::test_random::Random;

const METHODS: [Method; 3] = [Method::Direct, Method::Fast, Method::FastBf16];

fn random_values(random: &mut Random, len: usize) -> Vec<f32> {
    (0..len).map(|_| random.uniform(-1.0, 1.0) as f32).collect()
}

/// NHWC convolution with zero padding in `f64`.
fn plain(x: &[f32], w: &[f32], (n, h, wd, ci, co, k): (usize, usize, usize, usize, usize, usize)) -> Vec<f64> {
    let mut y = vec![0.0; n * h * wd * co];
    let r = k / 2;
    for b in 0..n {
        for i in 0..h {
            for j in 0..wd {
                for dy in 0..k {
                    for dx in 0..k {
                        let (yy, xx) = (i + dy, j + dx);
                        if yy < r || xx < r || yy - r >= h || xx - r >= wd {
                            continue;
                        }
                        for c in 0..ci {
                            let v = f64::from(x[((b * h + yy - r) * wd + xx - r) * ci + c]);
                            for o in 0..co {
                                y[((b * h + i) * wd + j) * co + o] +=
                                    v * f64::from(w[((dy * k + dx) * ci + c) * co + o]);
                            }
                        }
                    }
                }
            }
        }
    }
    y
}

/// Input and weight gradients of [`plain`] in `f64`.
fn plain_gradients(
    x: &[f32],
    w: &[f32],
    g: &[f32],
    (n, h, wd, ci, co, k): (usize, usize, usize, usize, usize, usize),
) -> (Vec<f64>, Vec<f64>) {
    let (mut dx_, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    let r = k / 2;
    for b in 0..n {
        for i in 0..h {
            for j in 0..wd {
                for dy in 0..k {
                    for dx in 0..k {
                        let (yy, xx) = (i + dy, j + dx);
                        if yy < r || xx < r || yy - r >= h || xx - r >= wd {
                            continue;
                        }
                        for c in 0..ci {
                            let at = ((b * h + yy - r) * wd + xx - r) * ci + c;
                            for o in 0..co {
                                let gradient = f64::from(g[((b * h + i) * wd + j) * co + o]);
                                let wat = ((dy * k + dx) * ci + c) * co + o;
                                dx_[at] += gradient * f64::from(w[wat]);
                                dw[wat] += gradient * f64::from(x[at]);
                            }
                        }
                    }
                }
            }
        }
    }
    (dx_, dw)
}

fn assert_close(name: &str, got: &[f32], want: &[f64], tolerance: f64) {
    let scale = want.iter().fold(1e-6, |m: f64, v| m.max(v.abs()));
    let worst = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance * scale, "{name}: off by {worst:e} at a scale of {scale:e}");
}

/// Splits NHWC channels among several maps.
fn split(x: &[f32], channels: &[usize]) -> Vec<Vec<f32>> {
    let total: usize = channels.iter().sum();
    let mut first = 0;
    channels
        .iter()
        .map(|&c| {
            let part = x.chunks_exact(total).flat_map(|pixel| pixel[first..first + c].to_vec()).collect();
            first += c;
            part
        })
        .collect()
}

/// The channels of several maps side by side.
fn unpacked(layouts: &[Layout], maps: &[Buffer]) -> Vec<f32> {
    let values = |(layout, map): (&Layout, &Buffer)| {
        let mut values = vec![0.0; layout.batch() * layout.height() * layout.width() * layout.channels()];
        layout.unpack(map.as_slice(), &mut values);
        values
    };
    let parts: Vec<Vec<f32>> = layouts.iter().zip(maps).map(values).collect();
    let pixels = parts[0].len() / layouts[0].channels();
    let of = |pixel: usize| {
        let parts = parts.iter().zip(layouts.iter().map(Layout::channels));
        parts.flat_map(move |(part, channels)| part[pixel * channels..][..channels].iter().copied())
    };
    (0..pixels).flat_map(of).collect()
}

fn check_convolution(
    level: Level,
    method: Method,
    k: usize,
    (n, h, w): (usize, usize, usize),
    ci: &[usize],
    outputs: &[usize],
) {
    let name = format!("{} {method:?} {k}x{k} {n}x{h}x{w} {ci:?}->{outputs:?}", level.name());
    let total: usize = ci.iter().sum();
    let co: usize = outputs.iter().sum();
    let tolerance = match method {
        Method::FastBf16 if k == 3 && total > Layout::NARROW => 0.03,
        Method::Direct | Method::FastBf16 => 4e-6,
        Method::Fast => 4e-5,
    };
    let mut random = Random::new(3, (h * w + co) as u64);
    let x = random_values(&mut random, n * h * w * total);
    let weights = random_values(&mut random, k * k * total * co);
    let bias = random_values(&mut random, co);
    let gradient = random_values(&mut random, n * h * w * co);
    let dims = (n, h, w, total, co, k);

    let layouts: Vec<Layout> = if ci.len() == 1 {
        vec![Layout::input(n, total, h, w)]
    } else {
        ci.iter().map(|&c| Layout::new(n, c, h, w)).collect()
    };
    let out: Vec<Layout> = outputs.iter().map(|&c| Layout::new(n, c, h, w)).collect();
    let maps: Vec<Buffer> = layouts
        .iter()
        .zip(split(&x, ci))
        .map(|(layout, values)| {
            let mut map = Buffer::zeros(layout.len());
            layout.pack(&values, map.as_mut_slice());
            map
        })
        .collect();
    let sources: Vec<&[f32]> = maps.iter().map(Buffer::as_slice).collect();
    let mut conv = Conv::new(level, method, k, &layouts, &out);
    conv.set_weights(&weights, &bias);

    let mut y: Vec<Buffer> = out.iter().map(|layout| Buffer::zeros(layout.len())).collect();
    conv.forward(&sources, None, None, &mut y.iter_mut().map(Buffer::as_mut_slice).collect::<Vec<_>>());
    let mut got = unpacked(&out, &y);
    let mut want = plain(&x, &weights, dims);
    want.iter_mut().enumerate().for_each(|(i, v)| *v += f64::from(bias[i % co]));
    assert_close(&name, &got, &want, tolerance);

    conv.forward(&sources, None, Some(0.0), &mut y.iter_mut().map(Buffer::as_mut_slice).collect::<Vec<_>>());
    got = unpacked(&out, &y);
    want.iter_mut().for_each(|v| *v = v.max(0.0));
    assert_close(&format!("{name} relu"), &got, &want, tolerance);

    if let [_] = outputs {
        let residual = random_values(&mut random, got.len());
        let mut added = Buffer::zeros(out[0].len());
        out[0].pack(&residual, added.as_mut_slice());
        conv.forward(&sources, Some(added.as_slice()), Some(0.25), &mut [y[0].as_mut_slice()]);
        got = unpacked(&out, &y);
        for (sum, (value, residual)) in want
            .iter_mut()
            .zip(plain(&x, &weights, dims).into_iter().zip(&residual))
            .enumerate()
            .map(|(i, (w, (v, r)))| (w, (v + f64::from(bias[i % co]), r)))
        {
            let value = value + f64::from(*residual);
            *sum = if value > 0.0 { value } else { 0.25 * value };
        }
        assert_close(&format!("{name} residual"), &got, &want, tolerance);
    }
    let stored: f64 = y.iter().flat_map(Buffer::as_slice).map(|v| f64::from(*v).abs()).sum();
    let seen: f64 = got.iter().map(|v| f64::from(*v).abs()).sum();
    assert!((stored - seen).abs() < 1e-6 * (1.0 + seen), "{name}: values beyond the border");

    let packed = |(layout, values): (&Layout, Vec<f32>)| {
        let mut map = Buffer::zeros(layout.len());
        layout.pack(&values, map.as_mut_slice());
        map
    };
    let gradients: Vec<Buffer> = out.iter().zip(split(&gradient, outputs)).map(packed).collect();
    let gradients: Vec<&[f32]> = gradients.iter().map(Buffer::as_slice).collect();
    let (want_dx, want_dw) = plain_gradients(&x, &weights, &gradient, dims);
    let (mut dw, mut db) = (vec![0.0; weights.len()], vec![0.0; co]);
    let mut workspace = Buffer::default();
    conv.weight_gradient(&sources, &gradients, &mut dw, &mut db, &mut workspace);
    assert_close(&format!("{name} dW"), &dw, &want_dw, 2.0 * tolerance);
    let mut want_db = vec![0.0; co];
    gradient.iter().enumerate().for_each(|(i, v)| want_db[i % co] += f64::from(*v));
    assert_close(&format!("{name} db"), &db, &want_db, tolerance);

    if layouts[0].lanes() == LANES {
        check_input_gradient(&name, &mut conv, &layouts, &maps, &weights, &gradients, (&want_dx, ci, tolerance));
    }
}

fn check_input_gradient(
    name: &str,
    conv: &mut Conv,
    layouts: &[Layout],
    maps: &[Buffer],
    weights: &[f32],
    outputs: &[&[f32]],
    (want, ci, tolerance): (&[f64], &[usize], f64),
) {
    conv.set_transposed_weights(weights);
    let mut gradients: Vec<Buffer> = layouts.iter().map(|layout| Buffer::zeros(layout.len())).collect();
    for pass in 0..2 {
        let mut destinations: Vec<Destination<'_>> = gradients
            .iter_mut()
            .zip(maps)
            .map(|(gradient, map)| Destination {
                gradient: gradient.as_mut_slice(),
                store: Store {
                    accumulate: pass == 1,
                    slope: (pass == 1)
                        .then_some(ActivationDerivative { values: Some(map.as_slice()), negative_slope: 0.5 }),
                },
            })
            .collect();
        conv.input_gradient(outputs, &mut destinations);
        let as_f32: Vec<f32> = want.iter().map(|v| *v as f32).collect();
        for ((layout, map), (got, want)) in layouts.iter().zip(maps).zip(gradients.iter().zip(split(&as_f32, ci))) {
            let mut values = vec![0.0; want.len()];
            layout.unpack(got.as_slice(), &mut values);
            let mut activations = vec![0.0; want.len()];
            layout.unpack(map.as_slice(), &mut activations);
            let want: Vec<f64> = want
                .iter()
                .zip(&activations)
                .map(|(v, a)| match (pass, *a > 0.0) {
                    (0, _) => f64::from(*v),
                    (_, true) => 2.0 * f64::from(*v),
                    _ => f64::from(*v),
                })
                .collect();
            assert_close(&format!("{name} dX pass {pass}"), &values, &want, tolerance);
        }
    }
}

#[test]
fn convolutions_agree_with_a_plain_one_on_every_level() {
    for level in Level::available() {
        for method in METHODS {
            let cases = [
                ((1, 1, 1), vec![1], 1),
                ((2, 5, 7), vec![1], 20),
                ((1, 9, 33), vec![3], 16),
                ((1, 6, 6), vec![2], 33),
                ((2, 13, 30), vec![16], 16),
                ((1, 8, 29), vec![32], 48),
                ((2, 7, 11), vec![5], 7),
                ((1, 12, 16), vec![16, 32], 32),
                ((1, 5, 18), vec![7, 20], 18),
                ((3, 2, 3), vec![40], 33),
            ];
            for (size, ci, co) in cases {
                // Miri is a thousand times slower: small maps only, which have the same borders.
                if cfg!(miri) && size.1 * size.2 * co > 700 {
                    continue;
                }
                for k in [1, 3] {
                    check_convolution(level, method, k, size, &ci, &[co]);
                }
            }
            // Few channels, alone and beside others.
            for outputs in [&[1][..], &[3], &[1, 33], &[20, 2, 4], &[17, 5, 1]] {
                check_convolution(level, method, 1, (1, 2, 3), &[7, 20], outputs);
                if !cfg!(miri) {
                    check_convolution(level, method, 1, (2, 3, 17), &[70], outputs);
                    check_convolution(level, method, 3, (2, 3, 17), &[7, 40], outputs);
                }
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (batch, inputs, outputs, height, width) = if cfg!(miri) { (2, 17, 17, 3, 5) } else { (3, 32, 48, 30, 26) };
    let layout = Layout::new(batch, inputs, height, width);
    let out = Layout::new(batch, outputs, height, width);
    let mut random = Random::new(5, 0);
    let mut x = Buffer::zeros(layout.len());
    layout.pack(&random_values(&mut random, batch * height * width * inputs), x.as_mut_slice());
    let mut gradient = Buffer::zeros(out.len());
    out.pack(&random_values(&mut random, batch * height * width * outputs), gradient.as_mut_slice());
    let weights = random_values(&mut random, 9 * inputs * outputs);
    let run = |threads: usize, method: Method| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut conv = Conv::new(Level::detect(), method, 3, &[layout], &[out]);
            conv.set_weights(&weights, &vec![0.1; outputs]);
            conv.set_transposed_weights(&weights);
            let mut y = Buffer::zeros(out.len());
            conv.forward(&[x.as_slice()], None, Some(0.0), &mut [y.as_mut_slice()]);
            let mut dx = Buffer::zeros(layout.len());
            let destination = Destination { gradient: dx.as_mut_slice(), store: Store::default() };
            conv.input_gradient(&[gradient.as_slice()], &mut [destination]);
            let (mut dw, mut db) = (vec![0.0; weights.len()], vec![0.0; outputs]);
            let mut workspace = Buffer::default();
            conv.weight_gradient(&[x.as_slice()], &[gradient.as_slice()], &mut dw, &mut db, &mut workspace);
            (y.as_slice().to_vec(), dx.as_slice().to_vec(), dw, db)
        })
    };
    for method in METHODS {
        let one = run(1, method);
        assert!(one == run(2, method));
        assert!(cfg!(miri) || one == run(8, method));
    }
}

/// A convolution of NHWC values that are alike except for what is cut out of a larger map.
struct Cut {
    level: Level,
    method: Method,
    kernel: usize,
    channels: usize,
}

impl Cut {
    /// The bits of the results for the part of `values` (`[height, width, channels]`) that begins at a corner.
    fn bits(&self, values: &[f32], width: usize, [top, left]: [usize; 2], sides: [usize; 2]) -> Vec<u32> {
        let part: Vec<f32> = (0..sides[0])
            .flat_map(|y| &values[((top + y) * width + left) * self.channels..][..sides[1] * self.channels])
            .copied()
            .collect();
        let input = Layout::input(1, self.channels, sides[0], sides[1]);
        let output = Layout::new(1, OUTPUTS, sides[0], sides[1]);
        let weights = random_values(&mut Random::new(3, 0), self.kernel * self.kernel * self.channels * OUTPUTS);
        let mut conv = Conv::new(self.level, self.method, self.kernel, &[input], &[output]);
        conv.set_weights(&weights, &[0.1; OUTPUTS]);
        let (mut x, mut y) = (Buffer::zeros(input.len()), Buffer::zeros(output.len()));
        input.pack(&part, x.as_mut_slice());
        conv.forward(&[x.as_slice()], None, Some(0.1), &mut [y.as_mut_slice()]);
        let mut values = vec![0.0; sides[0] * sides[1] * OUTPUTS];
        output.unpack(y.as_slice(), &mut values);
        values.into_iter().map(f32::to_bits).collect()
    }
}

const OUTPUTS: usize = 20;

#[test]
#[cfg_attr(miri, ignore = "arithmetic on many maps, whose borders other tests have as well")]
fn bits_depend_on_the_group_of_a_pixel_and_one_pixel_around_it_alone() {
    let (height, width) = (30, 43);
    let mut random = Random::new(8, 0);
    let mut below = move |n: usize| random.uniform(0.0, n as f64) as usize;
    let cases = [
        (Method::Fast, 3, 20),
        (Method::Fast, 3, 2),
        (Method::FastBf16, 3, 20),
        (Method::Direct, 3, 17),
        (Method::Direct, 1, 33),
    ];
    for (level, (method, kernel, channels)) in
        Level::available().into_iter().flat_map(|level| cases.map(|case| (level, case)))
    {
        let cut = Cut { level, method, kernel, channels };
        let values = random_values(&mut Random::new(1, channels as u64), height * width * channels);
        let whole = cut.bits(&values, width, [0, 0], [height, width]);
        // A map with few channels is convolved directly.
        let group = if method != Method::Direct && channels > Layout::NARROW { Conv::GROUP } else { 1 };
        let mut compared = 0;
        for _ in 0..40 {
            let corner = [below(height / 2) / group * group, below(width / 2) / group * group];
            let sides = [1 + below(height - corner[0]), 1 + below(width - corner[1])];
            let part = cut.bits(&values, width, corner, sides);
            let is_inside = |at: usize, begin: usize, side: usize, all: usize| {
                let (first, end) = (at / group * group, (at / group + 1) * group);
                let above = begin == 0 || first >= begin + kernel / 2;
                above && (begin + side == all || end + kernel / 2 <= begin + side)
            };
            for y in (0..sides[0]).filter(|y| is_inside(corner[0] + y, corner[0], sides[0], height)) {
                for x in (0..sides[1]).filter(|x| is_inside(corner[1] + x, corner[1], sides[1], width)) {
                    let at = ((corner[0] + y) * width + corner[1] + x) * OUTPUTS;
                    let (a, b) = (&whole[at..][..OUTPUTS], &part[(y * sides[1] + x) * OUTPUTS..][..OUTPUTS]);
                    assert_eq!(a, b, "{} {method:?} {kernel} {channels}: {sides:?} at {corner:?}", level.name());
                    compared += 1;
                }
            }
        }
        assert!(compared > 1000, "{compared} pixels");
    }
}

#[test]
fn some_rows_have_the_bits_of_all_rows() {
    let (height, width) = if cfg!(miri) { (9, 5) } else { (23, 26) };
    let (input, output) = (Layout::new(2, 20, height, width), Layout::new(2, 33, height, width));
    let mut random = Random::new(4, 0);
    let mut x = Buffer::zeros(input.len());
    input.pack(&random_values(&mut random, 2 * height * width * 20), x.as_mut_slice());
    for (level, method) in Level::available().into_iter().flat_map(|level| METHODS.map(|method| (level, method))) {
        let mut conv = Conv::new(level, method, 3, &[input], &[output]);
        conv.set_weights(&random_values(&mut random, 9 * 20 * 33), &[0.1; 33]);
        let mut whole = Buffer::zeros(output.len());
        conv.forward(&[x.as_slice()], None, None, &mut [whole.as_mut_slice()]);
        for rows in [0..4, 4..8, 8..height, 4..4, 0..height] {
            let mut some = Buffer::zeros(output.len());
            some.as_mut_slice().fill(7.0);
            conv.forward_rows(rows.clone(), &[x.as_slice()], None, None, &mut [some.as_mut_slice()]);
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                for at in (0..2 * output.blocks()).map(|plane| plane * output.plane() + output.pixel(y, x)) {
                    let expected = if rows.contains(&y) { &whole.as_slice()[at..][..16] } else { &[7.0; 16] };
                    assert_eq!(&some.as_slice()[at..][..16], expected, "{} {method:?} {rows:?} {y}", level.name());
                }
            }
        }
    }
}

#[test]
fn subnormal_weights_are_zeros_and_others_are_not() {
    let (input, output) = (Layout::new(1, 16, 6, 6), Layout::new(1, 16, 6, 6));
    let mut x = Buffer::zeros(input.len());
    input.pack(&[1e30; 16 * 36], x.as_mut_slice());
    for level in Level::available() {
        for (method, kernel) in [(Method::Fast, 3), (Method::FastBf16, 3), (Method::Direct, 3), (Method::Direct, 1)] {
            let run = |weight: f32| {
                let mut conv = Conv::new(level, method, kernel, &[input], &[output]);
                conv.set_weights(&vec![weight; kernel * kernel * 16 * 16], &[0.0; 16]);
                conv.set_transposed_weights(&vec![weight; kernel * kernel * 16 * 16]);
                let (mut y, mut dx) = (Buffer::zeros(output.len()), Buffer::zeros(input.len()));
                conv.forward(&[x.as_slice()], None, None, &mut [y.as_mut_slice()]);
                let destination = Destination { gradient: dx.as_mut_slice(), store: Store::default() };
                conv.input_gradient(&[x.as_slice()], &mut [destination]);
                (y, dx)
            };
            let name = format!("{} {method:?} {kernel}", level.name());
            let (y, dx) = run(1e-41);
            assert!(y.as_slice().iter().chain(dx.as_slice()).all(|value| *value == 0.0), "{name}");
            let (y, dx) = run(1e-35);
            assert!(y.as_slice().iter().chain(dx.as_slice()).any(|value| *value > 1e-5), "{name}");
            let (y, _) = run(f32::NAN);
            assert!(y.as_slice().iter().any(|value| value.is_nan()), "{name}: no number stays none");
        }
    }
}
