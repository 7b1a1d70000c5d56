//! Rotated, scaled and mirrored patches of an image and its Cellpose targets.

use std::f64::consts::TAU;

use ndarray::{Array3, ArrayView3};

use crate::budget::copied;
use crate::error::{Error, Result};
use crate::random::Random;

/// What a patch holds where it reaches beyond the image. Samples and flows are 0 there in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outside {
    /// Nothing is annotated there, so nothing is learned: cell probability -1.
    #[default]
    Ignored,
    /// Annotated background, as in Cellpose: cell probability 0. In small images this is most of the background.
    Background,
}

impl Outside {
    fn cellprob(self) -> f32 {
        match self {
            Outside::Ignored => -1.0,
            Outside::Background => 0.0,
        }
    }
}

/// The ranges that patches are drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PatchRange {
    /// Rows and columns of the patch.
    pub size: [usize; 2],
    /// Width `r` of the range of scales `[1 - r/2, 1 + r/2]`, brought into 0 to 2. 0.5 when images are rescaled to one
    /// cell size, else 1.
    pub scale_range: f64,
    /// Diameter of the image's cells over the diameter to which they are scaled; patches are made smaller by it.
    pub rescale: f64,
}

/// How one patch lies in its image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patch {
    /// Whether the image is mirrored left to right first.
    pub flip: bool,
    /// Angle in radians by which the image, and with it the flows, are turned.
    pub theta: f64,
    /// Patch position `(x', y')` of a position `(x, y)` of the (mirrored) image: `x' = m[0][0] x + m[0][1] y + m[0][2]`,
    /// `y'` with the second row.
    pub matrix: [[f64; 3]; 2],
}

impl PatchRange {
    /// The patch of an image of `[rows, columns]` for five uniform numbers in `[0, 1)`: flip, angle, scale, horizontal and
    /// vertical shift.
    ///
    /// The image is scaled and turned about its middle, which is put at the middle of the patch, up to a shift by at most
    /// half of what the scaled image is larger than the patch.
    pub fn patch(&self, image: [usize; 2], draws: [f64; 5]) -> Patch {
        let scale = self.scale(draws[2]);
        let shift = self.reach(image, scale).map(|reach| 2.0 * reach);
        let dy = (draws[4] - 0.5) * shift[0];
        let dx = (draws[3] - 0.5) * shift[1];
        self.place(image, draws[0] > 0.5, TAU * draws[1], scale, [dy, dx])
    }

    /// Draws the five numbers of [`patch`](Self::patch) in the order of Cellpose.
    pub fn draw(&self, image: [usize; 2], random: &mut Random) -> Patch {
        let draws = std::array::from_fn(|_| random.unit());
        self.patch(image, draws)
    }

    /// Draws a patch that contains a given pixel `[row, column]`: flip, angle and scale as [`draw`](Self::draw), then a
    /// shift, uniform among the shifts of `draw` that put the pixel into the patch, away from its border. A pixel too near
    /// to a corner of the image for that is put as near to the border as needed.
    pub fn draw_around(&self, image: [usize; 2], pixel: [usize; 2], random: &mut Random) -> Patch {
        let draws: [f64; 5] = std::array::from_fn(|_| random.unit());
        let scale = self.scale(draws[2]);
        let reach = self.reach(image, scale);
        let (flip, theta) = (draws[0] > 0.5, TAU * draws[1]);
        let middle = self.place(image, flip, theta, scale, [0.0; 2]);
        let column = if flip { image[1].saturating_sub(1).saturating_sub(pixel[1]) } else { pixel[1] };
        let at = middle.forward(column as f64, pixel[0] as f64);
        let shift = std::array::from_fn(|axis| {
            let size = self.size[axis] as f64;
            let margin = (size / 8.0).min(16.0);
            // The shifts that put the pixel at the margin before the far border, and behind the near one.
            let (low, high) = (margin - at[axis], size - 1.0 - margin - at[axis]);
            let (least, most) = (low.max(-reach[axis]), high.min(reach[axis]));
            let u = draws[4 - axis];
            if least <= most { least + u * (most - least) } else { 0.0f64.clamp(low.min(high), high.max(low)) }
        });
        self.place(image, flip, theta, scale, shift)
    }

