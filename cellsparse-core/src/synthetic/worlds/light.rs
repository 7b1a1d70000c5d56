//! Parts of a picture that many optics share: textures, organelles, relief, halos, debris, light from other planes.

use ndarray::Zip;

use crate::random::Random;
use crate::synthetic::optics::add_spot;

use super::maps::{Map, between, blur, noise, normal, octaves};
use super::scene::Scene;

/// What arrives at the camera before noise.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    /// One plane, or a main and a second one (another stain), or red, green and blue.
    pub(super) planes: Vec<Map>,
    /// Brightness difference that makes the cells visible; noise is measured by it.
    pub(super) contrast: f32,
    /// Light comes from the specimen on a dark ground, so noise grows with it from nearly nothing.
    pub(super) glowing: bool,
}

impl Picture {
    pub(super) fn grey(plane: Map, contrast: f32, glowing: bool) -> Self {
        Self { planes: vec![plane], contrast, glowing }
    }
}

/// Smooth or grainy texture of unit variance that suits cells of a diameter: up to three octaves.
pub(super) fn texture(shape: (usize, usize), diameter: f32, random: &mut Random) -> Map {
    let coarse = octaves(random, 0.06, 0.5) * diameter;
    let mut map = noise(shape, coarse.max(1.5), random);
    if random.chance(0.6) {
        let share = between(random, 0.3, 0.9);
        map.scaled_add(share, &noise(shape, (0.4 * coarse).max(1.2), random));
        map /= (1.0 + share * share).sqrt();
    }
    map
}

/// Thickness of the cells: 0 at the edge, rising to about 1 in the middle, more steeply with a larger `fullness` (0.3 to 3).
pub(super) fn relief(scene: &Scene, fullness: f32) -> Map {
    Zip::from(&scene.depth).and(&scene.labels).map_collect(|&depth, &id| {
        if id == 0 {
            return 0.0;
        }
        let t = (depth / scene.thickness[id as usize].max(1.0)).min(1.0);
        // A sphere's profile when `fullness` is 1.
        (1.0 - (1.0 - t).powf(2.0 * fullness)).max(0.0).sqrt()
    })
}

/// 1 at the edges of cells on both sides, falling off over `width` pixels.
pub(super) fn rim(scene: &Scene, width: f32) -> Map {
    Zip::from(&scene.depth).and(&scene.outside).map_collect(|&depth, &outside| {
        let d = (depth + outside) / width.max(0.3);
        (-d * d).exp()
    })
}

/// 1 inside a nucleus of every cell, 0 elsewhere, with soft edges: where a cell is deep enough around a point near its middle.
pub(super) fn nuclei(scene: &Scene, share: f32, random: &mut Random) -> Map {
    let centres: Vec<[f32; 4]> = (0..=scene.count)
        .map(|id| {
            let thick = scene.thickness[id];
            let [y, x] = scene.middle[id];
            let shift = 0.12 * thick;
            let radius = (share * thick * (0.12 * normal(random)).exp()).max(1.0);
            [y + shift * normal(random), x + shift * normal(random), radius, between(random, 0.8, 1.25)]
        })
        .collect();
    let mut map = Map::zeros(scene.shape());
    for ((y, x), value) in map.indexed_iter_mut() {
        let id = scene.labels[[y, x]];
        if id > 0 {
            let [cy, cx, radius, squeeze] = centres[id as usize];
            let d = ((y as f32 - cy) * squeeze).hypot((x as f32 - cx) / squeeze) - radius;
            *value = (0.5 - d).clamp(0.0, 1.0).min((scene.depth[[y, x]] - 0.5).clamp(0.0, 1.0));
        }
    }
    map
}

/// Small spots inside cells (granules, nucleoli, vacuoles): 1 at their centres.
pub(super) fn granules(scene: &Scene, per_cell: f32, radius: [f32; 2], random: &mut Random) -> Map {
    let mut map = Map::zeros(scene.shape());
    let (height, width) = scene.shape();
    for id in 1..=scene.count {
        let [cy, cx] = scene.middle[id];
        let reach = scene.thickness[id];
        let count = (per_cell * between(random, 0.3, 1.7)).round() as usize;
        for _ in 0..count.min(60) {
            let at = [cy + 0.6 * reach * normal(random), cx + 0.6 * reach * normal(random)];
            let inside = at[0] >= 0.0 && at[1] >= 0.0 && at[0] < height as f32 && at[1] < width as f32;
            if inside && scene.labels[[at[0] as usize, at[1] as usize]] == id as i32 {
                add_spot(&mut map, at, between(random, radius[0], radius[1]).max(0.5), 1.0);
            }
        }
    }
    Zip::from(&mut map).and(&scene.labels).for_each(|v, id| *v = if *id > 0 { v.min(1.2) } else { 0.0 });
    map
}

