//! How the microscope shows a scene, kind by kind.

use std::f32::consts::TAU;

use ndarray::Zip;

use crate::random::Random;

use super::light::{
    Picture, debris, drift, granules, halo, modulate, nuclei, other_planes, relief, rim, slope, texture,
};
use super::maps::{Map, between, blur, noise, normal, octaves};
use super::scene::Scene;

/// Standard deviation of the microscope's blur for cells of a diameter.
fn focus(diameter: f32, random: &mut Random) -> f32 {
    let sharp = between(random, 0.5, 1.3);
    if random.chance(0.2) { sharp + between(random, 0.0, 0.06) * diameter.min(45.0) } else { sharp }
}

/// A brightness for every cell, log-normal around 1 and never too dim to be seen.
fn brightness(scene: &Scene, random: &mut Random) -> Vec<f32> {
    let spread = between(random, 0.05, 0.6);
    scene.per_cell(random, |random| (spread * normal(random)).clamp(-1.4, 1.2).exp())
}

/// Light of fluorescent bodies filled with stain.
fn filled(scene: &Scene, amount: f32, random: &mut Random) -> Map {
    let fullness = octaves(random, 0.3, 3.0);
    let flat = between(random, 0.0, 0.8);
    let amplitude = scene.spread(&brightness(scene, random));
    let mut map = relief(scene, fullness);
    Zip::from(&mut map)
        .and(&amplitude)
        .for_each(|v, a| *v = a * if *a > 0.0 { flat + (1.0 - flat) * (0.25 + 0.75 * *v) } else { 0.0 });
    modulate(&mut map, &texture(scene.shape(), scene.diameter, random), amount);
    map
}

/// Haze, other planes, debris, dark level.
fn glow(scene: &Scene, mut map: Map, psf: f32, random: &mut Random) -> Map {
    let shape = scene.shape();
    map += &debris(shape, scene.diameter, false, random);
    let mut out = blur(&map, psf);
    if random.chance(0.6) {
        let haze = between(random, 0.03, 0.35);
        out.scaled_add(haze, &blur(&map, (0.8 * scene.diameter).clamp(4.0, 40.0)));
    }
    out += &other_planes(shape, scene.diameter, random);
    let ground = octaves(random, 0.01, 0.4);
    let cloud = between(random, 0.0, 0.25);
    let clouds = noise(shape, between(random, 20.0, 90.0), random);
    Zip::from(&mut out).and(&clouds).for_each(|v, c| *v += ground * (1.0 + cloud * c).max(0.2));
    out
}

pub(super) fn fluorescent_nuclei(scene: &Scene, random: &mut Random) -> Picture {
    let amount = between(random, 0.0, 0.35);
    let mut map = filled(scene, amount, random);
    if random.chance(0.5) {
        let spots = granules(scene, between(random, 1.0, 8.0), [0.03 * scene.diameter, 0.09 * scene.diameter], random);
        let sign = if random.chance(0.5) { between(random, 0.2, 0.9) } else { -between(random, 0.2, 0.6) };
        modulate(&mut map, &spots, sign);
    }
    let psf = focus(scene.diameter, random);
    let mut soft = Map::zeros(scene.shape());
    if random.chance(0.3) {
        // Some nuclei lie out of focus.
        let away = scene.per_cell(random, |random| f32::from(u8::from(random.chance(0.3))));
        let away = scene.spread(&away);
        soft = &map * &away;
        map -= &soft;
        soft = blur(&soft, (0.07 * scene.diameter).clamp(0.8, 4.0));
    }
    let light = glow(scene, map + soft, psf, random);
    let mut picture = Picture::grey(light, 0.9, true);
    if random.chance(0.4) {
        // Another stain: the cytoplasm around.
        let wide = between(random, 0.3, 1.0) * scene.diameter;
        let mut cytoplasm = scene.outside.mapv(|d| (-(d / wide).powi(2)).exp());
        modulate(&mut cytoplasm, &texture(scene.shape(), scene.diameter, random), 0.4);
        picture.planes.push(cytoplasm.mapv(|v| 0.1 + 0.7 * v));
    }
    picture
}

