//! A whole field: nuclei, debris, optics, camera.

use std::f64::consts::TAU;

use ndarray::{Array2, Axis};

use crate::error::{Error, Result};
use crate::random::Random;
use crate::raster::{Image, LabelImage, gaussian_blur};

use super::layout;
use super::nucleus::Nucleus;
use super::optics;
use super::texture::Texture;

/// A drawn image and what is in it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Field {
    /// `[H, W, C]`; that of [`draw_field`] has one channel of 8-bit samples.
    pub image: Image,
    /// `[H, W]`: 0 background, 1, 2, ... the cells, without gaps when they come from [`draw_field`]; nothing is unlabelled. Debris is
    /// background.
    pub truth: LabelImage,
}

impl Field {
    /// A field of any image with complete labels, such as a [`World`](super::World) or a part of one.
    ///
    /// # Errors
    /// [`Error::Labels`] when the sides of the two differ.
    pub fn new(image: Image, truth: LabelImage) -> Result<Self> {
        if (image.height(), image.width()) != truth.dim() {
            return Err(Error::Labels(format!(
                "the image has {} x {} pixels, its labels {} x {}; they must be the same",
                image.height(),
                image.width(),
                truth.dim().0,
                truth.dim().1
            )));
        }
        Ok(Self { image, truth })
    }
}

/// What a drawn field looks like. The defaults resemble stained nuclei under a 20x objective.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldOptions {
    /// Rows, at least 16. Default 256.
    pub height: usize,
    /// Columns, at least 16. Default 256.
    pub width: usize,
    /// Nuclei per 10 000 pixels; crowded fields may hold fewer. Default 5 (about 33 in 256x256).
    pub density: f32,
    /// Typical radius of a nucleus in pixels, 2 to 100. Default 9.5.
    pub radius: f32,
    /// Relative spread of the radius between nuclei, 0 to 1. Default 0.17.
    pub size_variation: f32,
    /// Fraction of the nuclei that touch another one, 0 to 1. Default 0.4.
    pub touching: f32,
    /// Specks of debris per 10 000 pixels. Default 1.2.
    pub debris: f32,
    /// Standard deviation in pixels of the microscope's blur, 0 to 10. Default 0.9.
    pub blur: f32,
    /// Strength of the out-of-focus light, 0 (none) to 1. Default 0.4.
    pub haze: f32,
    /// Loss of light in the darkest corner, 0 to 0.9. Default 0.35.
    pub unevenness: f32,
    /// Photons counted per grey level; fewer make a noisier image. Default 5.
    pub exposure: f32,
    /// Standard deviation of the camera's own noise in grey levels. Default 1.
    pub read_noise: f32,
}

impl Default for FieldOptions {
    fn default() -> Self {
        Self {
            height: 256,
            width: 256,
            density: 5.0,
            radius: 9.5,
            size_variation: 0.17,
            touching: 0.4,
            debris: 1.2,
            blur: 0.9,
            haze: 0.4,
            unevenness: 0.35,
            exposure: 5.0,
            read_noise: 1.0,
        }
    }
}

/// Grey levels of a typical nucleus above the dark level.
const TYPICAL: f32 = 88.0;
/// Grey level that the camera adds to every pixel.
const DARK: f32 = 9.0;
/// More pixels than this are refused.
const LARGEST: usize = 1 << 26;

/// Draws a field of fluorescent nuclei with its ground truth; the same options and seed give the same pixels everywhere.
///
/// # Errors
/// [`Error::Config`] for an option outside its range, [`Error::Limit`] above 67 million pixels.
pub fn draw_field(options: &FieldOptions, seed: u64) -> Result<Field> {
    options.check()?;
    let shape = (options.height, options.width);
    let mut nuclei = layout::place(options, &mut Random::new(seed, 0));
    let truth = layout::label(&mut nuclei, shape);
    let specimen = specimen(options, &nuclei, &mut Random::new(seed, 1));
    let image = expose(options, &specimen, &mut Random::new(seed, 2));
    Ok(Field { image, truth })
}