    /// The factor from image to patch, in f32 as in the reference.
    fn scale(&self, draw: f64) -> f64 {
        let range = self.scale_range.clamp(0.0, 2.0);
        let scale = ((1.0 - range / 2.0 + range * draw) / self.rescale) as f32;
        f64::from(if scale.is_finite() && scale > 1e-3 { scale } else { 1e-3 })
    }

    /// Half of what the scaled image is larger than the patch: rows, columns.
    fn reach(&self, image: [usize; 2], scale: f64) -> [f64; 2] {
        std::array::from_fn(|axis| (image[axis] as f64 * scale - self.size[axis] as f64).max(0.0) / 2.0)
    }

    fn place(&self, image: [usize; 2], flip: bool, theta: f64, scale: f64, [dy, dx]: [f64; 2]) -> Patch {
        let [height, width] = image.map(|n| n as f64 / 2.0);
        let (sine, cosine) = theta.sin_cos();
        let (sine, cosine) = (scale * sine, scale * cosine);
        let x = self.size[1] as f64 / 2.0 + dx - cosine * width + sine * height;
        let y = self.size[0] as f64 / 2.0 + dy - sine * width - cosine * height;
        Patch { flip, theta, matrix: [[cosine, -sine, x], [sine, cosine, y]] }
    }
}

impl Patch {
    /// `[y', x']` of a position of the (mirrored) image.
    fn forward(&self, x: f64, y: f64) -> [f64; 2] {
        let [a, b] = self.matrix;
        [b[0] * x + b[1] * y + b[2], a[0] * x + a[1] * y + a[2]]
    }

    /// The inverse of the matrix; of a matrix without one, a map to outside the image.
    fn inverse(&self) -> [[f64; 3]; 2] {
        let [[a, b, c], [d, e, f]] = self.matrix;
        let determinant = a * e - b * d;
        let [a, b, d, e] = [e, -b, -d, a].map(|value| value / determinant);
        let inverse = [[a, b, -a * c - b * f], [d, e, -d * c - e * f]];
        if inverse.iter().flatten().all(|value| value.is_finite()) { inverse } else { [[0.0, 0.0, -9.0]; 2] }
    }

    /// Cuts the patch of `size` (rows, columns) out of an image `[H, W, C]` and its targets `[H, W, 3]` (cell probability,
    /// flow `dY`, flow `dX`), both in row-major order; writes `[rows, columns, C]` and `[rows, columns, 3]`.
    ///
    /// Samples and flows are bilinear, mixed with 0 at the border of the image; the cell probability is that of the nearest
    /// pixel, never a mixture. Flows are turned with the image; they are not brought back to length 1.
    ///
    /// # Errors
    /// [`Error::Internal`] when sizes do not fit each other.
    pub fn cut(
        &self,
        size: [usize; 2],
        image: ArrayView3<'_, f32>,
        targets: ArrayView3<'_, f32>,
        outside: Outside,
        out_image: &mut [f32],
        out_targets: &mut [f32],
    ) -> Result<()> {
        let (height, width, channels) = image.dim();
        let pixels = size[0] * size[1];
        let (Some(image), Some(targets)) = (image.as_slice(), targets.as_slice()) else {
            return Err(Error::Internal("an image or targets to patch are not in row-major order".into()));
        };
        let fits = channels > 0 && out_image.len() == pixels * channels && out_targets.len() == pixels * 3;
        if !fits || targets.len() != height * width * 3 {
            return Err(Error::Internal("an image, its targets and their patch differ in size".into()));
        }
        let inverse = self.inverse();
        let (sine, cosine) = self.theta.sin_cos();
        let (sine, cosine) = (sine as f32, cosine as f32);
        let mirror = if self.flip { -1.0 } else { 1.0 };
        let samples = out_image.chunks_exact_mut(channels.max(1));
        for (at, (sample, target)) in samples.zip(out_targets.as_chunks_mut::<3>().0).enumerate() {
            let (row, column) = ((at / size[1]) as f64, (at % size[1]) as f64);
            let x = inverse[0][0] * column + inverse[0][1] * row + inverse[0][2];
            let y = inverse[1][0] * column + inverse[1][1] * row + inverse[1][2];
            let x = if self.flip { width as f64 - 1.0 - x } else { x };
            let corners = Corners::at(y, x, height, width);
            corners.mix(image, channels, sample);
            let mut flow = [0.0; 3];
            corners.mix(targets, 3, &mut flow);
            let (fy, fx) = (flow[1], flow[2] * mirror);
            target[0] = nearest(y, x, self.flip, height, width).map_or(outside.cellprob(), |at| targets[3 * at]);
            target[1] = fx * sine + fy * cosine;
            target[2] = fx * cosine - fy * sine;
        }
        Ok(())
    }
}

