//! Whether an image shows anything: what stands out in it, measured at the size of cells and against its noise.
//!
//! Percentile normalisation brings every image to the same contrast, an empty field too, whose noise then looks like cells to
//! a network. So a model remembers how much stood out in the images that it was trained on.

use ndarray::{Array2, ArrayView2, ArrayView3, Axis};
use serde::{Deserialize, Serialize};

use super::normalization::{FARTHEST, Normalization};
use crate::annotations::Dataset;
use crate::budget::{array, copied, mapped, zeros};
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::geometry::disc_diameter;
use crate::raster::{Image, Percentiles, try_gaussian_blur};

/// What was seen in training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seen {
    /// Median diameter of the drawn cells, in pixels.
    pub diameter: f64,
    /// The smallest of the images' ratios of relief to noise.
    pub ratio: f64,
    /// The smallest of the images' reliefs in units of their samples; 0 when these were scaled before.
    pub relief: f64,
    /// Bits of a sample of these images.
    pub bits: u32,
}

/// What stands out in an image.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Relief {
    /// Difference of the highest and the lowest place, of the channel where it is largest against the noise.
    height: f64,
    /// That difference divided by the standard deviation of the noise.
    ratio: f64,
}

/// Blocks of pixels that a cell is wide, and the fewest that an image is wide.
const BLOCKS: f64 = 8.0;
const FEWEST: usize = 12;

/// Standard deviations in blocks of the two blurs whose difference is the relief: what is smaller than a quarter of a cell is
/// noise, what is larger than a cell is uneven light.
const BLURS: [f32; 2] = [2.0, 8.0];

/// Ratios of an image that shows nothing, however much stood out in training. White noise has 0.7 to 1.6, noise of single
/// bright pixels up to 5, and the most sparing of 500 real images with cells 17.
const NOTHING: [f64; 2] = [2.8, 6.0];

/// An image shows nothing when its ratio is below that of the training by this factor, within these limits.
const TIMES: f64 = 8.0;

/// It also shows nothing when its relief is below that of the training by the first factor, and its ratio below the second value.
const FAINTER: f64 = 20.0;
const DOUBTFUL: f64 = 20.0;

/// Share of the limit below which a copy of an image is certain to show nothing.
const SURE: f64 = 0.5;

impl Seen {
    /// What the images of a training show. `scaled` says that their samples were scaled before.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Limit`] where there is no memory.
    pub fn of(data: &Dataset, scaled: bool, cancel: &CancelToken) -> Result<Self> {
        let mut areas: Vec<usize> = data.labels().iter().flat_map(|labels| labels.areas().values().copied()).collect();
        areas.sort_unstable();
        let diameter = areas.get(areas.len() / 2).map_or(BLOCKS, |median| disc_diameter(*median as f64));
        let mut seen = Self { diameter, ratio: f64::INFINITY, relief: f64::INFINITY, bits: 0 };
        for image in data.images() {
            let relief = relief(image.try_to_f32()?.view(), diameter, cancel)?;
            seen.ratio = seen.ratio.min(relief.ratio);
            seen.relief = seen.relief.min(relief.height);
            seen.bits = bits(image);
        }
        if scaled {
            seen.relief = 0.0;
        }
        // JSON has no infinity.
        seen.ratio = seen.ratio.min(1e9);
        seen.relief = seen.relief.min(1e30);
        Ok(seen)
    }

    /// Whether the numbers can be those of images.
    pub fn is_sound(&self) -> bool {
        let positive = |value: f64| value.is_finite() && value >= 0.0;
        positive(self.diameter) && positive(self.ratio) && positive(self.relief) && self.bits <= 64
    }

    /// What was seen in all trainings, given what was seen before this one.
    pub fn with(self, before: Option<Self>) -> Self {
        let Some(before) = before else { return self };
        let relief = if before.bits == self.bits { self.relief.min(before.relief) } else { 0.0 };
        Self { ratio: self.ratio.min(before.ratio), relief, ..self }
    }

    /// The same for images that are seen that many times as large.
    pub fn zoomed(self, zoom: f64) -> Self {
        Self { diameter: self.diameter / zoom, ..self }
    }

    /// Why an image shows nothing, if it does not. `scaled` says that its samples were scaled before.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Limit`] where there is no memory.
    pub fn nothing_in(&self, image: &Image, scaled: bool, cancel: &CancelToken) -> Result<Option<String>> {
        let relief = relief(image.try_to_f32()?.view(), self.diameter, cancel)?;
        Ok(self.nothing_of(relief, scaled, bits(image)))
    }