impl FieldOptions {
    fn check(&self) -> Result<()> {
        for (name, size) in [("height", self.height), ("width", self.width)] {
            if size < 16 {
                return Err(Error::Config(format!("a drawn field needs a {name} of at least 16 pixels, not {size}")));
            }
        }
        if self.height.checked_mul(self.width).is_none_or(|pixels| pixels > LARGEST) {
            return Err(Error::Limit(format!(
                "a drawn field of {} x {} pixels is too large; the most is {LARGEST} pixels",
                self.height, self.width
            )));
        }
        let ranges = [
            ("density", self.density, 0.0, 400.0),
            ("radius", self.radius, 2.0, 100.0),
            ("size_variation", self.size_variation, 0.0, 1.0),
            ("touching", self.touching, 0.0, 1.0),
            ("debris", self.debris, 0.0, 400.0),
            ("blur", self.blur, 0.0, 10.0),
            ("haze", self.haze, 0.0, 1.0),
            ("unevenness", self.unevenness, 0.0, 0.9),
            ("exposure", self.exposure, 0.01, 1e6),
            ("read_noise", self.read_noise, 0.0, 100.0),
        ];
        for (name, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return Err(Error::Config(format!("{name} of a drawn field is {value}; it must be {low} to {high}")));
            }
        }
        Ok(())
    }

    fn count(&self, per_ten_thousand: f32) -> usize {
        (f64::from(per_ten_thousand) * self.height as f64 * self.width as f64 / 10_000.0).round() as usize
    }
}

/// Light arriving at the camera, 1 for a typical nucleus, before uneven illumination.
fn specimen(options: &FieldOptions, nuclei: &[Nucleus], random: &mut Random) -> Array2<f32> {
    let shape = (options.height, options.width);
    let mut sharp = Array2::<f32>::zeros(shape);
    let mut soft = Array2::<f32>::zeros(shape);
    for nucleus in nuclei {
        let layer = if nucleus.defocused { &mut soft } else { &mut sharp };
        let (rows, columns) = nucleus.window(shape);
        for y in rows[0]..rows[1] {
            for x in columns[0]..columns[1] {
                let light = nucleus.light(y as f32, x as f32);
                let present = &mut layer[[y, x]];
                // Where two nuclei overlap in depth, the light of the upper one is partly joined by the lower one's.
                *present = present.max(light) + 0.3 * present.min(light);
            }
        }
    }
    add_debris(options, &mut sharp, random);
    let defocus = (0.16 * options.radius).clamp(0.8, 3.0);
    let mut out = gaussian_blur(soft.view(), options.blur.hypot(defocus)) + gaussian_blur(sharp.view(), options.blur);
    if options.haze > 0.0 {
        let near = gaussian_blur(out.view(), 0.45 * options.radius);
        let far = gaussian_blur(out.view(), 1.6 * options.radius);
        out = out * (1.0 - 0.3 * options.haze) + near * (0.22 * options.haze) + far * (0.3 * options.haze);
        add_other_planes(options, &mut out, random);
    }
    // A faint glow of medium and cytoplasm, slightly cloudy.
    let extent = options.height.max(options.width) as f32;
    let clouds = Texture::new(extent, 4.5 * options.radius, random);
    for ((y, x), value) in out.indexed_iter_mut() {
        *value += (0.045 + 0.02 * clouds.at(y as f32, x as f32)).max(0.0);
    }
    out
}

/// Bright specks: single ones, and crumbled groups such as dying cells leave.
fn add_debris(options: &FieldOptions, layer: &mut Array2<f32>, random: &mut Random) {
    let (height, width) = (options.height as f64, options.width as f64);
    for _ in 0..options.count(options.debris) {
        let centre = [random.uniform(0.0, height), random.uniform(0.0, width)];
        let crumbs = if random.chance(0.25) { 2 + random.below(4) } else { 1 };
        let amplitude = random.uniform(-1.0, 0.9).exp();
        for _ in 0..crumbs {
            let spread = if crumbs > 1 { 0.22 * f64::from(options.radius) } else { 0.0 };
            let at = [(centre[0] + spread * random.normal()) as f32, (centre[1] + spread * random.normal()) as f32];
            let sigma = (f64::from(options.radius) * random.uniform(0.04, 0.12)).max(0.4) as f32;
            optics::add_spot(layer, at, sigma, (amplitude * random.uniform(0.5, 1.2)) as f32);
        }
    }
}

/// Nuclei far above or below the focal plane: wide, faint ovals without any detail.
fn add_other_planes(options: &FieldOptions, image: &mut Array2<f32>, random: &mut Random) {
    let (height, width) = (options.height as f64, options.width as f64);
    for _ in 0..options.count(0.25 * options.density) {
        let centre = [random.uniform(-10.0, height + 10.0), random.uniform(-10.0, width + 10.0)];
        let sigma = f64::from(options.radius) * random.uniform(0.55, 1.3);
        let amplitude = f64::from(options.haze) * random.uniform(0.06, 0.5);
        let (shift, direction) = (0.5 * sigma, random.uniform(0.0, TAU));
        for side in [-0.5, 0.5] {
            let at = [
                (centre[0] + side * shift * direction.sin()) as f32,
                (centre[1] + side * shift * direction.cos()) as f32,
            ];
            optics::add_spot(image, at, sigma as f32, (0.5 * amplitude) as f32);
        }
    }
}