pub(super) fn fluorescent_cytoplasm(scene: &Scene, random: &mut Random) -> Picture {
    let amount = between(random, 0.05, 0.4);
    let mut map = filled(scene, amount, random);
    let nucleus = nuclei(scene, between(random, 0.35, 0.65), random);
    let shown = random.unit();
    if shown < 0.45 {
        modulate(&mut map, &nucleus, -between(random, 0.3, 0.85));
    } else if shown < 0.6 {
        modulate(&mut map, &nucleus, between(random, 0.2, 1.0));
    }
    if random.chance(0.4) {
        let spots = granules(scene, between(random, 4.0, 30.0), [0.5, (0.05 * scene.diameter).max(0.6)], random);
        modulate(&mut map, &spots, between(random, 0.3, 1.5));
    }
    if random.chance(0.3) {
        let edge = rim(scene, between(random, 1.0, 3.0));
        modulate(&mut map, &edge, between(random, 0.2, 1.2));
    }
    let psf = focus(scene.diameter, random);
    let light = glow(scene, map, psf, random);
    let mut picture = Picture::grey(light, 0.8, true);
    if random.chance(0.5) {
        picture.planes.push(blur(&nucleus, 0.9).mapv(|v| 0.05 + v));
    }
    picture
}

/// Stained outlines: membranes of epithelium, walls of plant cells.
pub(super) fn membranes(scene: &Scene, wall: f32, random: &mut Random) -> Picture {
    let shape = scene.shape();
    let mut map = rim(scene, (0.5 * wall).max(0.8));
    if wall > 2.0 {
        // The space between the cells belongs to the wall, as far as walls are thick; wider gaps stay dark or fill.
        let filled = random.chance(0.5);
        Zip::from(&mut map).and(&scene.outside).for_each(|v, d| {
            if *d > 0.0 && (filled || *d < 0.8 * wall) {
                *v = v.max(0.95);
            }
        });
    }
    let uneven = between(random, 0.05, 0.45);
    modulate(&mut map, &noise(shape, between(random, 8.0, 40.0), random), uneven);
    modulate(&mut map, &noise(shape, 2.0, random), between(random, 0.0, 0.3));
    let inside = if random.chance(0.5) { between(random, 0.0, 0.12) } else { between(random, 0.05, 0.5) };
    let levels = scene.per_cell(random, |random| between(random, 0.2, 1.8));
    let mut content = scene.spread(&levels) * inside;
    modulate(&mut content, &texture(shape, scene.diameter, random), between(random, 0.0, 0.5));
    map += &content;
    if random.chance(0.3) {
        let nucleus = nuclei(scene, between(random, 0.25, 0.5), random);
        map.scaled_add(between(random, 0.1, 0.7), &nucleus);
    }
    let psf = focus(scene.diameter, random).min(1.6);
    let mut light = glow(scene, map, psf, random);
    if random.chance(0.25) {
        // Dark walls in bright tissue.
        let top = light.iter().copied().fold(0.0, f32::max);
        light.mapv_inplace(|v| top - v);
    }
    let mut picture = Picture::grey(light, 0.7, true);
    if random.chance(0.4) {
        let nucleus = nuclei(scene, between(random, 0.35, 0.6), random);
        picture.planes.push(blur(&nucleus, 1.0).mapv(|v| 0.05 + v));
    }
    picture
}

