//! Which cells lie where, kind by kind.

use std::f32::consts::PI;

use crate::random::Random;

use super::maps::{Map, between, noise, normal, octaves};
use super::scene::{Bend, Canvas, Scatter, Scene, Sheet, scatter, sheet};
use super::shapes::Body;

type Shape = (usize, usize);

/// Bending of the plane that suits cells of a diameter.
pub(super) fn bend(shape: Shape, diameter: f32, random: &mut Random) -> Bend {
    let strength = if random.chance(0.4) { between(random, 0.02, 0.12) } else { 0.015 };
    let cell = between(random, 0.8, 2.0) * diameter.max(10.0);
    Bend::new(shape, strength * diameter.min(50.0) * (cell / diameter.max(10.0)), cell, random)
}

/// Fraction of the image covered by cells, from sparse to confluent.
fn cover(random: &mut Random) -> f32 {
    if random.chance(0.1) { between(random, 0.01, 0.06) } else { between(random, 0.08, 0.7) }
}

fn scatter_options(random: &mut Random) -> Scatter {
    let clustered = random.chance(0.45);
    Scatter {
        cover: cover(random),
        gap: between(random, 0.3, 5.0),
        overlap: between(random, 0.0, 0.12),
        touching: if clustered { between(random, 0.3, 0.95) } else { between(random, 0.0, 0.35) },
        aligned: false,
        where_: None,
    }
}

/// A map that is positive in a few places of the image.
fn places(shape: Shape, random: &mut Random) -> Option<Map> {
    random.chance(0.4).then(|| {
        let level = between(random, -0.6, 0.9);
        let cell = between(random, 40.0, 140.0);
        noise(shape, cell, random).mapv(|v| v - level)
    })
}

/// Round to oval cells, alike or of very different sizes; `variety` is the largest spread of sizes (log).
pub(super) fn ovals(shape: Shape, diameter: f32, variety: f32, random: &mut Random) -> Scene {
    let bend = bend(shape, diameter, random);
    let options = Scatter { where_: places(shape, random), ..scatter_options(random) };
    let spread = variety * between(random, 0.1, 1.0);
    let elongation = if random.chance(0.25) { between(random, 1.3, 2.8) } else { between(random, 1.0, 1.35) };
    let direction = random.chance(0.3).then(|| between(random, 0.0, PI));
    let lobes = if random.chance(0.3) { between(random, 0.03, 0.13) } else { between(random, 0.0, 0.035) };
    let small = if random.chance(0.4) { between(random, 0.02, 0.15) } else { 0.0 };
    let mut canvas = Canvas::new(shape, bend);
    scatter(&mut canvas, &options, random, &mut |random| {
        let mut scale = (spread * normal(random)).clamp(-2.0 * spread, 1.6 * spread).exp();
        let mut long = elongation * (0.12 * normal(random)).exp();
        // Dividing and dying cells are small, the former bars.
        if random.chance(f64::from(small)) {
            scale *= between(random, 0.45, 0.7);
            long = if random.chance(0.5) { between(random, 1.8, 2.8) } else { 1.0 };
        }
        let radius = (0.5 * diameter * scale).max(2.6);
        let long = long.max(1.0).sqrt();
        let mut body =
            Body::oval([radius * long, (radius / long).max(1.8)], &[lobes, 0.6 * lobes, 0.4 * lobes], random);
        if let Some(direction) = direction {
            body.angle = direction + 0.2 * normal(random);
        }
        body
    });
    canvas.finish(diameter)
}

/// Rods: single, in chains, curved, or in dense colonies.
pub(super) fn rods(shape: Shape, width: f32, random: &mut Random) -> Scene {
    let aspect = octaves(random, 1.6, 7.0);
    let colony = random.chance(0.55);
    let curved = if random.chance(0.3) { between(random, 0.1, 1.2) } else { 0.06 };
    let pinch = if random.chance(0.4) { between(random, 0.05, 0.35) } else { 0.0 };
    let spread = between(random, 0.1, 0.4);
    let diameter = width * aspect.sqrt();
    let options = Scatter {
        cover: if colony { between(random, 0.15, 0.85) } else { cover(random) },
        gap: between(random, 0.5, 4.0),
        overlap: between(random, 0.0, 0.1),
        touching: if colony { between(random, 0.9, 0.99) } else { between(random, 0.0, 0.5) },
        aligned: colony || random.chance(0.3),
        where_: None,
    };
    let strength = between(random, 0.0, 1.0);
    let bend = Bend::new(shape, strength * between(random, 0.5, 0.14 * width + 1.0), 3.0 * width + 20.0, random);
    let mut canvas = Canvas::new(shape, bend);
    let nematic = noise(shape, 60.0, random);
    let field = random.chance(0.5);
    scatter(&mut canvas, &options, random, &mut |random| {
        let length = width * (1.0 + (aspect - 1.0) * (spread * normal(random)).exp()).max(1.05);
        let waist = if random.chance(0.4) { pinch } else { 0.0 };
        let angle =
            if field { PI * nematic[[random.below(shape.0), random.below(shape.1)]] } else { between(random, 0.0, PI) };
        Body::rod(length, width * (0.06 * normal(random)).exp(), curved * normal(random), waist, angle)
    });
    canvas.finish(diameter)
}

