//! Where the cells are: placing bodies with little overlap, growing sheets, and the label image with its distances.

use crate::geometry::distance::{distance_transform_edt, label_distances};
use crate::random::Random;
use crate::raster::LabelImage;
use crate::synthetic::layout::keep_largest_parts;

use super::maps::{Map, between, noise, normal};
use super::shapes::Body;

/// No cell has fewer visible pixels.
pub(super) const SMALLEST: usize = 14;
/// Pixels beyond an outline in which its distance is still noted.
const MARGIN: f32 = 7.0;
/// No world holds more cells.
const MOST: usize = 20_000;

/// The finished arrangement of cells.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    /// 0 background, 1, 2, ... without gaps the cells, each one 4-connected region.
    pub(super) labels: LabelImage,
    pub(super) count: usize,
    /// Distance of the pixels of a cell to its edge, 0 outside cells.
    pub(super) depth: Map,
    /// Distance of the background to the nearest cell, 0 inside cells.
    pub(super) outside: Map,
    /// Greatest depth of each cell; entry 0 is not used.
    pub(super) thickness: Vec<f32>,
    /// The pixel where the depth is greatest.
    pub(super) middle: Vec<[f32; 2]>,
    /// Typical diameter in pixels.
    pub(super) diameter: f32,
}

impl Scene {
    /// Keeps the largest part of every id and drops specks; `diameter` is the typical one that was asked for.
    pub(super) fn new(mut labels: LabelImage, diameter: f32) -> Self {
        let highest = labels.iter().copied().max().unwrap_or(0).max(0) as usize;
        keep_largest_parts(&mut labels, highest);
        let mut areas = vec![0usize; highest + 1];
        for &id in &labels {
            areas[id.max(0) as usize] += 1;
        }
        let typical = 0.785 * diameter * diameter;
        let smallest = SMALLEST.max((0.015 * typical) as usize);
        let mut count = 0;
        let mut renamed = vec![0i32; highest + 1];
        for id in 1..=highest {
            if areas[id] >= smallest {
                count += 1;
                renamed[id] = count as i32;
            }
        }
        labels.mapv_inplace(|id| renamed[id.max(0) as usize]);
        let (depth, outside) = distances(&labels);
        let mut thickness = vec![0.0f32; count + 1];
        let mut middle = vec![[0.0f32; 2]; count + 1];
        for ((y, x), &id) in labels.indexed_iter() {
            if id > 0 && depth[[y, x]] > thickness[id as usize] {
                thickness[id as usize] = depth[[y, x]];
                middle[id as usize] = [y as f32, x as f32];
            }
        }
        Self { labels, count, depth, outside, thickness, middle, diameter }
    }

    /// A scene without cells.
    pub(super) fn empty(shape: (usize, usize), diameter: f32) -> Self {
        Self::new(LabelImage::zeros(shape), diameter)
    }

    pub(super) fn shape(&self) -> (usize, usize) {
        self.labels.dim()
    }

    /// A value for every cell, drawn by `draw`; entry 0 is 0.
    pub(super) fn per_cell(&self, random: &mut Random, draw: impl Fn(&mut Random) -> f32) -> Vec<f32> {
        (0..=self.count).map(|id| if id == 0 { 0.0 } else { draw(random) }).collect()
    }

    /// The value of the cell of every pixel, 0 in the background.
    pub(super) fn spread(&self, values: &[f32]) -> Map {
        self.labels.mapv(|id| values[id as usize])
    }
}

fn distances(labels: &LabelImage) -> (Map, Map) {
    let far = (labels.nrows() + labels.ncols()) as f32;
    // Edges run half a pixel from the centres of the pixels on both sides.
    let from_edge = |distance: f64| if distance > 0.0 { (distance as f32 - 0.5).min(far) } else { 0.0 };
    let depth = label_distances(labels.view()).mapv(from_edge);
    let outside = distance_transform_edt(labels.mapv(|id| id == 0).view()).mapv(from_edge);
    (depth, outside)
}

/// Bends the plane: where the point that is seen at a pixel lies before bending.
#[derive(Debug, Clone)]
pub(super) struct Bend {
    dy: Map,
    dx: Map,
    most: f32,
}

impl Bend {
    /// Displacements of about `amplitude` pixels that vary over `cell` pixels.
    pub(super) fn new(shape: (usize, usize), amplitude: f32, cell: f32, random: &mut Random) -> Self {
        let mut draw = || noise(shape, cell, random).mapv(|v| amplitude * v.clamp(-2.5, 2.5));
        Self { dy: draw(), dx: draw(), most: 2.5 * amplitude }
    }