/// Light minus the same light blurred: what a phase ring leaves around bright and dark bodies.
pub(super) fn halo(map: &Map, near: f32, far: f32, strength: f32) -> Map {
    let mut out = blur(map, near);
    out.scaled_add(-strength, &blur(map, far));
    out
}

/// Derivative along a direction, as differential interference contrast shows it.
pub(super) fn slope(map: &Map, angle: f32, shear: f32) -> Map {
    let (height, width) = map.dim();
    let (dy, dx) = (shear * angle.sin(), shear * angle.cos());
    let at = |y: f32, x: f32| {
        let y = y.clamp(0.0, height as f32 - 1.001).max(0.0);
        let x = x.clamp(0.0, width as f32 - 1.001).max(0.0);
        let (iy, ix) = (y as usize, x as usize);
        let (jy, jx) = ((iy + 1).min(height - 1), (ix + 1).min(width - 1));
        let (ty, tx) = (y - iy as f32, x - ix as f32);
        (map[[iy, ix]] * (1.0 - tx) + map[[iy, jx]] * tx) * (1.0 - ty)
            + (map[[jy, ix]] * (1.0 - tx) + map[[jy, jx]] * tx) * ty
    };
    Map::from_shape_fn((height, width), |(y, x)| at(y as f32 + dy, x as f32 + dx) - at(y as f32 - dy, x as f32 - dx))
}

/// Specks of dust and broken cells, in brightness units of a cell, positive or of both signs.
pub(super) fn debris(shape: (usize, usize), diameter: f32, both_signs: bool, random: &mut Random) -> Map {
    let mut map = Map::zeros(shape);
    if random.chance(0.45) {
        return map;
    }
    let count = octaves(random, 1.0, 60.0) * (shape.0 * shape.1) as f32 / 65536.0;
    for _ in 0..count.ceil() as usize {
        let at = [between(random, 0.0, shape.0 as f32), between(random, 0.0, shape.1 as f32)];
        let sigma = (diameter * octaves(random, 0.02, 0.1)).clamp(0.5, 3.5);
        let amplitude = octaves(random, 0.15, 1.2) * if both_signs && random.chance(0.5) { -1.0 } else { 1.0 };
        for _ in 0..1 + random.below(3) {
            let near = [at[0] + 1.5 * sigma * normal(random), at[1] + 1.5 * sigma * normal(random)];
            add_spot(&mut map, near, sigma, amplitude);
        }
    }
    map
}

/// Faint wide spots: cells far from the focal plane.
pub(super) fn other_planes(shape: (usize, usize), diameter: f32, random: &mut Random) -> Map {
    let mut map = Map::zeros(shape);
    if random.chance(0.5) {
        return map;
    }
    let count = octaves(random, 1.0, 25.0) * (shape.0 * shape.1) as f32 / 65536.0;
    let strength = octaves(random, 0.03, 0.3);
    for _ in 0..count.ceil() as usize {
        let at = [between(random, 0.0, shape.0 as f32), between(random, 0.0, shape.1 as f32)];
        let sigma = (diameter * between(random, 0.4, 1.0)).clamp(4.0, 40.0);
        add_spot(&mut map, at, sigma, strength * between(random, 0.3, 1.0));
    }
    map
}

/// Multiplies a map by `1 + amount * texture`, never below 0.
pub(super) fn modulate(map: &mut Map, texture: &Map, amount: f32) {
    Zip::from(map).and(texture).for_each(|v, t| *v *= (1.0 + amount * t).max(0.05));
}

/// A slow change of brightness over the image, between about -1 and 1.
pub(super) fn drift(shape: (usize, usize), random: &mut Random) -> Map {
    let (height, width) = (shape.0.max(2) as f32, shape.1.max(2) as f32);
    let (a, b, c) = (normal(random), normal(random), normal(random));
    let (cy, cx) = (between(random, 0.2, 0.8), between(random, 0.2, 0.8));
    Map::from_shape_fn(shape, |(y, x)| {
        let (v, u) = (y as f32 / height - cy, x as f32 / width - cx);
        (0.6 * (a * v + b * u) - 1.2 * c.abs() * (v * v + u * u)).clamp(-1.2, 1.2)
    })
}