/// The camera: uneven light, shot noise, read noise, dark level, 8 bits.
fn expose(options: &FieldOptions, light: &Array2<f32>, random: &mut Random) -> Image {
    let lamp = optics::illumination(light.dim(), options.unevenness, random);
    let mut grey = Array2::<u8>::zeros(light.dim());
    for ((pixel, light), lamp) in grey.iter_mut().zip(light).zip(&lamp) {
        let photons = optics::poisson(light * lamp * TYPICAL * options.exposure, random);
        let level = DARK + photons / options.exposure + options.read_noise * random.normal() as f32;
        *pixel = level.round().clamp(0.0, 255.0) as u8;
    }
    Image::U8(grey.insert_axis(Axis(2)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn pixels(field: &Field) -> Array2<f32> {
        field.image.to_f32().index_axis(Axis(2), 0).to_owned()
    }

    #[test]
    fn a_seed_fixes_the_field_and_another_seed_changes_it() {
        let options = FieldOptions::default();
        let first = draw_field(&options, 4).unwrap();
        assert_eq!(first, draw_field(&options, 4).unwrap());
        let second = draw_field(&options, 5).unwrap();
        assert_ne!(first.image, second.image);
        assert_ne!(first.truth, second.truth);
    }

    #[test]
    fn the_truth_is_consecutive_and_matches_the_light() {
        for seed in 0..6 {
            let field = draw_field(&FieldOptions::default(), seed).unwrap();
            let ids: BTreeSet<i32> = field.truth.iter().copied().collect();
            let count = ids.len() as i32 - 1;
            assert_eq!(ids, (0..=count).collect(), "seed {seed}");
            assert!((20..=45).contains(&count), "seed {seed}: {count} nuclei");
            let image = pixels(&field);
            let mean = |inside: bool| {
                let values: Vec<f32> =
                    image.iter().zip(&field.truth).filter(|(_, id)| (**id > 0) == inside).map(|(v, _)| *v).collect();
                values.iter().sum::<f32>() / values.len() as f32
            };
            assert!(mean(true) > 3.0 * mean(false), "seed {seed}: {} against {}", mean(true), mean(false));
        }
    }

    #[test]
    fn fields_hold_cut_touching_dim_and_bright_nuclei() {
        let field = draw_field(&FieldOptions::default(), 1).unwrap();
        let (height, width) = field.truth.dim();
        let cut = field
            .truth
            .indexed_iter()
            .filter(|((y, x), id)| **id > 0 && (*y == 0 || *x == 0 || *y == height - 1 || *x == width - 1));
        assert!(cut.count() > 0);
        let contacts = field
            .truth
            .windows((1, 2))
            .into_iter()
            .filter(|w| w[[0, 0]] > 0 && w[[0, 1]] > 0 && w[[0, 0]] != w[[0, 1]]);
        assert!(contacts.count() > 0);
        let image = pixels(&field);
        let count = field.truth.iter().max().copied().unwrap_or(0);
        let means: Vec<f32> = (1..=count)
            .map(|id| {
                let values: Vec<f32> =
                    image.iter().zip(&field.truth).filter(|(_, i)| **i == id).map(|(v, _)| *v).collect();
                values.iter().sum::<f32>() / values.len() as f32
            })
            .collect();
        let (low, high) = means.iter().fold((f32::MAX, 0.0f32), |(l, h), m| (l.min(*m), h.max(*m)));
        assert!(high > 3.0 * low, "{low} to {high}");
    }

    #[test]
    fn sizes_and_extremes_are_respected_or_refused() {
        let wide = FieldOptions { height: 16, width: 90, density: 400.0, touching: 1.0, ..FieldOptions::default() };
        assert_eq!(draw_field(&wide, 0).unwrap().truth.dim(), (16, 90));
        let empty = FieldOptions { density: 0.0, haze: 0.0, blur: 0.0, ..FieldOptions::default() };
        assert!(draw_field(&empty, 0).unwrap().truth.iter().all(|id| *id == 0));
        for bad in [
            FieldOptions { height: 0, ..FieldOptions::default() },
            FieldOptions { height: usize::MAX, width: 64, ..FieldOptions::default() },
            FieldOptions { radius: f32::NAN, ..FieldOptions::default() },
            FieldOptions { exposure: 0.0, ..FieldOptions::default() },
        ] {
            assert!(draw_field(&bad, 0).is_err(), "{bad:?}");
        }
    }
}