    /// As [`nothing_in`](Self::nothing_in), of what stands out of an image with samples of so many bits.
    fn nothing_of(&self, Relief { height, ratio }: Relief, scaled: bool, bits: u32) -> Option<String> {
        let limit = self.limit();
        if height <= 0.0 {
            return Some("the image is the same everywhere, single pixels aside".into());
        }
        if ratio < limit {
            return Some(format!(
                "nothing as large as a cell stands out of the noise of the image ({ratio:.1} times; in training {:.0} \
                 times)",
                self.ratio
            ));
        }
        let comparable = !scaled && self.relief > 0.0 && bits == self.bits;
        if comparable && ratio < DOUBTFUL && height * FAINTER < self.relief {
            return Some(format!("its contrast is {:.0} times weaker than in training", self.relief / height));
        }
        None
    }

    /// Whether [`nothing_in`](Self::nothing_in) an image is certain from a `copy` `[H, W, C]` of it whose pixels are `factor` times as wide
    /// and have `noise` times the noise of means of the pixels below: by half the limit, since blocks of pixels differ.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Limit`] where there is no memory.
    pub fn surely_nothing_in(
        &self,
        copy: ArrayView3<'_, f32>,
        factor: f64,
        noise: f64,
        cancel: &CancelToken,
    ) -> Result<bool> {
        let own = (self.diameter / BLOCKS).floor().max(1.0);
        let block = (own / factor).round().max(1.0);
        let Relief { height, ratio } = relief(copy, BLOCKS * block, cancel)?;
        Ok(height <= 0.0 || ratio * noise < SURE * self.limit())
    }

    /// The ratio below which an image shows nothing.
    fn limit(&self) -> f64 {
        (self.ratio / TIMES).clamp(NOTHING[0], NOTHING[1]).min(0.6 * self.ratio)
    }
}

fn bits(image: &Image) -> u32 {
    match image {
        Image::U8(_) => 8,
        Image::U16(_) => 16,
        _ => 32,
    }
}

/// What stands out of an image `[H, W, C]` with cells of that diameter in pixels.
fn relief(image: ArrayView3<'_, f32>, diameter: f64, cancel: &CancelToken) -> Result<Relief> {
    let mut best = Relief { height: 0.0, ratio: 0.0 };
    for (channel, limits) in image.axis_iter(Axis(2)).zip(limits(image, cancel)?) {
        cancel.check()?;
        let shortest = channel.nrows().min(channel.ncols());
        let block = ((diameter / BLOCKS) as usize).min(shortest / FEWEST).max(1);
        let blocks = block_means(channel, block, limits)?;
        cancel.check()?;
        // Single pixels and pairs are noise, however bright.
        let solid = without_specks(channel)?;
        cancel.check()?;
        let solid = block_means(solid.view(), block, limits)?;
        cancel.check()?;
        let mut band = try_gaussian_blur(solid.view(), BLURS[0])?;
        band -= &try_gaussian_blur(solid.view(), BLURS[1])?;
        let highest = band.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let height = f64::from(highest - band.iter().copied().fold(f32::INFINITY, f32::min));
        // Rounding in the blurs is not a relief.
        let largest = blocks.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        if !height.is_finite() || height <= 1e-5 * f64::from(largest) {
            continue;
        }
        cancel.check()?;
        let ratio = (height / noise(blocks.view()).max(1e-12)).min(1e9);
        if ratio > best.ratio {
            best = Relief { height, ratio };
        }
    }
    Ok(best)
}

/// The intensities of each channel that a network would see as they are.
fn limits(image: ArrayView3<'_, f32>, cancel: &CancelToken) -> Result<Vec<[f64; 2]>> {
    let usual = Normalization::default();
    let measured = Percentiles::measure_until(image, usual.pmin, usual.pmax, cancel);
    cancel.check()?;
    let Ok(Percentiles { low, high }) = measured else {
        return Ok(vec![[f64::NEG_INFINITY, f64::INFINITY]; image.len_of(Axis(2))]);
    };
    let limits = low.iter().zip(&high).map(|(low, high)| {
        let (low, high) = (f64::from(*low), f64::from(*high));
        // A few cells in an even field are all that stands out of it.
        if high > low && high.is_finite() {
            let far = f64::from(FARTHEST) * (high - low);
            [low - far, low + far]
        } else {
            [f64::NEG_INFINITY, f64::INFINITY]
        }
    });
    Ok(limits.collect())
}

