//! From light to a file's samples: channels, uneven light, noise, grey curve, compression, bit depth.

use ndarray::{Array3, Axis};

use crate::random::Random;
use crate::raster::Image;

use super::WorldChannels;
use super::light::{Picture, drift};
use super::maps::{Map, between, blur, deviate, normal, octaves, white};

/// Photographs a picture.
/// Details of cells of a small `diameter` need light: noise does not hide what the labels show.
pub(super) fn expose(mut picture: Picture, channels: WorldChannels, diameter: f32, random: &mut Random) -> Image {
    let shape = picture.planes.first().map_or((0, 0), |plane| plane.dim());
    if random.chance(0.6) {
        let amount = between(random, 0.05, if picture.glowing { 0.4 } else { 0.25 });
        let lamp = drift(shape, random);
        for plane in &mut picture.planes {
            let factor = lamp.mapv(|v| 1.0 + amount * v);
            *plane *= &factor;
        }
    }
    let mut planes = arrange(picture.planes, channels, picture.glowing, random);
    let snr = octaves(random, if diameter < 16.0 { 9.0 } else { 5.0 }, 90.0);
    let noise = picture.contrast / snr;
    let shot = between(random, 0.0, 1.0);
    let correlated = random.chance(0.25).then(|| between(random, 0.4, 0.9));
    let level = if picture.glowing { 0.5 * picture.contrast } else { 1.0 };
    for plane in &mut planes {
        let grain = correlated.map(|sigma| {
            let soft = blur(&white(shape, random), sigma);
            soft * (1.0 + 2.2 * sigma)
        });
        for (i, value) in plane.iter_mut().enumerate() {
            let unit = match &grain {
                Some(grain) => grain.as_slice().map_or(0.0, |g| g[i]),
                None => deviate(random),
            };
            // Without contrast there is no noise, whatever light there is.
            let light = if level > 0.0 { (*value / level).max(0.0) } else { 0.0 };
            let spread = noise * ((1.0 - shot) + shot * light).sqrt();
            *value += spread * unit;
        }
    }
    let inverted = random.chance(0.06);
    let gamma = if random.chance(0.35) { octaves(random, 0.6, 1.7) } else { 1.0 };
    let (low, high) = extremes(&planes);
    let span = (high - low).max(1e-6);
    for plane in &mut planes {
        plane.mapv_inplace(|v| {
            let t = ((v - low) / span).clamp(0.0, 1.0);
            let t = if inverted { 1.0 - t } else { t };
            if gamma == 1.0 { t } else { t.powf(gamma) }
        });
    }
    if random.chance(0.2) {
        let step = octaves(random, 0.002, 0.012);
        planes.iter_mut().for_each(|plane| compress(plane, step));
    }
    digitise(&planes, random)
}

/// The planes of the file, from one to three.
fn arrange(planes: Vec<Map>, channels: WorldChannels, glowing: bool, random: &mut Random) -> Vec<Map> {
    let colour = match channels {
        WorldChannels::Grey => false,
        WorldChannels::Colour => true,
        WorldChannels::Any => match planes.len() {
            3 => random.chance(0.8),
            2 => random.chance(0.5),
            _ => random.chance(0.15),
        },
    };
    if !colour {
        if planes.len() == 3 {
            let weights = [between(random, 0.1, 1.0), between(random, 0.3, 1.2), between(random, 0.1, 1.0)];
            let total: f32 = weights.iter().sum();
            let mut grey = Map::zeros(planes[0].dim());
            planes.iter().zip(weights).for_each(|(plane, w)| grey.scaled_add(w / total, plane));
            return vec![grey];
        }
        return planes.into_iter().take(1).collect();
    }
    if planes.len() == 3 || (planes.len() == 2 && channels == WorldChannels::Any && random.chance(0.4)) {
        return planes;
    }
    // Stains in colours of their own, added up; transmitted light is tinted a little.
    let mut rgb = vec![Map::zeros(planes[0].dim()); 3];
    for (index, plane) in planes.iter().enumerate() {
        let first = random.below(3);
        for (c, out) in rgb.iter_mut().enumerate() {
            let weight = match (glowing, (c + 3 - first) % 3) {
                (false, _) => between(random, 0.8, 1.0),
                (true, 0) => 1.0,
                (true, _) if index == 0 => {
                    if random.chance(0.5) {
                        between(random, 0.0, 0.9)
                    } else {
                        0.02
                    }
                }
                (true, _) => 0.1,
            };
            out.scaled_add(weight, plane);
        }
    }
    rgb
}