/// Long winding threads, crossing little.
pub(super) fn threads(shape: Shape, width: f32, random: &mut Random) -> Scene {
    let mixed = random.chance(0.4);
    let length = width * octaves(random, 8.0, 50.0);
    let wander = octaves(random, 0.02, 0.3);
    let mut canvas = Canvas::new(shape, Bend::new(shape, 1.0, 40.0, random));
    let options = Scatter {
        cover: between(random, 0.03, 0.35),
        gap: between(random, 0.3, 4.0),
        overlap: between(random, 0.0, 0.08),
        touching: between(random, 0.0, 0.3),
        aligned: random.chance(0.5),
        where_: None,
    };
    scatter(&mut canvas, &options, random, &mut |random| {
        let short = mixed && random.chance(0.5);
        let length = if short { width * between(random, 1.5, 6.0) } else { length * octaves(random, 0.4, 1.6) };
        Body::thread(length, width * (0.08 * normal(random)).exp(), wander, random)
    });
    canvas.finish(width * 4.0)
}

/// Round cells with buds of any size, in groups.
pub(super) fn yeast(shape: Shape, diameter: f32, random: &mut Random) -> Scene {
    let bend = Bend::new(shape, 0.02 * diameter, diameter, random);
    let options = Scatter {
        touching: between(random, 0.2, 0.97),
        overlap: between(random, 0.0, 0.05),
        ..scatter_options(random)
    };
    let budding = between(random, 0.1, 0.6);
    let attached = random.chance(0.5);
    let spread = between(random, 0.05, 0.25);
    let elongation = if random.chance(0.25) { between(random, 1.2, 2.0) } else { between(random, 1.0, 1.25) };
    let mut canvas = Canvas::new(shape, bend);
    scatter(&mut canvas, &options, random, &mut |random| {
        let radius = 0.5 * diameter * (spread * normal(random)).clamp(-0.6, 0.5).exp();
        let long = 1.0 + (elongation - 1.0) * between(random, 0.3, 1.3);
        if attached && random.chance(f64::from(budding)) {
            let bud = radius * between(random, 0.35, 0.8);
            return Body::budded(radius, long, bud, between(random, 0.0, 2.0 * PI));
        }
        let size = if !attached && random.chance(f64::from(0.5 * budding)) { between(random, 0.45, 0.8) } else { 1.0 };
        let long = long.sqrt();
        Body::oval([radius * size * long, radius * size / long], &[0.02], random)
    });
    canvas.finish(diameter)
}

/// Spread cells: flat, lobed, with points or with long arms.
pub(super) fn spread_cells(shape: Shape, diameter: f32, random: &mut Random) -> Scene {
    let bend = bend(shape, diameter, random);
    let options = Scatter { where_: places(shape, random), ..scatter_options(random) };
    let options = Scatter { cover: options.cover.min(0.5), ..options };
    let arms = random.below(4);
    let armed = between(random, 0.0, 1.0);
    let reach = between(random, 0.6, 2.2);
    let lobes = between(random, 0.05, 0.22);
    let spread = between(random, 0.1, 0.4);
    let mut canvas = Canvas::new(shape, bend);
    scatter(&mut canvas, &options, random, &mut |random| {
        let radius = 0.5 * diameter * (spread * normal(random)).clamp(-0.8, 0.6).exp();
        if random.chance(f64::from(armed)) {
            let body = radius * between(random, 0.4, 0.75);
            let thin = (0.1 * radius).clamp(1.1, 4.0);
            return Body::branched(body, 1 + arms + random.below(3), reach * radius, thin, random);
        }
        let long = between(random, 1.0, 1.7);
        Body::oval([radius * long, radius / long], &[lobes, lobes, 0.7 * lobes, 0.5 * lobes], random)
    });
    canvas.finish(diameter)
}

/// Sheets whose cells touch: from evenly sized epithelium to plant tissue with cells of very different size.
pub(super) fn tissue_sheet(shape: Shape, diameter: f32, mixed: bool, wall: f32, random: &mut Random) -> Scene {
    let radius = 0.5 * diameter;
    let ratio = if mixed { octaves(random, 1.6, 8.0) } else { between(random, 1.05, 1.8) };
    let smallest = (radius / ratio.sqrt()).max(3.5);
    let bend = bend(shape, 2.0 * smallest, random);
    let options = Sheet {
        radii: [smallest, (radius * ratio.sqrt()).clamp(smallest * 1.02, 70.0)],
        smallness: between(random, 0.0, 1.5),
        zones: mixed && random.chance(0.6),
        stretch: if random.chance(0.35) { between(random, 1.2, 2.6) } else { between(random, 1.0, 1.2) },
        wall,
        round: if random.chance(0.4) { between(random, 1.1, 1.5) } else { 4.0 },
        where_: if random.chance(0.25) { places(shape, random) } else { None },
    };
    sheet(shape, &bend, &options, diameter, random)
}

/// Discs, hardly touching, from specks to very large ones.
pub(super) fn blobs(shape: Shape, diameter: f32, random: &mut Random) -> Scene {
    let bend = Bend::new(shape, between(random, 0.0, 0.05) * diameter, 0.8 * diameter.max(10.0), random);
    let ratio = octaves(random, 1.2, 6.0);
    let mut canvas = Canvas::new(shape, bend);
    let options = Scatter { cover: between(random, 0.05, 0.6), ..scatter_options(random) };
    scatter(&mut canvas, &options, random, &mut |random| {
        let radius = (0.5 * diameter * octaves(random, 1.0 / ratio, ratio).sqrt()).clamp(2.8, 60.0);
        let long = between(random, 1.0, 1.15);
        Body::oval([radius * long, radius / long], &[0.015], random)
    });
    canvas.finish(diameter)
}