/// Phase contrast: bodies darker (or brighter) than the ground, with a halo of the other sign.
pub(super) fn phase_contrast(scene: &Scene, bacteria: bool, random: &mut Random) -> Picture {
    let shape = scene.shape();
    let size = scene.diameter;
    let fullness = octaves(random, 0.4, 3.0);
    let mut body = relief(scene, fullness);
    let levels = scene.per_cell(random, |random| (0.18 * normal(random)).exp());
    body *= &scene.spread(&levels);
    let amount = if bacteria { between(random, 0.0, 0.12) } else { between(random, 0.05, 0.5) };
    modulate(&mut body, &texture(shape, size, random), amount);
    if !bacteria && random.chance(0.5) {
        let nucleus = nuclei(scene, between(random, 0.3, 0.5), random);
        modulate(&mut body, &nucleus, between(random, -0.6, 0.8));
        let spots = granules(scene, between(random, 2.0, 12.0), [0.6, (0.06 * size).max(0.7)], random);
        body.scaled_add(between(random, -0.8, 0.8), &spots);
    }
    body += &(debris(shape, size, true, random) * 0.5);
    let thick = mean_thickness(scene).max(1.5);
    let far = (between(random, 0.8, 2.5) * thick).clamp(1.5, 14.0);
    let strength = between(random, 0.4, 1.1);
    let mut light = halo(&body, focus(size, random).min(1.1), far, strength);
    // Light that the halo loses in crowds is given back in part, so that gaps inside colonies shine.
    light.scaled_add(between(random, 0.0, 0.25), &blur(&body, 2.5 * far));
    let sign = if random.chance(if bacteria { 0.88 } else { 0.65 }) { -1.0 } else { 1.0 };
    let medium = noise(shape, between(random, 3.0, 15.0), random) * between(random, 0.0, 0.06);
    let mut out = light.mapv(|v| 1.6 + sign * v) + medium;
    if random.chance(0.4) {
        let edge = blur(&rim(scene, between(random, 0.8, 1.8)), 0.6);
        out.scaled_add(between(random, -0.5, 0.5), &edge);
    }
    Picture::grey(out, 0.7, false)
}

fn mean_thickness(scene: &Scene) -> f32 {
    scene.thickness.iter().skip(1).sum::<f32>() / scene.count.max(1) as f32
}

/// Brightfield: nearly clear cells with dark and bright rims from slight defocus, absorbing spots inside.
pub(super) fn brightfield(scene: &Scene, random: &mut Random) -> Picture {
    let shape = scene.shape();
    let size = scene.diameter;
    let sign = if random.chance(0.5) { 1.0 } else { -1.0 };
    let width = (between(random, 0.03, 0.12) * size).clamp(0.8, 4.0);
    // A bright line inside a dark one, or the other way round.
    let mut out = Zip::from(&scene.depth).and(&scene.outside).map_collect(|&depth, &outside| {
        let d = depth - outside;
        let line = |at: f32| (-((d - at) / width).powi(2)).exp();
        sign * (0.9 * line(0.3 * width) - 0.7 * line(2.2 * width))
    });
    let second = between(random, 0.0, 1.0);
    out *= 0.5 + 0.5 * second;
    let levels = scene.per_cell(random, |random| 0.7 + 0.3 * normal(random));
    out.scaled_add(between(random, -0.5, 0.5), &scene.spread(&levels));
    let mut inner = relief(scene, 1.0);
    let grain = texture(shape, size, random);
    Zip::from(&mut inner).and(&grain).for_each(|v, t| *v *= t);
    out.scaled_add(between(random, 0.03, 0.35), &inner);
    if random.chance(0.6) {
        let spots = granules(scene, between(random, 1.0, 9.0), [0.6, (0.09 * size).max(0.7)], random);
        out.scaled_add(between(random, -1.0, 0.8), &spots);
    }
    out += &debris(shape, size, true, random);
    out = blur(&out, focus(size, random).min(1.8));
    out.scaled_add(between(random, 0.0, 0.12), &noise(shape, between(random, 5.0, 40.0), random));
    Picture::grey(out.mapv(|v| 2.0 + v), 0.6, false)
}

/// Differential interference contrast: cells as reliefs lit from one side.
pub(super) fn interference(scene: &Scene, random: &mut Random) -> Picture {
    let shape = scene.shape();
    let size = scene.diameter;
    let mut height = relief(scene, octaves(random, 0.5, 2.0));
    let levels = scene.per_cell(random, |random| (0.2 * normal(random)).exp());
    height *= &scene.spread(&levels);
    height = blur(&height, (0.03 * size).clamp(0.5, 2.0));
    modulate(&mut height, &texture(shape, size, random), between(random, 0.0, 0.2));
    if random.chance(0.7) {
        height.scaled_add(between(random, -0.4, 0.5), &blur(&nuclei(scene, between(random, 0.25, 0.5), random), 1.2));
        let spots = granules(scene, between(random, 1.0, 15.0), [0.6, (0.06 * size).max(0.7)], random);
        height.scaled_add(between(random, -0.4, 0.5), &spots);
    }
    height += &(debris(shape, size, true, random) * 0.4);
    height.scaled_add(between(random, 0.0, 0.05), &noise(shape, between(random, 2.5, 12.0), random));
    let shear = between(random, 0.7, 2.0);
    let mut out = slope(&height, between(random, 0.0, TAU), shear);
    out /= shear * (2.5 / mean_thickness(scene).max(2.5)).max(0.15);
    if random.chance(0.4) {
        out.scaled_add(between(random, -0.4, 0.4), &blur(&height, 1.0));
    }
    Picture::grey(out.mapv(|v| 2.5 + v), 0.6, false)
}

