//! Outlines of single cells as approximate signed distances: ovals with waves, and strokes of varying width.

use std::f32::consts::{PI, TAU};

use crate::random::Random;

use super::maps::{between, normal};

/// A cell at sub-pixel position; lengths in pixels.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) centre: [f32; 2],
    /// Direction of the long axis in radians, from the column axis towards the row axis.
    pub(super) angle: f32,
    /// No point of the cell is farther from the centre.
    pub(super) reach: f32,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    /// Semi-axes along and across, with amplitude and phase of 2, 3, ... waves per turn.
    Oval { axes: [f32; 2], waves: Vec<[f32; 2]> },
    /// Segments between nodes `[along, across, radius]` in the frame of the cell.
    Stroke { segments: Vec<[[f32; 3]; 2]>, fillet: f32 },
}

impl Body {
    /// An oval of the given semi-axes; `waves[k]` is the relative amplitude of `k + 2` waves per turn.
    pub(super) fn oval(axes: [f32; 2], waves: &[f32], random: &mut Random) -> Self {
        let waves: Vec<[f32; 2]> = waves.iter().map(|a| [a * normal(random), between(random, 0.0, TAU)]).collect();
        let swell: f32 = 1.0 + waves.iter().map(|w| w[0].abs()).sum::<f32>();
        Self {
            centre: [0.0; 2],
            angle: between(random, 0.0, TAU),
            reach: axes[0].max(axes[1]) * swell + 1.0,
            form: Form::Oval { axes, waves },
        }
    }

    /// A union of strokes, joined smoothly over about `fillet` pixels; each is a list of nodes `[along, across, radius]`.
    pub(super) fn strokes(strokes: &[Vec<[f32; 3]>], fillet: f32, angle: f32) -> Self {
        let segments: Vec<[[f32; 3]; 2]> = strokes
            .iter()
            .flat_map(|nodes| {
                let single = (nodes.len() == 1).then(|| [nodes[0], nodes[0]]);
                nodes.windows(2).map(|pair| [pair[0], pair[1]]).chain(single)
            })
            .collect();
        let reach = segments.iter().flatten().map(|n| n[0].hypot(n[1]) + n[2]).fold(0.0, f32::max) + fillet + 1.0;
        Self { centre: [0.0; 2], angle, reach, form: Form::Stroke { segments, fillet } }
    }

    /// A rod of the given length (with its caps) and width, bent by `bend` radians in all and pinched at the middle by
    /// the relative amount `pinch`.
    pub(super) fn rod(length: f32, width: f32, bend: f32, pinch: f32, angle: f32) -> Self {
        let radius = 0.5 * width;
        let span = (length - width).max(0.01);
        let steps = if bend.abs() < 0.03 && pinch == 0.0 { 1 } else { 8 };
        let mut nodes = Vec::with_capacity(steps + 1);
        let (mut along, mut across) = (0.0, 0.0);
        for i in 0..=steps {
            let t = i as f32 / steps as f32;
            let waist = 1.0 - pinch * (-((t - 0.5) * span / (0.7 * radius)).powi(2)).exp();
            nodes.push([along, across, radius * waist]);
            let direction = bend * ((i as f32 + 0.5) / steps as f32 - 0.5);
            along += span / steps as f32 * direction.cos();
            across += span / steps as f32 * direction.sin();
        }
        let middle =
            [0.5 * (nodes[0][0] + nodes[steps][0]), nodes.iter().map(|n| n[1]).sum::<f32>() / nodes.len() as f32];
        for node in &mut nodes {
            node[0] -= middle[0];
            node[1] -= middle[1];
        }
        Self::strokes(&[nodes], 0.0, angle)
    }

    /// A round cell with a bud: two discs joined smoothly.
    pub(super) fn budded(radius: f32, elongation: f32, bud: f32, angle: f32) -> Self {
        let half = radius * (elongation - 1.0);
        let place = half + radius + 0.55 * bud;
        Self::strokes(&[vec![[-half, 0.0, radius], [half, 0.0, radius]], vec![[place, 0.0, bud]]], 0.15 * bud, angle)
    }

    /// A spread cell: a body of the given radius with `arms` tapering arms of about `length` pixels.
    pub(super) fn branched(radius: f32, arms: usize, length: f32, thin: f32, random: &mut Random) -> Self {
        let mut strokes = vec![vec![
            [-0.3 * radius * between(random, 0.0, 1.5), 0.0, radius],
            [
                0.3 * radius * between(random, 0.0, 1.5),
                0.1 * radius * normal(random),
                radius * between(random, 0.6, 1.0),
            ],
        ]];
        let first = between(random, 0.0, TAU);
        for arm in 0..arms {
            let mut direction = first + TAU * (arm as f32 + 0.35 * normal(random)) / arms as f32;
            let length = length * between(random, 0.5, 1.4);
            let curl = 0.25 * normal(random);
            let mut at = [0.5 * radius * direction.cos(), 0.5 * radius * direction.sin()];
            let steps = 6;
            let mut nodes = vec![[at[0], at[1], 0.7 * radius]];
            for step in 1..=steps {
                let t = step as f32 / steps as f32;
                at[0] += length / steps as f32 * direction.cos();
                at[1] += length / steps as f32 * direction.sin();
                direction += curl + 0.15 * normal(random);
                nodes.push([at[0], at[1], thin + (0.6 * radius - thin).max(0.0) * (1.0 - t).powi(2)]);
            }
            if random.chance(0.3) {
                let fork = nodes[4];
                let turn = direction + if random.chance(0.5) { 0.8 } else { -0.8 };
                let tip = [fork[0] + 0.4 * length * turn.cos(), fork[1] + 0.4 * length * turn.sin(), thin];
                strokes.push(vec![fork, tip]);
            }
            strokes.push(nodes);
        }
        Self::strokes(&strokes, 0.25 * radius, between(random, 0.0, TAU))
    }