    fn at(&self, y: usize, x: usize) -> [f32; 2] {
        [y as f32 + self.dy[[y, x]], x as f32 + self.dx[[y, x]]]
    }
}

/// Bodies placed so far. A pixel inside several outlines belongs to the body in which it lies deepest, so that cells
/// that were pressed into each other meet along a line.
pub(super) struct Canvas {
    shape: (usize, usize),
    bend: Bend,
    distance: Map,
    labels: LabelImage,
    pub(super) bodies: Vec<Body>,
    covered: usize,
}

impl Canvas {
    pub(super) fn new(shape: (usize, usize), bend: Bend) -> Self {
        let (distance, labels) = (Map::from_elem(shape, f32::INFINITY), LabelImage::zeros(shape));
        Self { shape, bend, distance, labels, bodies: Vec::new(), covered: 0 }
    }

    /// Fraction of the pixels inside bodies.
    pub(super) fn cover(&self) -> f32 {
        self.covered as f32 / self.labels.len().max(1) as f32
    }

    /// Places a body unless more than the share `overlap` of its pixels is nearer than `gap` to another one.
    pub(super) fn place(&mut self, body: Body, gap: f32, overlap: f32) -> bool {
        let (height, width) = self.shape;
        let reach = body.reach + MARGIN + self.bend.most;
        let span = |c: f32, size: usize| {
            let first = (c - reach).floor().clamp(0.0, size as f32) as usize;
            first..((c + reach).ceil() + 1.0).clamp(first as f32, size as f32) as usize
        };
        let (rows, columns) = (span(body.centre[0], height), span(body.centre[1], width));
        let outline = body.outline();
        // Most places that are tried are taken: the count ends as soon as it is too high.
        let most = overlap * body.area();
        let mut taken = 0;
        for y in rows.clone() {
            for x in columns.clone() {
                if self.distance[[y, x]] < gap && outline.distance(self.bend.at(y, x)) < 0.0 {
                    taken += 1;
                }
            }
            if taken as f32 > most {
                return false;
            }
        }
        let mut window = Vec::with_capacity(rows.len() * columns.len());
        for y in rows.clone() {
            window.extend(columns.clone().map(|x| outline.distance(self.bend.at(y, x))));
        }
        if window.iter().filter(|distance| **distance < 0.0).count() < 4 || self.bodies.len() >= MOST {
            return false;
        }
        let id = self.bodies.len() as i32 + 1;
        let mut values = window.into_iter();
        for y in rows {
            for x in columns.clone() {
                let Some(distance) = values.next() else { break };
                let nearest = &mut self.distance[[y, x]];
                if distance < MARGIN && distance < *nearest {
                    if distance < 0.0 {
                        self.covered += usize::from(*nearest >= 0.0);
                        self.labels[[y, x]] = id;
                    }
                    *nearest = distance;
                }
            }
        }
        self.bodies.push(body);
        true
    }

    pub(super) fn finish(self, diameter: f32) -> Scene {
        Scene::new(self.labels, diameter)
    }
}

/// How bodies are scattered.
#[derive(Debug, Clone)]
pub(super) struct Scatter {
    /// Fraction of the image that cells should cover; crowded images may end with less.
    pub(super) cover: f32,
    /// Free pixels between cells that do not touch.
    pub(super) gap: f32,
    /// Fraction of a cell that may lie in others when it was put against one.
    pub(super) overlap: f32,
    /// Probability that a cell is put against an earlier one.
    pub(super) touching: f32,
    /// Cells put against another one take its direction, and lie beside or behind it.
    pub(super) aligned: bool,
    /// Only centres where this map is positive are tried first-hand.
    pub(super) where_: Option<Map>,
}