/// The pixel nearest to a position, if it is in the image. Of two equally near ones the later is taken, in the order of
/// the mirrored image if it is `flipped`.
fn nearest(y: f64, x: f64, flipped: bool, height: usize, width: usize) -> Option<usize> {
    let row = (y + 0.5).floor();
    let column = if flipped { (x - 0.5).ceil() } else { (x + 0.5).floor() };
    let inside = row >= 0.0 && column >= 0.0 && row < height as f64 && column < width as f64;
    inside.then(|| row as usize * width + column as usize)
}

/// The pixels around a position and their weights; weight 0 for those outside the image.
struct Corners([(usize, f32); 4]);

impl Corners {
    fn at(y: f64, x: f64, height: usize, width: usize) -> Self {
        let (row, column) = (y.floor(), x.floor());
        let (fy, fx) = ((y - row) as f32, (x - column) as f32);
        if row >= 0.0 && column >= 0.0 && row + 1.0 < height as f64 && column + 1.0 < width as f64 {
            let at = row as usize * width + column as usize;
            return Self([
                (at, (1.0 - fy) * (1.0 - fx)),
                (at + 1, (1.0 - fy) * fx),
                (at + width, fy * (1.0 - fx)),
                (at + width + 1, fy * fx),
            ]);
        }
        let corner = |dy: f64, dx: f64, weight: f32| {
            let (row, column) = (row + dy, column + dx);
            let inside = row >= 0.0 && column >= 0.0 && row < height as f64 && column < width as f64;
            if inside { (row as usize * width + column as usize, weight) } else { (0, 0.0) }
        };
        Self([
            corner(0.0, 0.0, (1.0 - fy) * (1.0 - fx)),
            corner(0.0, 1.0, (1.0 - fy) * fx),
            corner(1.0, 0.0, fy * (1.0 - fx)),
            corner(1.0, 1.0, fy * fx),
        ])
    }

    /// The weighted sum of the pixels of an image with `channels` samples a pixel.
    fn mix(&self, values: &[f32], channels: usize, out: &mut [f32]) {
        out.fill(0.0);
        for &(at, weight) in &self.0 {
            if weight != 0.0 {
                let pixel = &values[at * channels..(at + 1) * channels];
                out.iter_mut().zip(pixel).for_each(|(out, value)| *out += weight * value);
            }
        }
    }
}

/// Whether any pixel of targets `[rows, columns, 3]` is annotated.
pub fn is_annotated(targets: &[f32]) -> bool {
    targets.as_chunks::<3>().0.iter().any(|target| target[0] >= 0.0)
}

