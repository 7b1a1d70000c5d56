//! Sparse labels as a careful person would draw them.

use std::f64::consts::{PI, TAU};

use ndarray::{Array2, Axis};

use crate::random::Random;
use crate::raster::LabelImage;

use super::field::Field;

/// How much of a field is annotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnotationOptions {
    /// Whole nuclei drawn. Default 6.
    pub cells: usize,
    /// Straight background strokes on the empty ground. Default 4.
    pub strokes: usize,
    /// Whether background arcs of half a turn are drawn beside every second annotated nucleus. Default true: background
    /// right beside nuclei teaches a network where they end.
    pub arcs: bool,
}

impl Default for AnnotationOptions {
    fn default() -> Self {
        Self { cells: 6, strokes: 4, arcs: true }
    }
}

/// Strokes keep further away than this from every nucleus, in pixels.
const STROKE_MARGIN: f32 = 3.0;
/// Arcs lie between these two distances from their nucleus, in pixels. The first leaves one pixel of doubt at the edge.
const ARC: [f32; 2] = [1.5, 4.3];
/// Distances are known up to here, in pixels.
const HORIZON: f32 = 7.0;

/// Annotates a field: a few whole nuclei of varied size and brightness, one of them of a touching pair, and background
/// strokes. Returns a label image `[H, W]`: `-1` unlabelled, `0` background, otherwise the id in the field's truth.
///
/// Nothing contradicts the truth: nuclei are whole, background pixels are background and not next to any nucleus.
/// Nuclei cut by the border are taken only when there are not enough others.
pub fn annotate(field: &Field, options: &AnnotationOptions, seed: u64) -> LabelImage {
    let mut random = Random::new(seed, 3);
    let mut labels = LabelImage::from_elem(field.truth.dim(), -1);
    let chosen = choose(field, options.cells, &mut random);
    for (label, &id) in labels.iter_mut().zip(&field.truth) {
        if id > 0 && chosen.contains(&id) {
            *label = id;
        }
    }
    let near = distance(&field.truth, |id| id > 0);
    if options.arcs {
        for &id in chosen.iter().step_by(2) {
            draw_arc(&mut labels, &field.truth, &near, id, &mut random);
        }
    }
    draw_strokes(&mut labels, &near, options.strokes, &mut random);
    labels
}

#[derive(Debug, Clone, Default)]
struct Cell {
    id: i32,
    area: usize,
    brightness: f64,
    cut: bool,
    touching: bool,
}

/// Ids of the nuclei to draw: one of each class of size, by turns a darker and a brighter one of its class.
fn choose(field: &Field, wanted: usize, random: &mut Random) -> Vec<i32> {
    let mut cells = describe(field);
    let whole = cells.iter().filter(|cell| !cell.cut).count();
    if whole >= wanted {
        cells.retain(|cell| !cell.cut);
    }
    cells.sort_by_key(|cell| (cell.area, cell.id));
    let wanted = wanted.min(cells.len());
    let mut chosen: Vec<&Cell> = Vec::with_capacity(wanted);
    for class in 0..wanted {
        let mut members: Vec<&Cell> =
            cells[class * cells.len() / wanted..(class + 1) * cells.len() / wanted].iter().collect();
        members.sort_by(|a, b| a.brightness.total_cmp(&b.brightness));
        let half = members.len().div_ceil(2);
        let side = if class % 2 == 0 { &members[..half] } else { &members[members.len() - half..] };
        chosen.push(side[random.below(side.len())]);
    }
    if !chosen.iter().any(|cell| cell.touching) {
        for (class, pick) in chosen.iter_mut().enumerate() {
            let members = &cells[class * cells.len() / wanted..(class + 1) * cells.len() / wanted];
            if let Some(cell) = members.iter().find(|cell| cell.touching) {
                *pick = cell;
                break;
            }
        }
    }
    chosen.into_iter().map(|cell| cell.id).collect()
}

