//! The size at which a network sees its cells.

use ndarray::{Array2, ArrayView3, Axis, CowArray, Ix3, s};
use serde::{Deserialize, Serialize};

use super::cell_size::cell_sizes;
use crate::annotations::{Dataset, SparseLabels};
use crate::budget::{array, bytes_of, copied};
use crate::error::Result;
use crate::geometry::disc_diameter;
use crate::pseudo_labels::part_areas;
use crate::raster::{LabelImage, resize_bilinear, scaled_size, try_gaussian_blur};

/// Diameter in pixels at which the annotated cells are trained on.
const DIAMETER: f64 = 20.0;

/// Smallest and largest factor.
const FACTORS: [f64; 2] = [0.25, 2.0];

/// Factors in this range are not worth the blur of another sampling.
const NEAR: [f64; 2] = [0.75, 1.34];

/// Cells of different images differ in size when the ratio of the 90th to the 10th percentile of their diameters is above the
/// first value, and there are at least as many images as the second.
const DIFFERENT: f64 = 1.5;
const FEWEST: usize = 4;

/// Small and large cells lie far apart when the 90th percentile of the sizes is this many times the 10th.
const APART: f64 = 4.0;

/// Among that many cells, the smallest does not count in that when the next one is this many times as large, nor the largest
/// when it is this many times as large as the next one.
const HANDFUL: usize = 5;
const ALONE: f64 = 1.75;

/// Sides that a network sees relative to those of an image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct WorkingScale {
    /// The factor for cells of the usual size.
    pub factor: f64,
    /// Whether cells of different images differ in size, so that every image has its own factor.
    pub by_image: bool,
    /// The size that counts relative to the diameter of a disc of the same area; below 1 for thin cells.
    pub thinness: f64,
    /// By what the size of the cells of an image is told; an image whose cells are clearly smaller or larger than those of the
    /// training has its own factor. `None` where no image is looked at for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gauge: Option<Gauge>,
}

/// How a network itself sees the cells that were drawn, and by what settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gauge {
    /// The diameter in pixels that it measures on them.
    pub diameter: f64,
    /// The probability from which on an object is as good as they are; 0 in files that do not have it: all are.
    #[serde(default)]
    pub probability: f64,
    /// The flow error and the logit with which it does: those of a call change the masks, and shall not change the size of an image.
    pub flow: f32,
    pub cellprob: f32,
}

/// What a network says of the cells that were drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measure {
    /// Their diameter in pixels.
    pub diameter: f64,
    /// The probability from which on an object is as good as they are.
    pub probability: f64,
}

impl Gauge {
    /// What the network says of the drawn cells.
    pub fn measure(&self) -> Measure {
        Measure { diameter: self.diameter, probability: self.probability }
    }
}

impl WorkingScale {
    /// Images as they are.
    pub const NONE: Self = Self { factor: 1.0, by_image: false, thinness: 1.0, gauge: None };

    /// Refuses values that no training gives, by a sentence.
    pub fn check(&self) -> std::result::Result<(), String> {
        if !(0.01..=100.0).contains(&self.factor) {
            return Err(format!("its scale is {}; it must lie between 0.01 and 100", self.factor));
        }
        if !(0.001..=1.0).contains(&self.thinness) {
            return Err(format!("the thinness of its cells is {}; it must lie between 0.001 and 1", self.thinness));
        }
        if let Some(Gauge { diameter, probability, flow, cellprob }) = self.gauge {
            if !(0.1..=100_000.0).contains(&diameter) {
                return Err(format!("its cells measure {diameter} pixels; it must lie between 0.1 and 100000"));
            }
            if !(0.0..=1.0).contains(&probability) {
                return Err(format!(
                    "its cells count from a probability of {probability}; it must lie between 0 and 1"
                ));
            }
            if !(flow >= 0.0 && flow.is_finite() && cellprob.is_finite()) {
                return Err(format!(
                    "its cells were measured with a flow error of {flow} and a logit of {cellprob}; these must be finite, and the first not below 0"
                ));
            }
        }
        Ok(())
    }

