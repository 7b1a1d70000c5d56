//! One nucleus: its outline, and the light that each of its points sends.

use std::f32::consts::{PI, TAU};

use crate::random::Random;

use super::texture::Texture;

/// What state a nucleus is in; it decides size, shape, brightness and texture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The common case: an oval with chromatin grains and nucleoli.
    Interphase,
    /// A metaphase plate seen from the side: a bright, lumpy bar.
    Mitotic,
    /// A dying cell: small, round, very bright.
    Condensed,
}

/// A nucleus at sub-pixel position; lengths in pixels, brightness 1 is that of a typical nucleus.
#[derive(Debug, Clone)]
pub(super) struct Nucleus {
    pub(super) y: f32,
    pub(super) x: f32,
    pub(super) kind: Kind,
    /// Seen through the depth of the specimen: drawn blurred.
    pub(super) defocused: bool,
    semi_axes: [f32; 2],
    angle: f32,
    /// Amplitude and phase of the deviation from an ellipse, for 2, 3, ... waves per turn.
    waves: Vec<[f32; 2]>,
    /// Direction and relative depth of an indentation, as kidney-shaped nuclei have.
    notch: [f32; 2],
    brightness: f32,
    flatness: f32,
    rim: f32,
    grains: [(Texture, f32); 2],
    /// Round spots in the frame of the nucleus: y, x, radius, and what they multiply the light by at their centre.
    spots: Vec<[f32; 4]>,
}

impl Nucleus {
    /// A nucleus at the origin with a mean radius near `radius`, whose spread between nuclei is `variation` (relative).
    pub(super) fn random(radius: f32, variation: f32, random: &mut Random) -> Self {
        let kind = match random.unit() {
            u if u < 0.04 => Kind::Mitotic,
            u if u < 0.09 => Kind::Condensed,
            _ => Kind::Interphase,
        };
        let scale = (variation * random.normal() as f32).clamp(-2.2 * variation, 2.2 * variation).exp();
        let (size, elongation, roughness, light) = match kind {
            Kind::Interphase => {
                (1.0, random.uniform(1.04, 1.3) + 0.16 * random.normal().abs(), 0.034, 0.42 * random.normal() - 0.05)
            }
            Kind::Mitotic => (0.68, random.uniform(1.9, 2.6), 0.05, random.uniform(0.45, 0.8)),
            Kind::Condensed => (0.52, random.uniform(1.0, 1.25), 0.03, random.uniform(0.5, 0.95)),
        };
        let mean = (radius * scale * size).max(1.5);
        let elongation = elongation.clamp(1.02, 2.6) as f32;
        let semi_axes = [mean * elongation.sqrt(), mean / elongation.sqrt()];
        let waves = (2..=7)
            .map(|k| {
                let amplitude = roughness * random.normal() as f32 * (2.0 / k as f32).powf(0.8);
                [amplitude.clamp(-0.12, 0.12), random.uniform(0.0, f64::from(TAU)) as f32]
            })
            .collect();
        let indented = kind == Kind::Interphase && random.chance(0.2);
        let depth = if indented { random.uniform(0.1, 0.3) as f32 } else { 0.0 };
        let mut nucleus = Self {
            y: 0.0,
            x: 0.0,
            kind,
            defocused: kind == Kind::Interphase && random.chance(0.16),
            semi_axes,
            angle: random.uniform(0.0, f64::from(PI)) as f32,
            waves,
            notch: [random.uniform(0.0, f64::from(TAU)) as f32, depth],
            brightness: (light.clamp(-1.15, 1.0) as f32).exp(),
            flatness: random.uniform(0.35, 0.72) as f32,
            rim: random.uniform(-0.03, 0.16) as f32,
            grains: grains(kind, 2.6 * mean * elongation, random),
            spots: Vec::new(),
        };
        nucleus.spots = spots(&nucleus, random);
        nucleus
    }

    /// Distance from the centre to the outline in the direction `angle` (from the column axis towards the row axis).
    pub(super) fn radius(&self, angle: f32) -> f32 {
        let local = angle - self.angle;
        let [a, b] = self.semi_axes;
        let (sin, cos) = local.sin_cos();
        let ellipse = a * b / (b * b * cos * cos + a * a * sin * sin).sqrt();
        let deviation: f32 = self
            .waves
            .iter()
            .enumerate()
            .map(|(i, [amplitude, phase])| amplitude * ((i + 2) as f32 * local + phase).cos())
            .sum();
        let [direction, depth] = self.notch;
        let indentation = depth * bump(1.0 - (local - direction).cos(), 0.0, 0.16);
        ellipse * (1.0 + deviation) * (1.0 - indentation)
    }

    /// No point of the outline is further from the centre than this.
    pub(super) fn reach(&self) -> f32 {
        self.semi_axes[0] * (1.0 + self.waves.iter().map(|[amplitude, _]| amplitude.abs()).sum::<f32>())
    }

    /// Position relative to the outline: 0 at the centre, 1 on it, more outside; and the outline's distance there.
    pub(super) fn relative(&self, y: f32, x: f32) -> (f32, f32) {
        let (dy, dx) = (y - self.y, x - self.x);
        let outline = self.radius(dy.atan2(dx));
        ((dy * dy + dx * dx).sqrt() / outline, outline)
    }