    /// A long winding thread of constant width.
    pub(super) fn thread(length: f32, width: f32, wander: f32, random: &mut Random) -> Self {
        let steps = ((length / (2.0 * width).max(4.0)).ceil() as usize).clamp(2, 40);
        let mut direction = 0.0f32;
        let mut turn = 0.0f32;
        let (mut along, mut across) = (0.0, 0.0);
        let mut nodes = Vec::with_capacity(steps + 1);
        for _ in 0..=steps {
            nodes.push([along, across, 0.5 * width]);
            along += length / steps as f32 * direction.cos();
            across += length / steps as f32 * direction.sin();
            turn = 0.7 * turn + wander * normal(random);
            direction += turn;
        }
        let middle = nodes[steps / 2];
        for node in &mut nodes {
            node[0] -= middle[0];
            node[1] -= middle[1];
        }
        Self::strokes(&[nodes], 0.0, between(random, 0.0, TAU))
    }

    /// Roughly how many pixels the body covers.
    pub(super) fn area(&self) -> f32 {
        match &self.form {
            Form::Oval { axes, .. } => PI * axes[0] * axes[1],
            Form::Stroke { segments, .. } => {
                let strips: f32 = segments.iter().map(|[a, b]| (b[0] - a[0]).hypot(b[1] - a[1]) * (a[2] + b[2])).sum();
                let widest = segments.iter().flatten().map(|node| node[2]).fold(0.0, f32::max);
                strips + PI * widest * widest
            }
        }
    }

    /// The outline, ready for many questions.
    pub(super) fn outline(&self) -> Outline<'_> {
        let (sin, cos) = self.angle.sin_cos();
        let edges = match &self.form {
            Form::Oval { waves, .. } => (0..=TURN)
                .map(|i| {
                    let theta = TAU * i as f32 / TURN as f32;
                    let sum: f32 =
                        waves.iter().enumerate().map(|(k, w)| w[0] * ((k + 2) as f32 * theta + w[1]).cos()).sum();
                    (1.0 + sum).max(0.25)
                })
                .collect(),
            Form::Stroke { .. } => Vec::new(),
        };
        Outline { body: self, sin, cos, edges }
    }
}

/// Directions in which the edge of an oval is tabulated.
const TURN: usize = 64;

/// A body with what the distances of all points share.
pub(super) struct Outline<'a> {
    body: &'a Body,
    sin: f32,
    cos: f32,
    /// Relative radius of an oval for the angles of a whole turn.
    edges: Vec<f32>,
}

impl Outline<'_> {
    /// Approximate distance in pixels of a point to the outline, negative inside; infinite for points far away.
    pub(super) fn distance(&self, [y, x]: [f32; 2]) -> f32 {
        let (dy, dx) = (y - self.body.centre[0], x - self.body.centre[1]);
        let far = self.body.reach + FAR;
        if dy * dy + dx * dx > far * far {
            return f32::INFINITY;
        }
        let (u, v) = (dx * self.cos + dy * self.sin, dy * self.cos - dx * self.sin);
        match &self.body.form {
            Form::Oval { axes, .. } => self.oval(u, v, *axes),
            Form::Stroke { segments, fillet } => {
                let mut nearest = f32::INFINITY;
                for segment in segments {
                    let d = segment_distance(u, v, segment);
                    nearest = if *fillet > 0.0 && (d - nearest).abs() < *fillet {
                        let h = 1.0 - (d - nearest).abs() / fillet;
                        d.min(nearest) - 0.25 * fillet * h * h
                    } else {
                        d.min(nearest)
                    };
                }
                nearest
            }
        }
    }

    fn oval(&self, u: f32, v: f32, axes: [f32; 2]) -> f32 {
        let (p, q) = (u / axes[0], v / axes[1]);
        let rho = (p * p + q * q).sqrt();
        let (gp, gq) = (p / axes[0], q / axes[1]);
        let slope = (gp * gp + gq * gq).sqrt();
        if rho < 1e-4 || slope < 1e-6 {
            return -axes[0].min(axes[1]);
        }
        let place = (q.atan2(p) / TAU).rem_euclid(1.0) * TURN as f32;
        let (step, part) = (place as usize, place.fract());
        let at = |i: usize| self.edges.get(i).copied().unwrap_or(1.0);
        let edge = at(step) * (1.0 - part) + at(step + 1) * part;
        rho * (rho - edge) / slope
    }
}

/// Distances are given up to this many pixels beyond the reach of a body.
const FAR: f32 = 8.0;

fn segment_distance(u: f32, v: f32, [a, b]: &[[f32; 3]; 2]) -> f32 {
    let (lu, lv) = (b[0] - a[0], b[1] - a[1]);
    let square = lu * lu + lv * lv;
    let t = if square > 1e-9 { (((u - a[0]) * lu + (v - a[1]) * lv) / square).clamp(0.0, 1.0) } else { 0.0 };
    let (du, dv) = (u - a[0] - t * lu, v - a[1] - t * lv);
    (du * du + dv * dv).sqrt() - (a[2] + t * (b[2] - a[2]))
}