/// The image with every pixel brought between the second smallest and the second largest of those around it, which takes away
/// single ones and pairs and leaves lines.
fn without_specks(image: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
    let what = "what stands out of an image";
    let (rows, columns) = image.dim();
    if rows < 3 || columns < 3 {
        return copied(image, what);
    }
    // One pixel more at each side, mirrored at the outermost ones.
    let mirrored = |index: usize, len: usize| if index == 0 { 1 } else { (index - 1).min(2 * len - 1 - index) };
    let width = columns + 2;
    let mut padded: Vec<f32> = zeros((rows + 2) * width, what)?;
    for (y, line) in padded.chunks_exact_mut(width).enumerate() {
        let row = image.row(mirrored(y, rows));
        line.iter_mut().enumerate().for_each(|(x, value)| *value = row[mirrored(x, columns)]);
    }
    let mut result: Vec<f32> = zeros(rows * columns, what)?;
    for (y, row) in result.chunks_exact_mut(columns).enumerate() {
        let line = |dy: usize, dx: usize| &padded[(y + dy) * width + dx..][..columns];
        let own = line(1, 1);
        let around = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1], [2, 2]].map(|[dy, dx]| line(dy, dx));
        for x in 0..columns {
            let (mut low, mut high) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
            for near in around.map(|line| line[x]) {
                low = [smaller(low[0], near), smaller(low[1], larger(low[0], near))];
                high = [larger(high[0], near), larger(high[1], smaller(high[0], near))];
            }
            row[x] = smaller(larger(own[x], low[1]), high[1]);
        }
    }
    Array2::from_shape_vec((rows, columns), result).map_err(|error| Error::Internal(format!("{what}: {error}")))
}

/// The smaller of two numbers, in one instruction where none is NaN; so is the larger.
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Means over squares of `side` pixels, of which each is taken to lie within the limits; what is left over at the far
/// edges is left out.
fn block_means(channel: ArrayView2<'_, f32>, side: usize, [low, high]: [f64; 2]) -> Result<Array2<f32>> {
    let what = "what stands out of an image";
    let shape = ((channel.nrows() / side).max(1), (channel.ncols() / side).max(1));
    let mut sums: Array2<f64> = array(shape, what)?;
    for ((row, column), value) in channel.indexed_iter() {
        if let Some(sum) = sums.get_mut((row / side, column / side)) {
            *sum += f64::from(*value).clamp(low, high);
        }
    }
    let pixels = (side * side) as f64;
    mapped(sums.view(), what, |sum| (sum / pixels) as f32)
}