/// Scatters bodies drawn by `make` until the wanted cover is reached or places are hard to find.
pub(super) fn scatter(
    canvas: &mut Canvas,
    options: &Scatter,
    random: &mut Random,
    make: &mut dyn FnMut(&mut Random) -> Body,
) {
    let (height, width) = (canvas.shape.0 as f32, canvas.shape.1 as f32);
    let mut failures = 0;
    while canvas.cover() < options.cover && failures < 160 && canvas.bodies.len() < MOST {
        let mut body = make(random);
        let placed = if !canvas.bodies.is_empty() && random.chance(f64::from(options.touching)) {
            attach(canvas, body, options, random)
        } else {
            let margin = 0.5 * body.reach;
            let at = [between(random, -margin, height + margin), between(random, -margin, width + margin)];
            body.centre = at;
            let row = at[0].clamp(0.0, height - 1.0) as usize;
            let column = at[1].clamp(0.0, width - 1.0) as usize;
            let wanted = options.where_.as_ref().is_none_or(|map| map[[row, column]] > 0.0);
            if !wanted {
                failures += 1;
                continue;
            }
            canvas.place(body, options.gap, 0.0)
        };
        failures = if placed { 0 } else { failures + 4 };
    }
}

/// Moves a body away from an earlier one until they overlap as little as asked for.
fn attach(canvas: &mut Canvas, mut body: Body, options: &Scatter, random: &mut Random) -> bool {
    let count = canvas.bodies.len();
    // Recent cells have free sides more often.
    let index = if random.chance(0.5) { count - 1 - random.below(count.min(12)) } else { random.below(count) };
    let other = canvas.bodies[index].clone();
    let mut direction = between(random, 0.0, std::f32::consts::TAU);
    if options.aligned {
        body.angle = other.angle + 0.12 * normal(random);
        let behind = random.chance(0.35);
        let side = if random.chance(0.5) { 0.0 } else { std::f32::consts::PI };
        direction = other.angle + side + if behind { 0.1 * normal(random) } else { std::f32::consts::FRAC_PI_2 };
    }
    let slide = if options.aligned { 0.4 * other.reach * normal(random) } else { 0.0 };
    let start = [other.centre[0] + slide * other.angle.sin(), other.centre[1] + slide * other.angle.cos()];
    let step = (0.07 * body.reach).max(0.7);
    let mut away = 0.2 * body.reach;
    for _ in 0..26 {
        body.centre = [start[0] + away * direction.sin(), start[1] + away * direction.cos()];
        let outside = |c: f32, size: usize| c < -0.5 * body.reach || c > size as f32 + 0.5 * body.reach;
        if outside(body.centre[0], canvas.shape.0) || outside(body.centre[1], canvas.shape.1) {
            return false;
        }
        if canvas.place(body.clone(), 0.0, options.overlap) {
            return true;
        }
        away += step;
    }
    false
}

/// How a sheet without gaps is grown.
#[derive(Debug, Clone)]
pub(super) struct Sheet {
    /// Smallest and largest radius of the cells in pixels.
    pub(super) radii: [f32; 2],
    /// Exponent of the fraction of large cells: 0 all sizes alike per octave, higher more small ones.
    pub(super) smallness: f32,
    /// Sizes follow places rather than chance.
    pub(super) zones: bool,
    /// Stretching of the sheet along a random direction, 1 for none.
    pub(super) stretch: f32,
    /// Width in pixels of the space between cells that belongs to none.
    pub(super) wall: f32,
    /// Cells end at this many radii from their centre, which leaves free corners; large for none.
    pub(super) round: f32,
    /// Only where this map is positive.
    pub(super) where_: Option<Map>,
}