    /// What brings the annotated cells of `data` to the size that a network learns quickest.
    ///
    /// A network of few layers sees a limited surrounding, small cells are cheaper than large ones, and one size is learned
    /// sooner than many. Parts of one large image are seen alike, however large the cells are that were drawn in each: objects
    /// on the seam of two parts must fit.
    pub fn of(data: &Dataset, parts_of_one: bool) -> Self {
        let mut sizes: Vec<f64> = data.labels().iter().flat_map(|labels| cell_sizes(labels.labels())).collect();
        sizes.sort_unstable_by(f64::total_cmp);
        let mut areas: Vec<usize> = data.labels().iter().flat_map(|labels| labels.areas().values().copied()).collect();
        areas.sort_unstable();
        let (Some(median), Some(area)) = (sizes.get(sizes.len() / 2), areas.get(areas.len() / 2)) else {
            return Self::NONE;
        };
        let thinness = (median / disc_diameter(*area as f64)).min(1.0);
        let drawn = data.labels().iter().filter(|labels| labels.object_count() > 0);
        let mut diameters: Vec<f64> = drawn.map(SparseLabels::median_diameter).collect();
        diameters.sort_unstable_by(f64::total_cmp);
        let tenth = diameters.len() / 10;
        let differ = diameters.len() >= FEWEST && diameters[diameters.len() - 1 - tenth] > DIFFERENT * diameters[tenth];
        let by_image = differ && !parts_of_one;
        // Images that differ are scaled one by one.
        let size = if by_image { *median } else { typical(&sizes, *median) };
        Self { factor: factor(size, by_image), by_image, thinness, gauge: None }
    }

    /// The factor for an image whose drawn cells are known; without any, the usual one.
    pub fn for_labels(&self, labels: &SparseLabels) -> f64 {
        if self.by_image && labels.object_count() > 0 {
            factor(labels.median_diameter() * self.thinness, true)
        } else {
            self.factor
        }
    }