/// Targets `[3, H, W]` as [`Patch::cut`] reads them, `[H, W, 3]`.
///
/// # Errors
/// [`Error::Limit`] where there is no memory.
pub fn channel_last(targets: ArrayView3<'_, f32>) -> Result<Array3<f32>> {
    copied(targets.permuted_axes([1, 2, 0]), "what a network learns from an image")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(patch: &Patch, size: [usize; 2], image: &Array3<f32>, targets: &Array3<f32>) -> (Vec<f32>, Vec<f32>) {
        let pixels = size[0] * size[1];
        let (mut samples, mut values) = (vec![7.0; pixels * image.dim().2], vec![7.0; pixels * 3]);
        patch.cut(size, image.view(), targets.view(), Outside::Ignored, &mut samples, &mut values).unwrap();
        (samples, values)
    }

    fn data(height: usize, width: usize) -> (Array3<f32>, Array3<f32>) {
        let image = Array3::from_shape_fn((height, width, 2), |(y, x, c)| (y * 31 + x * 7 + c) as f32 / 100.0 + 1.0);
        let targets = Array3::from_shape_fn((height, width, 3), |(y, x, c)| match c {
            0 => ((y + x) % 3) as f32 - 1.0,
            1 => 0.6,
            _ => -0.8,
        });
        (image, targets)
    }

    #[test]
    fn no_change_is_no_change() {
        let (image, targets) = data(9, 7);
        let range = PatchRange { size: [9, 7], scale_range: 0.0, rescale: 1.0 };
        let (samples, values) = cut(&range.patch([9, 7], [0.0, 0.0, 0.5, 0.5, 0.5]), [9, 7], &image, &targets);
        assert_eq!(samples, image.clone().into_raw_vec_and_offset().0);
        assert_eq!(values, targets.clone().into_raw_vec_and_offset().0);
        // Mirrored: the image reversed and the horizontal flow negated.
        let (samples, values) = cut(&range.patch([9, 7], [0.9, 0.0, 0.5, 0.5, 0.5]), [9, 7], &image, &targets);
        assert_eq!(samples[..2], [image[[0, 6, 0]], image[[0, 6, 1]]]);
        assert_eq!(values[..3], [targets[[0, 6, 0]], 0.6, 0.8]);
    }

    #[test]
    fn a_quarter_turn_turns_the_flows() {
        let (image, targets) = data(8, 8);
        let range = PatchRange { size: [8, 8], scale_range: 0.0, rescale: 1.0 };
        let (samples, values) = cut(&range.patch([8, 8], [0.0, 0.25, 0.5, 0.5, 0.5]), [8, 8], &image, &targets);
        // (x, y) goes to (8 - y, x): patch pixel [2, 3] shows image pixel [5, 2].
        assert!((samples[(2 * 8 + 3) * 2] - image[[5, 2, 0]]).abs() < 1e-5);
        let target = &values[(2 * 8 + 3) * 3..][..3];
        assert!((target[1] + 0.8).abs() < 1e-6 && (target[2] + 0.6).abs() < 1e-6, "{target:?}");
    }

    #[test]
    fn outside_is_empty() {
        let (image, targets) = data(4, 4);
        let range = PatchRange { size: [12, 12], scale_range: 0.0, rescale: 1.0 };
        let patch = range.patch([4, 4], [0.0, 0.0, 0.5, 0.5, 0.5]);
        let (samples, values) = cut(&patch, [12, 12], &image, &targets);
        assert_eq!((samples[0], &values[..3]), (0.0, &[-1.0f32, 0.0, 0.0][..]));
        let mut background = vec![7.0; values.len()];
        let mut again = samples.clone();
        patch.cut([12, 12], image.view(), targets.view(), Outside::Background, &mut again, &mut background).unwrap();
        assert_eq!(background[..3], [0.0, 0.0, 0.0]);
        let ignored = values.chunks(3).filter(|target| target[0] < 0.0).count();
        let unannotated = targets.outer_iter().flat_map(|row| row.column(0).to_vec()).filter(|p| *p < 0.0).count();
        assert_eq!(ignored, 144 - 16 + unannotated);
        assert_eq!(background.chunks(3).filter(|target| target[0] < 0.0).count(), unannotated);
    }

    #[test]
    fn a_crop_around_a_pixel_contains_it() {
        let mut random = Random::new(4, 0);
        for n in 0..3000 {
            let image = [20 + random.below(300), 20 + random.below(300)];
            let pixel = [random.below(image[0]), random.below(image[1])];
            let range = PatchRange { size: [64, 48], scale_range: 0.5, rescale: random.uniform(0.3, 3.0) };
            let patch = range.draw_around(image, pixel, &mut random);
            let x = if patch.flip { image[1] - 1 - pixel[1] } else { pixel[1] };
            let [y, x] = patch.forward(x as f64, pixel[0] as f64);
            assert!((0.0..=63.0).contains(&y) && (0.0..=47.0).contains(&x), "{n}: {y} {x}");
        }
    }

    #[test]
    fn odd_ranges_and_sizes_are_survived() {
        let (image, targets) = data(5, 6);
        for rescale in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-30] {
            let range = PatchRange { size: [4, 4], scale_range: f64::INFINITY, rescale };
            let patch = range.draw([5, 6], &mut Random::new(0, 0));
            let (samples, _) = cut(&patch, [4, 4], &image, &targets);
            assert!(samples.iter().all(|value| value.is_finite()));
        }
        let empty = Array3::zeros((0, 6, 1));
        let patch = PatchRange { size: [2, 2], scale_range: 0.5, rescale: 1.0 }.draw([0, 6], &mut Random::new(0, 0));
        let (samples, values) = cut(&patch, [2, 2], &empty, &Array3::zeros((0, 6, 3)));
        assert_eq!((samples, is_annotated(&values)), (vec![0.0; 4], false));
        let nothing = &mut [];
        assert!(patch.cut([2, 2], image.view(), targets.view(), Outside::Ignored, nothing, &mut [0.0; 12]).is_err());
    }
}