fn describe(field: &Field) -> Vec<Cell> {
    let truth = &field.truth;
    let (height, width) = truth.dim();
    let count = truth.iter().copied().max().unwrap_or(0).max(0) as usize;
    let mut cells: Vec<Cell> = (1..=count).map(|id| Cell { id: id as i32, ..Cell::default() }).collect();
    let samples = field.image.to_f32();
    let grey = samples.index_axis(Axis(2), 0);
    for ((y, x), &id) in truth.indexed_iter() {
        if id <= 0 {
            continue;
        }
        let cell = &mut cells[id as usize - 1];
        cell.area += 1;
        cell.brightness += f64::from(grey.get((y, x)).copied().unwrap_or(0.0));
        cell.cut |= y == 0 || x == 0 || y + 1 == height || x + 1 == width;
        let below_and_right = [(y + 1, x), (y, x + 1)];
        for other in below_and_right.into_iter().filter_map(|position| truth.get(position).copied()) {
            if other > 0 && other != id {
                cells[id as usize - 1].touching = true;
                cells[other as usize - 1].touching = true;
            }
        }
    }
    cells.retain(|cell| cell.area > 0);
    cells.iter_mut().for_each(|cell| cell.brightness /= cell.area as f64);
    cells
}

/// Distance of every pixel to the nearest one with a wanted id, infinite beyond the horizon.
fn distance(truth: &LabelImage, wanted: impl Fn(i32) -> bool) -> Array2<f32> {
    let (height, width) = truth.dim();
    let reach = HORIZON as isize;
    let mut out = Array2::from_elem((height, width), f32::INFINITY);
    for ((y, x), &id) in truth.indexed_iter() {
        if !wanted(id) {
            continue;
        }
        out[[y, x]] = 0.0;
        let inner = [(y.wrapping_sub(1), x), (y + 1, x), (y, x.wrapping_sub(1)), (y, x + 1)]
            .into_iter()
            .all(|position| truth.get(position).is_none_or(|&other| wanted(other)));
        if inner {
            continue;
        }
        for dy in -reach..=reach {
            for dx in -reach..=reach {
                let length = ((dy * dy + dx * dx) as f32).sqrt();
                let position = (y.wrapping_add_signed(dy), x.wrapping_add_signed(dx));
                if length <= HORIZON
                    && let Some(value) = out.get_mut(position)
                {
                    *value = value.min(length);
                }
            }
        }
    }
    out
}

/// Straight strokes 2 to 3 pixels wide on the empty ground, 20 to 60 pixels long, shorter where there is little room.
fn draw_strokes(labels: &mut LabelImage, near: &Array2<f32>, strokes: usize, random: &mut Random) {
    let (height, width) = labels.dim();
    let free: Vec<(usize, usize)> =
        near.indexed_iter().filter(|(_, distance)| **distance > HORIZON).map(|(position, _)| position).collect();
    let mut drawn = 0;
    for attempt in 0..2000 {
        if drawn == strokes || free.is_empty() {
            return;
        }
        let (y, x) = free[random.below(free.len())];
        let shrink = 1.0 - 0.8 * f64::from(attempt) / 2000.0;
        let length = shrink * random.uniform(20.0, 60.0);
        let direction = random.uniform(0.0, TAU);
        let half_width = random.uniform(1.0, 1.45);
        let end = [y as f64 + length * direction.sin(), x as f64 + length * direction.cos()];
        if end[0] < 0.0 || end[1] < 0.0 || end[0] > (height - 1) as f64 || end[1] > (width - 1) as f64 {
            continue;
        }
        let pixels = stroke([y as f64, x as f64], end, half_width, (height, width));
        if pixels.iter().all(|&position| near[position] > STROKE_MARGIN && labels[position] < 0) {
            pixels.into_iter().for_each(|position| labels[position] = 0);
            drawn += 1;
        }
    }
}

/// Pixels whose centre is at most `half_width` from the segment.
fn stroke(from: [f64; 2], to: [f64; 2], half_width: f64, shape: (usize, usize)) -> Vec<(usize, usize)> {
    let span = |a: f64, b: f64, size: usize| {
        let first = (a.min(b) - half_width).ceil().max(0.0) as usize;
        first..((a.max(b) + half_width).floor() as usize + 1).min(size)
    };
    let (ay, ax) = (to[0] - from[0], to[1] - from[1]);
    let squared = (ay * ay + ax * ax).max(1e-9);
    let mut pixels = Vec::new();
    for y in span(from[0], to[0], shape.0) {
        for x in span(from[1], to[1], shape.1) {
            let (py, px) = (y as f64 - from[0], x as f64 - from[1]);
            let along = ((py * ay + px * ax) / squared).clamp(0.0, 1.0);
            if (py - along * ay).hypot(px - along * ax) <= half_width {
                pixels.push((y, x));
            }
        }
    }
    pixels
}