/// Grows a sheet: discs of random size are packed, then every pixel joins the disc whose edge is nearest
/// (an additively weighted Voronoi diagram, whose walls are curved).
pub(super) fn sheet(shape: (usize, usize), bend: &Bend, options: &Sheet, diameter: f32, random: &mut Random) -> Scene {
    let angle = between(random, 0.0, std::f32::consts::PI);
    let (sin, cos) = angle.sin_cos();
    let stretch = options.stretch.max(1.0).sqrt();
    // From bent pixels to the plane in which cells are round.
    let plane = |y: f32, x: f32| {
        let (u, v) = (x * cos + y * sin, y * cos - x * sin);
        [u / stretch, v * stretch]
    };
    let back = |u: f32, v: f32| {
        let (u, v) = (u * stretch, v / stretch);
        [u * sin + v * cos, u * cos - v * sin]
    };
    let discs = pack(shape, options, &back, random);
    let mut best = Map::from_elem(shape, f32::INFINITY);
    let mut second = Map::from_elem(shape, f32::INFINITY);
    let mut labels = LabelImage::zeros(shape);
    let largest = options.radii[1];
    for (index, &[u, v, radius]) in discs.iter().enumerate() {
        let [cy, cx] = back(u, v);
        let reach = (2.2 * radius + largest.min(3.0 * radius)) * stretch + bend.most;
        let first = |c: f32, size: usize| (c - reach).floor().clamp(0.0, size as f32) as usize;
        let end = |c: f32, size: usize| ((c + reach).ceil() + 1.0).clamp(0.0, size as f32) as usize;
        for y in first(cy, shape.0)..end(cy, shape.0) {
            for x in first(cx, shape.1)..end(cx, shape.1) {
                let [by, bx] = bend.at(y, x);
                let [pu, pv] = plane(by, bx);
                let distance = (pu - u).hypot(pv - v) - radius;
                if distance < best[[y, x]] {
                    second[[y, x]] = best[[y, x]];
                    best[[y, x]] = distance;
                    labels[[y, x]] = if distance < (options.round - 1.0) * radius { index as i32 + 1 } else { 0 };
                } else if distance < second[[y, x]] {
                    second[[y, x]] = distance;
                }
            }
        }
    }
    for ((y, x), id) in labels.indexed_iter_mut() {
        let near = second[[y, x]] - best[[y, x]] < options.wall;
        if near || options.where_.as_ref().is_some_and(|map| map[[y, x]] <= 0.0) {
            *id = 0;
        }
    }
    Scene::new(labels, diameter)
}

/// Discs `[u, v, radius]` that hardly overlap, from the largest to the smallest.
fn pack(
    shape: (usize, usize),
    options: &Sheet,
    back: &dyn Fn(f32, f32) -> [f32; 2],
    random: &mut Random,
) -> Vec<[f32; 3]> {
    let [smallest, largest] = options.radii;
    let (height, width) = (shape.0 as f32, shape.1 as f32);
    let extent = height.hypot(width) * options.stretch.max(1.0).sqrt();
    let zones = options.zones.then(|| noise(shape, 0.35 * height.max(width), random));
    let mut radii: Vec<f32> = Vec::new();
    let mut area = 0.0;
    while area < 1.3 * (height + 2.0 * largest) * (width + 2.0 * largest) && radii.len() < MOST {
        let t = random.unit() as f32;
        let radius = smallest * (largest / smallest).powf(t.powf(1.0 + options.smallness));
        area += std::f32::consts::PI * radius * radius;
        radii.push(radius);
    }
    radii.sort_by(|a, b| b.total_cmp(a));
    let side = largest.max(4.0) * 2.0;
    let cells = (2.0 * extent / side).ceil() as usize + 3;
    let cell = |c: f32| (((c + extent) / side).max(0.0) as usize).min(cells - 1);
    let mut grid: Vec<Vec<u32>> = vec![Vec::new(); cells * cells];
    let mut discs: Vec<[f32; 3]> = Vec::new();
    let mut wasted = 0;
    let mut queue = radii.into_iter();
    loop {
        // When the drawn sizes are used up, the gaps are filled with small ones.
        let radius = queue.next().unwrap_or_else(|| smallest * between(random, 0.85, 1.1));
        let mut placed = false;
        for _ in 0..14 {
            let (u, v) = (between(random, -extent, extent), between(random, -extent, extent));
            let [y, x] = back(u, v);
            let margin = 1.2 * largest;
            if y < -margin || x < -margin || y > height + margin || x > width + margin {
                continue;
            }
            if let Some(zones) = &zones {
                let here = zones[[y.clamp(0.0, height - 1.0) as usize, x.clamp(0.0, width - 1.0) as usize]];
                let share = (radius / smallest).ln() / (largest / smallest).ln().max(1e-3);
                if (here > 0.0) != (share > 0.45) {
                    continue;
                }
            }
            let (i, j) = (cell(u), cell(v));
            let free = (i.saturating_sub(1)..(i + 2).min(cells)).all(|i| {
                (j.saturating_sub(1)..(j + 2).min(cells)).all(|j| {
                    grid[i * cells + j].iter().all(|&other| {
                        let [ou, ov, or] = discs[other as usize];
                        (ou - u).hypot(ov - v) > 0.92 * (radius + or)
                    })
                })
            });
            if free {
                grid[i * cells + j].push(discs.len() as u32);
                discs.push([u, v, radius]);
                placed = true;
                break;
            }
        }
        wasted = if placed { 0 } else { wasted + 1 };
        if (wasted > 40 && queue.len() == 0) || discs.len() >= MOST {
            return discs;
        }
    }
}