/// Values below and above which almost nothing lies.
fn extremes(planes: &[Map]) -> (f32, f32) {
    let mut sample: Vec<f32> =
        planes.iter().flat_map(|p| p.iter().step_by(7)).copied().filter(|v| v.is_finite()).collect();
    if sample.is_empty() {
        return (0.0, 1.0);
    }
    sample.sort_by(f32::total_cmp);
    let at = |share: f32| sample[((sample.len() - 1) as f32 * share) as usize];
    (at(0.0005), at(0.9997))
}

/// Rounds the cosine coefficients of blocks of 8 x 8 pixels, as lossy files do; `step` is the unit of the lowest ones.
fn compress(plane: &mut Map, step: f32) {
    let mut basis = [[0.0f32; 8]; 8];
    for (k, row) in basis.iter_mut().enumerate() {
        for (n, value) in row.iter_mut().enumerate() {
            let scale = if k == 0 { 0.125f32.sqrt() } else { 0.5 };
            *value = scale * ((n as f32 + 0.5) * k as f32 * std::f32::consts::PI / 8.0).cos();
        }
    }
    for mut block in plane.exact_chunks_mut((8, 8)) {
        let mut half = [[0.0f32; 8]; 8];
        let mut whole = [[0.0f32; 8]; 8];
        for y in 0..8 {
            for k in 0..8 {
                half[y][k] = (0..8).map(|x| block[[y, x]] * basis[k][x]).sum();
            }
        }
        for j in 0..8 {
            for k in 0..8 {
                let value: f32 = (0..8).map(|y| half[y][k] * basis[j][y]).sum();
                let unit = step * (1.0 + 0.6 * (j + k) as f32) * 4.0;
                whole[j][k] = (value / unit).round() * unit;
            }
        }
        for y in 0..8 {
            for k in 0..8 {
                half[y][k] = (0..8).map(|j| whole[j][k] * basis[j][y]).sum();
            }
        }
        for y in 0..8 {
            for x in 0..8 {
                block[[y, x]] = (0..8).map(|k| half[y][k] * basis[k][x]).sum();
            }
        }
    }
}

/// Planes in `[0, 1]` as samples of a random bit depth and range.
fn digitise(planes: &[Map], random: &mut Random) -> Image {
    let (height, width) = planes.first().map_or((0, 0), |plane| plane.dim());
    let mut pixels = Array3::<f32>::zeros((height, width, planes.len()));
    for (mut out, plane) in pixels.axis_iter_mut(Axis(2)).zip(planes) {
        out.assign(plane);
    }
    match random.unit() {
        u if u < 0.65 => {
            let high = if random.chance(0.7) { 255.0 } else { octaves(random, 50.0, 255.0) };
            let low = if random.chance(0.5) { 0.0 } else { between(random, 0.0, 0.2) * high };
            Image::U8(pixels.mapv(|v| (low + (high - low) * v).round().clamp(0.0, 255.0) as u8))
        }
        u if u < 0.9 => {
            let high = octaves(random, 600.0, 65_535.0);
            let low = between(random, 0.0, 0.3) * high;
            Image::U16(pixels.mapv(|v| (low + (high - low) * v).round().clamp(0.0, 65_535.0) as u16))
        }
        _ => {
            let (scale, offset) = (octaves(random, 0.5, 2000.0), normal(random));
            Image::F32(pixels.mapv(|v| scale * (v + 0.1 * offset)))
        }
    }
}