/// The standard deviation of the noise (Immerkaer, "Fast noise variance estimation", 1996): the mean size of a second
/// difference in both directions, to which slopes add nothing.
pub(super) fn noise(image: ArrayView2<'_, f32>) -> f64 {
    let (rows, columns) = image.dim();
    if rows < 3 || columns < 3 {
        return 0.0;
    }
    let (mut sum, mut count) = (0.0, 0.0);
    for window in image.windows((3, 3)) {
        let [corners, sides] = [
            window[[0, 0]] + window[[0, 2]] + window[[2, 0]] + window[[2, 2]],
            window[[0, 1]] + window[[1, 0]] + window[[1, 2]] + window[[2, 1]],
        ];
        sum += f64::from((corners - 2.0 * sides + 4.0 * window[[1, 1]]).abs());
        count += 1.0;
    }
    (std::f64::consts::PI / 2.0).sqrt() / 6.0 * sum / count
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::annotations::SparseLabels;
    use crate::random::Random;
    use crate::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};

    fn seen() -> (Seen, Image) {
        let field = draw_field(&FieldOptions { height: 128, width: 128, ..FieldOptions::default() }, 1).unwrap();
        let labels = annotate(&field, &AnnotationOptions::default(), 1);
        let data = Dataset::new(vec![field.image.clone()], vec![SparseLabels::from_signed(labels).unwrap()]).unwrap();
        (Seen::of(&data, false, &CancelToken::new()).unwrap(), field.image)
    }

    fn nothing(seen: &Seen, image: &Image, scaled: bool) -> Option<String> {
        seen.nothing_in(image, scaled, &CancelToken::new()).unwrap()
    }

    #[test]
    fn noise_and_flat_images_of_every_size_show_nothing_and_cells_do() {
        let (seen, cells) = seen();
        assert_eq!(nothing(&seen, &cells, false), None, "{seen:?}");
        let mut random = Random::new(3, 0);
        for side in [20, 64, 300] {
            let mut draw = |kind: usize| {
                Array3::from_shape_fn((side, side + 3, 1), |_| match kind {
                    0 => 0.0,
                    1 => 200.0,
                    2 => (100.0 + 20.0 * random.normal() as f32).clamp(0.0, 255.0),
                    3 => random.below(256) as f32,
                    _ => 255.0 * f32::from(random.chance(0.02)),
                })
            };
            for kind in 0..5 {
                let image = draw(kind);
                for image in [Image::U8(image.mapv(|value| value as u8)), Image::F32(image)] {
                    assert!(nothing(&seen, &image, false).is_some(), "kind {kind}, side {side}");
                    assert!(nothing(&seen, &image, true).is_some(), "kind {kind}, side {side}");
                }
            }
        }
    }

    #[test]
    fn defective_pixels_alone_are_no_cells_however_little_stood_out_in_training() {
        let seen = Seen { diameter: 17.0, ratio: 26.0, relief: 5.0, bits: 8 };
        for seed in 0..5 {
            let mut random = Random::new(seed, 0);
            let image = Array3::from_shape_fn((256, 256, 1), |_| if random.chance(0.0033) { 255_u8 } else { 10 });
            assert!(nothing(&seen, &Image::U8(image), false).is_some(), "seed {seed}");
        }
    }

    #[test]
    fn a_defective_pixel_hides_no_cells() {
        let (seen, cells) = seen();
        for value in [1e8, -1e30, f32::MAX] {
            let mut pixels = cells.to_f32();
            pixels[[60, 70, 0]] = value;
            assert_eq!(nothing(&seen, &Image::F32(pixels), true), None, "{value}");
        }
    }

    #[test]
    fn faint_remains_are_told_from_cells_by_the_contrast_of_the_training() {
        let (seen, cells) = seen();
        let faint = |times: f32| {
            let mut random = Random::new(5, 0);
            let mean = cells.to_f32().mean().unwrap();
            Image::F32(cells.to_f32().mapv(|v| mean + (v - mean) / times + 0.1 * random.normal() as f32))
        };
        let trained = Seen { bits: 32, ..seen };
        assert_eq!(nothing(&trained, &faint(2.0), false), None);
        assert!(nothing(&trained, &faint(100.0), false).is_some());
        // Another kind of samples has another scale.
        assert!(seen.bits == 8 && nothing(&seen, &faint(30.0), true).is_none());
    }

    #[test]
    fn what_a_copy_shows_to_be_empty_is_empty() {
        let (seen, _) = seen();
        let mut sure = [0; 2];
        for seed in 0..4 {
            let field = draw_field(&FieldOptions { height: 192, width: 192, ..FieldOptions::default() }, seed).unwrap();
            let drawn = field.truth.mapv(|value| if value > 0 { 1.0 } else { 0.0 });
            let mut random = Random::new(seed, 0);
            // Down to cells that are as faint as the noise, and none.
            for contrast in [3.0, 1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.0] {
                let image = Array3::from_shape_fn((192, 192, 1), |(y, x, _)| {
                    100.0 + 5.0 * (contrast * drawn[[y, x]] + random.normal() as f32)
                });
                let empty = nothing(&seen, &Image::F32(image.clone()), true).is_some();
                for (kind, noise) in [1.0, 2.0].into_iter().enumerate() {
                    let copy = Array3::from_shape_fn((96, 96, 1), |(y, x, _)| {
                        let side = if kind == 0 { 2 } else { 1 };
                        let below = image.slice(ndarray::s![2 * y..2 * y + side, 2 * x..2 * x + side, 0]);
                        below.mean().unwrap_or(0.0)
                    });
                    let surely = seen.surely_nothing_in(copy.view(), 2.0, noise, &CancelToken::new()).unwrap();
                    assert!(empty || !surely, "contrast {contrast}, kind {kind}, seed {seed}");
                    sure[kind] += usize::from(surely);
                }
            }
        }
        assert!(sure[0] >= 4, "noise alone is known to be empty: {sure:?}");
    }
}