    /// Rows and columns (first, one past the last) of an image of `shape` that the nucleus and its soft edge may touch.
    pub(super) fn window(&self, shape: (usize, usize)) -> ([usize; 2], [usize; 2]) {
        let reach = self.reach() + 2.0;
        let span = |centre: f32, size: usize| {
            let first = (centre - reach).floor().clamp(0.0, size as f32) as usize;
            let last = (centre + reach).ceil().clamp(-1.0, size as f32 - 1.0) + 1.0;
            [first, (last as usize).max(first)]
        };
        (span(self.y, shape.0), span(self.x, shape.1))
    }

    /// Light sent from the point `(y, x)`, before any optics; 0 well outside the outline.
    pub(super) fn light(&self, y: f32, x: f32) -> f32 {
        let (s, outline) = self.relative(y, x);
        let edge = smooth_step(0.5 + (1.0 - s) * outline / 1.8);
        if edge <= 0.0 {
            return 0.0;
        }
        let thickness = (1.0 - s * s).max(0.0).sqrt();
        let profile = self.flatness + (1.0 - self.flatness) * thickness + self.rim * bump(s, 0.84, 0.12);
        let offset = 1.3 * self.semi_axes[0];
        let (dy, dx) = (y - self.y, x - self.x);
        let grain: f32 = self.grains.iter().map(|(texture, depth)| depth * texture.at(dy + offset, dx + offset)).sum();
        let mut factor = (1.0 + grain).max(0.25);
        for [spot_y, spot_x, radius, strength] in &self.spots {
            let distance = ((dy - spot_y).powi(2) + (dx - spot_x).powi(2)) / (radius * radius);
            if distance < 9.0 {
                factor *= 1.0 + (strength - 1.0) * (-distance).exp();
            }
        }
        self.brightness * edge * profile * factor
    }
}

/// Chromatin: coarse and fine grains with their depth of modulation.
fn grains(kind: Kind, extent: f32, random: &mut Random) -> [(Texture, f32); 2] {
    let coarse = match kind {
        Kind::Interphase => random.uniform(0.05, 0.17),
        Kind::Mitotic => 0.16,
        Kind::Condensed => 0.06,
    };
    let fine = random.uniform(0.08, 0.26);
    let (wide, narrow) = (random.uniform(3.4, 5.0) as f32, random.uniform(1.5, 2.0) as f32);
    [(Texture::new(extent, wide, random), coarse as f32), (Texture::new(extent, narrow, random), fine as f32)]
}

/// Nucleoli (darker) and chromocentres (brighter) of an interphase nucleus; lumps of a condensed one.
fn spots(nucleus: &Nucleus, random: &mut Random) -> Vec<[f32; 4]> {
    let mean = (nucleus.semi_axes[0] * nucleus.semi_axes[1]).sqrt();
    let mut spots = Vec::new();
    let nucleoli = random.below(4);
    let chromocentres = if random.chance(0.3) { 3 + random.below(4) } else { random.below(2) };
    let mut add = |count: usize, spread: f64, radius: [f64; 2], strength: [f64; 2]| {
        for _ in 0..count {
            let direction = random.uniform(0.0, f64::from(TAU)) as f32;
            let distance = nucleus.radius(direction) * (random.uniform(0.0, spread)) as f32;
            let size = (mean * random.uniform(radius[0], radius[1]) as f32).max(0.8);
            let factor = random.uniform(strength[0], strength[1]) as f32;
            spots.push([distance * direction.sin(), distance * direction.cos(), size, factor]);
        }
    };
    match nucleus.kind {
        Kind::Interphase => {
            add(nucleoli, 0.6, [0.14, 0.26], [0.4, 0.75]);
            add(chromocentres, 0.85, [0.08, 0.16], [1.25, 1.7]);
        }
        Kind::Mitotic => add(3, 0.8, [0.15, 0.3], [0.8, 1.35]),
        Kind::Condensed => add(2, 0.6, [0.25, 0.45], [1.05, 1.4]),
    }
    spots
}

/// 0 below 0, 1 above 1, with zero slope at both ends.
fn smooth_step(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

fn bump(value: f32, centre: f32, width: f32) -> f32 {
    let z = (value - centre) / width;
    (-0.5 * z * z).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outline_separates_light_from_dark() {
        let mut random = Random::new(11, 0);
        for _ in 0..50 {
            let mut nucleus = Nucleus::random(9.0, 0.2, &mut random);
            (nucleus.y, nucleus.x) = (30.0, 40.0);
            for step in 0..16 {
                let angle = step as f32 * TAU / 16.0;
                let outline = nucleus.radius(angle);
                assert!(outline > 0.5 && outline <= nucleus.reach());
                let at = |r: f32| nucleus.light(30.0 + r * angle.sin(), 40.0 + r * angle.cos());
                assert!(at(0.5 * outline) > 0.0);
                assert_eq!(at(outline + 2.0), 0.0);
            }
            assert!(nucleus.light(30.0, 40.0).is_finite());
        }
    }

    #[test]
    fn windows_stay_inside_the_image() {
        let mut nucleus = Nucleus::random(9.0, 0.2, &mut Random::new(1, 0));
        for (y, x) in [(-100.0, 5.0), (500.0, 500.0), (0.0, 0.0), (31.0, 31.0)] {
            (nucleus.y, nucleus.x) = (y, x);
            let (rows, columns) = nucleus.window((32, 32));
            assert!(rows[0] <= rows[1] && rows[1] <= 32 && columns[0] <= columns[1] && columns[1] <= 32);
        }
    }
}