/// Sections in two absorbing stains: nuclei in one, cytoplasm and fibres in the other.
pub(super) fn stained_tissue(scene: &Scene, random: &mut Random) -> Picture {
    let shape = scene.shape();
    let size = scene.diameter;
    let mut stained = filled(scene, between(random, 0.05, 0.4), random);
    if random.chance(0.4) {
        modulate(&mut stained, &rim(scene, (0.08 * size).max(1.0)), between(random, 0.2, 0.9));
    }
    let angle = random.chance(0.5);
    let fibre = between(random, 4.0, 25.0);
    let cells = if angle { [fibre, 5.0 * fibre] } else { [fibre, fibre] };
    let fibres =
        super::maps::noise_stretched(shape, if random.chance(0.5) { cells } else { [cells[1], cells[0]] }, random);
    let fine = noise(shape, between(random, 1.5, 4.0), random);
    let gaps = noise(shape, between(random, 15.0, 80.0), random);
    let threshold = between(random, -2.5, -0.2);
    let strength = between(random, 0.15, 0.7);
    let mut counter = Map::zeros(shape);
    Zip::from(&mut counter).and(&fibres).and(&fine).and(&gaps).for_each(|v, f, n, g| {
        let present = ((g - threshold) * 6.0).clamp(0.0, 1.0);
        *v = present * (strength * (1.0 + 0.35 * f + 0.15 * n)).max(0.02);
    });
    let psf = focus(size, random);
    let depth = between(random, 0.6, 1.6);
    let stained = blur(&(stained + debris(shape, size, false, random) * 0.6 + other_planes(shape, size, random)), psf);
    let counter = blur(&counter, psf);
    // Optical densities in red, green and blue of a blue-violet and a pink stain, or of another pair.
    let (first, second) = if random.chance(0.75) {
        (
            [between(random, 0.5, 0.8), between(random, 0.6, 0.9), between(random, 0.25, 0.5)],
            [between(random, 0.03, 0.2), between(random, 0.4, 0.8), between(random, 0.15, 0.45)],
        )
    } else {
        let mut any = || [between(random, 0.1, 0.9), between(random, 0.1, 0.9), between(random, 0.1, 0.9)];
        (any(), any())
    };
    let planes = (0..3)
        .map(|c| {
            Zip::from(&stained).and(&counter).map_collect(|s, t| (-depth * (s * first[c] * 1.3 + t * second[c])).exp())
        })
        .collect();
    Picture { planes, contrast: 0.35, glowing: false }
}

/// Yeast and other round cells with sharp walls in transmitted light.
pub(super) fn rimmed(scene: &Scene, random: &mut Random) -> Picture {
    let shape = scene.shape();
    let size = scene.diameter;
    let width = (between(random, 0.05, 0.16) * size).clamp(0.9, 4.0);
    let polarity = if random.chance(0.5) { 1.0 } else { -1.0 };
    let inner = between(random, -0.6, 0.6);
    let offset = between(random, 0.0, 1.5);
    let mut out = Zip::from(&scene.depth).and(&scene.outside).map_collect(|&depth, &outside| {
        let d = depth - outside;
        let line = |at: f32, width: f32| (-((d - at) / width).powi(2)).exp();
        let body = 1.0 / (1.0 + (-(d - offset) / 0.5).exp());
        polarity * (line(offset, width) - 0.6 * line(-1.5 * width, 1.3 * width)) + inner * body
    });
    let mut grain = relief(scene, 1.0);
    let fine = texture(shape, size, random);
    Zip::from(&mut grain).and(&fine).for_each(|v, t| *v *= t);
    out.scaled_add(between(random, 0.02, 0.25), &grain);
    if random.chance(0.6) {
        let vacuole = nuclei(scene, between(random, 0.3, 0.6), random);
        out.scaled_add(between(random, -0.5, 0.5), &vacuole);
        let spots = granules(scene, between(random, 0.5, 3.0), [0.6, (0.08 * size).max(0.7)], random);
        out.scaled_add(between(random, -0.8, 0.8), &spots);
    }
    out += &(debris(shape, size, true, random) * 0.6);
    out = blur(&out, focus(size, random).min(1.5));
    out.scaled_add(between(random, 0.0, 0.06), &noise(shape, between(random, 3.0, 20.0), random));
    Picture::grey(out.mapv(|v| 2.2 + v), 0.6, false)
}