    /// The factor for an image `[H, W, C]` of which nothing is known, for pixels that are seen `zoom` times as large: the usual
    /// one, or, when cells differ in size from image to image, that which fits the cells that a network finds in the middle of
    /// this one. `look` gives the cells that it sees in a part of the image at a factor.
    pub fn for_image(
        &self,
        image: ArrayView3<'_, f32>,
        zoom: f64,
        look: impl Fn(ArrayView3<'_, f32>, f64) -> Result<Option<SeenCells>>,
    ) -> Result<f64> {
        let mut scale = self.factor * zoom;
        if !self.by_image {
            return Ok(scale);
        }
        for _ in 0..ROUNDS {
            let Some(cells) = look(middle(image, (LOOK / scale) as usize), scale)? else { break };
            let Some(diameter) = cells.diameter(DIAMETER / (scale * self.thinness)) else { break };
            let next = factor(diameter * self.thinness, true);
            let change = (next / scale).max(scale / next);
            scale = next;
            if change < SETTLED {
                break;
            }
        }
        Ok(scale)
    }
}

/// Side of the part in the middle of an image on which the size of its cells is found out, at most.
pub(super) const MIDDLE: usize = 3072;

/// The part in the middle of an image `[H, W, C]` with sides of at most that many pixels, and of [`MIDDLE`].
pub(super) fn middle(image: ArrayView3<'_, f32>, side: usize) -> ArrayView3<'_, f32> {
    let (height, width, _) = image.dim();
    let side = side.min(MIDDLE);
    let [top, left] = [height.saturating_sub(side) / 2, width.saturating_sub(side) / 2];
    let [bottom, right] = [(top + side).min(height), (left + side).min(width)];
    image.slice_move(s![top..bottom, left..right, ..])
}

/// The factor that brings the median cell of a label image to the size at which networks are trained; 1 without cells.
pub(super) fn image_factor(labels: &LabelImage) -> f64 {
    let sizes = cell_sizes(labels);
    sizes.get(sizes.len() / 2).map_or(1.0, |median| factor(*median, true))
}

/// The size that is brought to that of the network, of sizes in ascending order with that median: where small and large cells lie
/// far apart, the one in the middle between them, so that neither vanishes.
fn typical(sizes: &[f64], median: f64) -> f64 {
    let tenth = sizes.len() / 10;
    // Of a handful, one cell in pieces decides nothing, and one pair neither.
    let alone = |small: usize, large: usize| {
        let far = |(small, large): (&f64, &f64)| *large > ALONE * small;
        tenth == 0 && sizes.len() >= HANDFUL && sizes.get(small).zip(sizes.get(large)).is_some_and(far)
    };
    let last = sizes.len().saturating_sub(1);
    let (first, last) =
        (tenth + usize::from(alone(0, 1)), last - tenth - usize::from(alone(last.saturating_sub(1), last)));
    let (Some(small), Some(large)) = (sizes.get(first), sizes.get(last)) else {
        return median;
    };
    if *large < APART * small { median } else { (small.max(1.0) * large).sqrt() }
}

fn factor(diameter: f64, exact: bool) -> f64 {
    let factor = DIAMETER / diameter;
    if !exact && (NEAR[0]..=NEAR[1]).contains(&factor) { 1.0 } else { factor.clamp(FACTORS[0], FACTORS[1]) }
}

/// Rounds of looking at an image to find out how large its cells are, and the change of the factor that ends them.
const ROUNDS: usize = 3;
const SETTLED: f64 = 1.15;

/// Side of the part of an image that is looked at, in pixels that the network sees.
const LOOK: f64 = 768.0;

/// The area below which a part is no cell, as a fraction of the square of the expected diameter.
const SPECK: f64 = 0.03;

/// Where a network sees cells in a part of an image.
pub(super) struct SeenCells {
    /// Pixels of cells.
    pub inside: Array2<bool>,
    /// Their side in pixels of the image.
    pub pixel: f64,
    /// The fraction of a cell's radius that they cover.
    pub fraction: f64,
}

impl SeenCells {
    /// Their diameter in pixels of the image, of which that one is `expected`; `None` without any.
    fn diameter(&self, expected: f64) -> Option<f64> {
        let expected = expected * self.fraction / self.pixel;
        let mut areas = part_areas(&self.inside, expected);
        areas.retain(|area| *area as f64 > SPECK * expected * expected);
        // The median by area: fragments are many and count little.
        areas.sort_unstable();
        let total: usize = areas.iter().sum();
        let mut below = 0;
        let middle = areas.iter().find(|area| {
            below += **area;
            2 * below >= total
        });
        middle.map(|area| disc_diameter(*area as f64) * self.pixel / self.fraction)
    }
}

/// The sides of an image that is seen at `scale`.
///
/// # Errors
/// [`Error::Limit`](crate::Error::Limit) for an image beyond the memory.
pub(super) fn scaled_sides([height, width]: [usize; 2], scale: f64) -> Result<[usize; 2]> {
    Ok([scaled_size(height, scale)?.max(1), scaled_size(width, scale)?.max(1)])
}

/// Bytes of an image `[height, width, channels]` that is seen at `scale`, besides the image; nothing when it is seen as it is.
///
/// # Errors
/// As [`scaled_sides`].
pub(super) fn scaled_bytes([height, width, channels]: [usize; 3], scale: f64) -> Result<u64> {
    let sides = scaled_sides([height, width], scale)?;
    if sides == [height, width] {
        return Ok(0);
    }
    // Made smaller, an image is copied and smoothed first, one channel at a time.
    let smooth = if scale < 1.0 { bytes_of(&[height, width, channels + 2], 4) } else { 0 };
    Ok(bytes_of(&[sides[0], sides[1], channels], 4).saturating_add(smooth))
}

/// The image `[H, W, C]` that many times as large.
pub(super) fn resample(mut image: CowArray<'_, f32, Ix3>, scale: f64) -> Result<CowArray<'_, f32, Ix3>> {
    let (height, width, _) = image.dim();
    let [rows, columns] = scaled_sides([height, width], scale)?;
    if [rows, columns] == [height, width] {
        return Ok(image);
    }
    if scale < 1.0 {
        if image.is_view() {
            image = copied(image.view(), "an image at another size")?.into();
        }
        // What is finer than the coarser pixels would turn into noise.
        let sigma = (0.5 * (1.0 / (scale * scale) - 1.0).sqrt()) as f32;
        for mut channel in image.axis_iter_mut(Axis(2)) {
            let smooth = try_gaussian_blur(channel.view(), sigma)?;
            channel.assign(&smooth);
        }
    }
    Ok(resize_bilinear(image.view(), rows, columns)?.into())
}

/// The labels `[H, W]` that many times as large: those of the nearest pixels.
pub(super) fn resample_labels(labels: &LabelImage, scale: f64) -> Result<LabelImage> {
    let (height, width) = labels.dim();
    let [rows, columns] = scaled_sides([height, width], scale)?;
    if [rows, columns] == [height, width] {
        return copied(labels.view(), "a label image");
    }
    nearest(labels, rows, columns)
}

/// Labels of other sides: those of the nearest pixels.
///
/// # Errors
/// [`Error::Limit`](crate::Error::Limit) where there is no memory.
pub(super) fn nearest(labels: &LabelImage, rows: usize, columns: usize) -> Result<LabelImage> {
    let nearest = Nearest::new(labels.dim(), (rows, columns));
    let mut result: LabelImage = array((rows, columns), "a label image at another size")?;
    result.indexed_iter_mut().for_each(|((y, x), label)| *label = labels[nearest.of(y, x)]);
    Ok(result)
}

/// Which pixel of an image is nearest to one of the same image at other sides.
pub(super) struct Nearest {
    from: (usize, usize),
    to: (usize, usize),
}

impl Nearest {
    /// From an image of those sides to one of these.
    pub fn new(from: (usize, usize), to: (usize, usize)) -> Self {
        Self { from, to }
    }

    /// The pixel of the first image for one of the second.
    pub fn of(&self, y: usize, x: usize) -> [usize; 2] {
        let source = |i: usize, n: usize, of: usize| ((2 * i + 1) * of / (2 * n)).min(of.saturating_sub(1));
        [source(y, self.to.0, self.from.0), source(x, self.to.1, self.from.1)]
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, s};

    use super::*;
    use crate::raster::Image;

    #[test]
    fn a_scale_that_no_training_gives_is_refused() {
        let gauge = Gauge { diameter: 20.0, probability: 0.9, flow: 0.4, cellprob: -4.0 };
        let of = |gauge| WorkingScale { gauge: Some(gauge), ..WorkingScale::NONE }.check();
        assert_eq!((of(gauge), WorkingScale::NONE.check()), (Ok(()), Ok(())));
        for wrong in [
            Gauge { diameter: 0.0, ..gauge },
            Gauge { diameter: f64::NAN, ..gauge },
            Gauge { probability: f64::NAN, ..gauge },
            Gauge { probability: 1.1, ..gauge },
            Gauge { flow: -1.0, ..gauge },
            Gauge { cellprob: f32::INFINITY, ..gauge },
        ] {
            assert!(of(wrong).unwrap_err().starts_with("its cells"), "{wrong:?}");
        }
        for wrong in [0.0, f64::NAN] {
            assert!(WorkingScale { factor: wrong, ..WorkingScale::NONE }.check().is_err());
            assert!(WorkingScale { thinness: wrong, ..WorkingScale::NONE }.check().is_err());
        }
    }

    #[test]
    fn a_file_that_does_not_say_from_where_on_cells_count_takes_all() {
        let of = |json| serde_json::from_str::<Gauge>(json).unwrap();
        let gauge = of(r#"{"diameter": 20.0, "flow": 0.4, "cellprob": -1.0}"#);
        assert_eq!(gauge, Gauge { diameter: 20.0, probability: 0.0, flow: 0.4, cellprob: -1.0 });
        assert_eq!(of(&serde_json::to_string(&Gauge { probability: 0.8, ..gauge }).unwrap()).probability, 0.8);
    }

    /// One image with square cells of those sides.
    fn set(sides: &[usize]) -> Dataset {
        let images = sides.iter().map(|_| Image::U8(Array3::zeros((100, 100, 1)))).collect();
        let labels = sides.iter().map(|side| {
            let mut labels = LabelImage::from_elem((100, 100), -1);
            labels.row_mut(0).fill(0);
            labels.slice_mut(s![5..5 + side, 5..5 + side]).fill(1);
            SparseLabels::from_signed(labels).unwrap()
        });
        Dataset::new(images, labels.collect()).unwrap()
    }

    #[test]
    fn between_small_and_large_cells_the_middle_is_taken() {
        assert_eq!(typical(&[10.0, 12.0, 30.0], 12.0), 12.0);
        assert_eq!(typical(&[8.0, 50.0, 50.0, 50.0], 50.0), 20.0);
        assert_eq!(typical(&[0.0, 9.0, 25.0], 9.0), 5.0);
        assert_eq!(typical(&[], 7.0), 7.0);
        // One piece of a cell and one pair do not change how the others are seen.
        assert_eq!(typical(&[2.0, 9.0, 10.0, 11.0, 40.0], 10.0), 10.0);
        assert_eq!(typical(&[2.0, 5.0, 5.0, 45.0, 45.0, 95.0], 45.0), 15.0);
        assert_eq!(typical(&[3.0, 5.0, 5.0, 45.0, 45.0, 75.0], 45.0), 15.0);
    }

    #[test]
    fn cells_of_one_size_share_a_factor_and_others_do_not() {
        // A square of side 40 has the area of a disc of diameter 45.1.
        let one = WorkingScale::of(&set(&[40, 40, 40, 44]), false);
        assert!(!one.by_image && (one.factor - 20.0 / 45.1).abs() < 0.01, "{one:?}");
        assert_eq!(WorkingScale::of(&set(&[16, 17]), false), WorkingScale::NONE);
        let different = set(&[10, 40, 12, 40, 11]);
        let parts = WorkingScale::of(&different, true);
        assert!(!parts.by_image && parts.factor == 1.0, "{parts:?}");
        let many = WorkingScale::of(&different, false);
        assert!(many.by_image, "{many:?}");
        let alone = set(&[40]);
        assert!((many.for_labels(&alone.labels()[0]) - 20.0 / 45.1).abs() < 0.01);
        assert_eq!(one.for_labels(&set(&[10]).labels()[0]), one.factor);
        assert_eq!(many.for_labels(&set(&[3]).labels()[0]), FACTORS[1]);
    }
}