/// A background arc of half a turn just outside one nucleus, with a margin to all others.
fn draw_arc(labels: &mut LabelImage, truth: &LabelImage, near: &Array2<f32>, id: i32, random: &mut Random) {
    let own = distance(truth, |other| other == id);
    let mut centre = [0.0, 0.0];
    let mut area = 0.0;
    for ((y, x), _) in truth.indexed_iter().filter(|(_, other)| **other == id) {
        centre[0] += y as f64;
        centre[1] += x as f64;
        area += 1.0;
    }
    let start = random.uniform(0.0, TAU);
    for (position, &distance) in own.indexed_iter() {
        let angle = (position.0 as f64 - centre[0] / area).atan2(position.1 as f64 - centre[1] / area);
        let inside = distance > ARC[0] && distance <= ARC[1] && (angle - start).rem_euclid(TAU) < PI;
        if inside && near[position] > ARC[0] {
            labels[position] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::synthetic::{FieldOptions, draw_field};

    #[test]
    fn annotations_agree_with_the_truth() {
        for seed in 0..8 {
            let field = draw_field(&FieldOptions::default(), seed).unwrap();
            let labels = annotate(&field, &AnnotationOptions::default(), seed);
            let drawn: BTreeSet<i32> = labels.iter().copied().filter(|label| *label > 0).collect();
            assert_eq!(drawn.len(), 6, "seed {seed}");
            for (label, id) in labels.iter().zip(&field.truth) {
                match *label {
                    -1 => assert!(!drawn.contains(id), "a drawn nucleus is not whole"),
                    0 => assert_eq!(*id, 0, "background on a nucleus"),
                    label => assert_eq!(label, *id),
                }
            }
            let nuclei = distance(&field.truth, |id| id > 0);
            assert!(labels.iter().zip(&nuclei).all(|(label, distance)| *label != 0 || *distance > 1.0));
            let background = labels.iter().filter(|label| **label == 0).count();
            let beside = labels.iter().zip(&nuclei).filter(|(label, d)| **label == 0 && **d <= ARC[1]).count();
            assert!((200..2500).contains(&background), "seed {seed}: {background}");
            assert!(beside > 60, "seed {seed}: only {beside} background pixels beside nuclei");
        }
    }

    #[test]
    fn chosen_nuclei_are_whole_varied_and_one_touches() {
        for seed in 0..8 {
            let field = draw_field(&FieldOptions::default(), seed).unwrap();
            let chosen = choose(&field, 6, &mut Random::new(seed, 3));
            let cells: Vec<Cell> = describe(&field).into_iter().filter(|cell| chosen.contains(&cell.id)).collect();
            assert!(cells.iter().all(|cell| !cell.cut));
            assert!(cells.iter().any(|cell| cell.touching), "seed {seed}");
            let areas: Vec<usize> = cells.iter().map(|cell| cell.area).collect();
            assert!(
                areas.iter().max() > areas.iter().min().map(|area| area * 3 / 2).as_ref(),
                "seed {seed}: {areas:?}"
            );
        }
    }

    #[test]
    fn options_and_seed_decide() {
        let field = draw_field(&FieldOptions::default(), 0).unwrap();
        let options = AnnotationOptions::default();
        assert_eq!(annotate(&field, &options, 1), annotate(&field, &options, 1));
        assert_ne!(annotate(&field, &options, 1), annotate(&field, &options, 2));
        let cells_only = AnnotationOptions { cells: 1000, strokes: 0, arcs: false };
        let labels = annotate(&field, &cells_only, 1);
        assert_eq!(labels.mapv(|label| label.max(0)), field.truth);
        let nothing = AnnotationOptions { cells: 0, strokes: 0, arcs: true };
        assert!(annotate(&field, &nothing, 1).iter().all(|label| *label == -1));
    }

    #[test]
    fn distances_are_euclidean_up_to_the_horizon() {
        let mut truth = LabelImage::zeros((20, 20));
        truth[[10, 10]] = 3;
        let near = distance(&truth, |id| id == 3);
        assert_eq!(near[[13, 14]], 5.0);
        assert_eq!(near[[10, 10]], 0.0);
        assert!(near[[10, 18]].is_infinite());
    }
}