/// Anything that can be told from its surroundings: random levels and textures inside, outside and at the rim.
pub(super) fn restyled(scene: &Scene, random: &mut Random) -> Picture {
    let shape = scene.shape();
    let size = scene.diameter;
    let flat = random.chance(0.4);
    let levels = scene.per_cell(random, |random| if flat { 1.0 } else { (0.3 * normal(random)).exp() });
    let inside = if random.chance(0.75) { 1.0 } else { between(random, -0.25, 0.25) };
    let edge = if inside < 0.5 || random.chance(0.3) { between(random, 0.7, 1.3) } else { 0.0 };
    let edge = if random.chance(0.3) { -edge } else { edge };
    let mut out = scene.spread(&levels) * inside;
    if random.chance(0.5) {
        let dome = relief(scene, octaves(random, 0.4, 2.5));
        Zip::from(&mut out).and(&dome).for_each(|v, d| *v *= 0.4 + 0.6 * d);
    }
    let grain = texture(shape, size, random);
    let amount = between(random, 0.0, 0.35);
    Zip::from(&mut out)
        .and(&grain)
        .and(&scene.labels)
        .for_each(|v, t, id| *v += if *id > 0 { amount * t } else { 0.0 });
    out.scaled_add(edge, &rim(scene, (between(random, 0.03, 0.12) * size).clamp(0.8, 4.0)));
    let around = noise(shape, octaves(random, 1.5, 40.0), random);
    let level = between(random, 0.0, 0.2);
    Zip::from(&mut out)
        .and(&around)
        .and(&scene.labels)
        .for_each(|v, t, id| *v += if *id == 0 { level * t } else { 0.0 });
    out += &(debris(shape, size, true, random) * 0.7);
    out = blur(&out, focus(size, random));
    if random.chance(0.3) {
        let shade = blur(&out, (0.7 * size).clamp(3.0, 20.0));
        out.scaled_add(-between(random, 0.0, 0.8), &shade);
    }
    if random.chance(0.5) {
        out.mapv_inplace(|v| -v);
    }
    out.scaled_add(between(random, 0.0, 0.5), &drift(shape, random));
    Picture::grey(out.mapv(|v| 2.0 + v), 0.7, false)
}

/// Nothing to find: an even or uneven ground, debris, light from far planes.
pub(super) fn nothing(scene: &Scene, random: &mut Random) -> Picture {
    let shape = scene.shape();
    let glowing = random.chance(0.5);
    let mut out = Map::from_elem(shape, if glowing { 0.2 } else { 1.5 });
    match random.below(6) {
        0 => {}
        1 => out.scaled_add(between(random, 0.1, 0.6), &drift(shape, random)),
        2 => out.scaled_add(between(random, 0.02, 0.2), &noise(shape, octaves(random, 1.5, 80.0), random)),
        3 => out += &other_planes(shape, octaves(random, 20.0, 90.0), random),
        4 => out += &blur(&debris(shape, octaves(random, 8.0, 30.0), !glowing, random), 0.8),
        _ => {
            out.scaled_add(between(random, 0.0, 0.1), &noise(shape, octaves(random, 2.0, 30.0), random));
            out.scaled_add(between(random, 0.0, 0.4), &drift(shape, random));
            out += &blur(&debris(shape, octaves(random, 8.0, 30.0), !glowing, random), 0.8);
        }
    }
    Picture::grey(out, if random.chance(0.15) { 0.0 } else { 0.8 }, glowing)
}
