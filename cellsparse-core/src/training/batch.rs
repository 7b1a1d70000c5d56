//! Training batches: patches drawn, changed, and turned into inputs and targets.

use ndarray::{Array3, ArrayView2, ArrayView3, s};
use rayon::prelude::*;

use crate::budget::array;
use crate::error::{Error, Result};
use crate::raster::LabelImage;
use crate::targets::stardist::{ObjectClasses, Rays, StarTargetsMut, grid_shape, stardist_targets_into};
use crate::training::augment::Augmentation;
use crate::training::sampler::{PatchSampler, SamplingPolicy, patch_random};

/// What the batches of a StarDist training look like.
#[derive(Debug, Clone)]
pub struct BatchConfig {
    /// Seed of sampling and augmentation.
    pub seed: u64,
    /// Patches in a batch. Default 8.
    pub batch_size: usize,
    /// Side of the square patches in pixels, a multiple of both steps of the grid. Default 224.
    pub patch: usize,
    /// Pixels per target row and column. Default `[2, 2]`.
    pub grid: [usize; 2],
    /// Rays of a polygon. Default 32.
    pub n_rays: usize,
    /// Where patches may lie. Default [`SamplingPolicy::Annotated`].
    pub policy: SamplingPolicy,
    /// Fraction of the patches that are made to contain an object. Default 0.9.
    pub foreground_fraction: f64,
    /// How patches are changed.
    pub augmentation: Augmentation,
    /// The classes of the objects of each image, for a network with classes.
    pub classes: Option<ImageClasses>,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            batch_size: 8,
            patch: 224,
            grid: [2, 2],
            n_rays: 32,
            policy: SamplingPolicy::Annotated,
            foreground_fraction: 0.9,
            augmentation: Augmentation::default(),
            classes: None,
        }
    }
}

/// The classes of the objects of all training images.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageClasses {
    /// Number of classes without the background.
    pub n_classes: usize,
    /// One entry for each image.
    pub objects: Vec<ObjectClasses>,
}

/// One batch, in row-major order with the channel last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Number of patches `B`.
    pub size: usize,
    /// Side `p` of the patches in pixels.
    pub patch: usize,
    /// Channels `C` of the images.
    pub channels: usize,
    /// Rows `h` of the targets.
    pub rows: usize,
    /// Columns `w` of the targets.
    pub columns: usize,
    /// Rays `R`.
    pub n_rays: usize,
    /// Channels `K` of the class target (background and classes); 0 without classes.
    pub class_channels: usize,
    /// `[B, p, p, C]`.
    pub images: Vec<f32>,
    /// Object probability `[B, h, w]`, -1 at unlabelled pixels.
    pub prob: Vec<f32>,
    /// Ray lengths in pixels `[B, h, w, R]`.
    pub dist: Vec<f32>,
    /// Weight of the distance loss `[B, h, w]`.
    pub mask: Vec<f32>,
    /// Class target `[B, h, w, K]`, negative where unknown; absent without classes.
    pub class: Option<Vec<f32>>,
}

/// Makes batches from annotated images: batch `n` is a pure function of the images, the configuration and `n`.
#[derive(Debug, Clone)]
pub struct BatchMaker {
    images: Vec<Array3<f32>>,
    labels: Vec<LabelImage>,
    config: BatchConfig,
    sampler: PatchSampler,
    rays: Rays,
    shape: Batch,
}

impl BatchMaker {
    /// Takes normalised images `[H, W, C]` and their label images `[H, W]`.
    ///
    /// An image that is smaller than the patch is continued at its bottom and right by reflection (the edge pixels
    /// not repeated); its labels are continued with -1, so nothing is learned there.
    ///
    /// # Errors
    /// [`Error::Config`] for unusable options, [`Error::Image`] and [`Error::Labels`] for images and labels that do
    /// not fit each other or cannot be sampled, [`Error::Limit`] for a batch beyond the memory.
    pub fn new(images: Vec<Array3<f32>>, labels: Vec<LabelImage>, config: BatchConfig) -> Result<Self> {
        let shape = batch_shape(&images, &labels, &config)?;
        let patch = config.patch;
        let mut padded_images = Vec::with_capacity(images.len());
        let mut padded_labels = Vec::with_capacity(labels.len());
        for (image, labels) in images.into_iter().zip(labels) {
            let small = labels.nrows() < patch || labels.ncols() < patch;
            padded_images.push(if small { reflect_to(image.view(), patch)? } else { image });
            padded_labels.push(if small { extend_to(labels.view(), patch)? } else { labels });
        }
        let views: Vec<ArrayView2<'_, i32>> = padded_labels.iter().map(|labels| labels.view()).collect();
        let sampler = PatchSampler::new(&views, [patch; 2], config.foreground_fraction, config.policy)?;
        let rays = Rays::new(config.n_rays)?;
        Ok(Self { images: padded_images, labels: padded_labels, config, sampler, rays, shape })
    }

    /// Batch `index`, counted from 0.
    ///
    /// # Errors
    /// [`Error::Limit`] for a batch beyond the memory.
    pub fn batch(&self, index: u64) -> Result<Batch> {
        let mut batch = Batch::default();
        self.batch_into(&mut batch, index)?;
        Ok(batch)
    }

    /// [`batch`](Self::batch) into the buffers of an earlier one.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub fn batch_into(&self, batch: &mut Batch, index: u64) -> Result<()> {
        self.prepare(batch)?;
        let cells = batch.rows * batch.columns;
        let class_parts: Vec<Option<&mut [f32]>> = match &mut batch.class {
            Some(class) => class.chunks_mut(cells * batch.class_channels).map(Some).collect(),
            None => (0..batch.size).map(|_| None).collect(),
        };
        let first = index.wrapping_mul(self.config.batch_size as u64);
        batch
            .images
            .par_chunks_mut(batch.patch * batch.patch * batch.channels)
            .zip(batch.prob.par_chunks_mut(cells))
            .zip(batch.dist.par_chunks_mut(cells * batch.n_rays))
            .zip(batch.mask.par_chunks_mut(cells))
            .zip(class_parts)
            .enumerate()
            .try_for_each(|(k, ((((image, prob), dist), mask), class))| {
                let out = StarTargetsMut { prob, dist, mask, class };
                self.patch_into(first.wrapping_add(k as u64), image, out)
            })
    }

    /// The images, continued to the size of the patch where they were smaller.
    pub fn images(&self) -> &[Array3<f32>] {
        &self.images
    }

    fn patch_into(&self, number: u64, image: &mut [f32], out: StarTargetsMut<'_>) -> Result<()> {
        let side = self.config.patch;
        let mut random = patch_random(self.config.seed, number);
        let place = self.sampler.place(self.config.seed, number, &mut random);
        let change = self.config.augmentation.draw(&mut random);
        let (rows, columns) = (place.row..place.row + side, place.column..place.column + side);
        let source = self.images[place.image].slice(s![rows.clone(), columns.clone(), ..]);
        change.image(source, &mut random, image);
        let labels = change.labels(self.labels[place.image].slice(s![rows, columns]));
        let classes = self.config.classes.as_ref();
        let classes = classes.map(|classes| (classes.n_classes, &classes.objects[place.image]));
        stardist_targets_into(labels.view(), &self.rays, self.config.grid, classes, out)
    }

    /// Gives the buffers their sizes.
    fn prepare(&self, batch: &mut Batch) -> Result<()> {
        let shape = &self.shape;
        let cells = [shape.size, shape.rows, shape.columns];
        resize(&mut batch.images, &[shape.size, shape.patch, shape.patch, shape.channels])?;
        resize(&mut batch.prob, &cells)?;
        resize(&mut batch.mask, &cells)?;
        resize(&mut batch.dist, &[cells[0], cells[1], cells[2], shape.n_rays])?;
        if shape.class_channels > 0 {
            let class = batch.class.get_or_insert_default();
            resize(class, &[cells[0], cells[1], cells[2], shape.class_channels])?;
        } else {
            batch.class = None;
        }
        let Batch { size, patch, channels, rows, columns, n_rays, class_channels, .. } = *shape;
        let buffers = std::mem::take(batch);
        *batch = Batch { size, patch, channels, rows, columns, n_rays, class_channels, ..buffers };
        Ok(())
    }
}

/// Checks everything that a batch depends on; the result has sizes and no buffers.
fn batch_shape(images: &[Array3<f32>], labels: &[LabelImage], config: &BatchConfig) -> Result<Batch> {
    let grid = config.grid;
    let [rows, columns] = grid_shape(config.patch, config.patch, grid)?;
    if config.patch == 0 || !config.patch.is_multiple_of(grid[0]) || !config.patch.is_multiple_of(grid[1]) {
        return Err(Error::Config(format!(
            "a patch of {} pixels on a grid of {grid:?}; it must be a multiple of both steps",
            config.patch
        )));
    }
    if config.batch_size == 0 {
        return Err(Error::Config("a batch of 0 patches; it must have at least 1".into()));
    }
    let channels = check_images(images, labels)?;
    if let Some(classes) = &config.classes
        && classes.objects.len() != images.len()
    {
        return Err(Error::Labels(format!("classes for {} images of {}", classes.objects.len(), images.len())));
    }
    let shape = Batch {
        size: config.batch_size,
        patch: config.patch,
        channels,
        rows,
        columns,
        n_rays: config.n_rays,
        class_channels: config.classes.as_ref().map_or(0, |classes| classes.n_classes.saturating_add(1)),
        ..Batch::default()
    };
    checked_len(&[shape.size, shape.patch, shape.patch, shape.channels])?;
    checked_len(&[shape.size, shape.rows, shape.columns, shape.n_rays.max(shape.class_channels)])?;
    Ok(shape)
}

/// Refuses images and label images that do not fit each other; returns the number of channels.
pub(crate) fn check_images(images: &[Array3<f32>], labels: &[LabelImage]) -> Result<usize> {
    if images.len() != labels.len() {
        return Err(Error::Labels(format!(
            "{} images and {} label images; every image needs one",
            images.len(),
            labels.len()
        )));
    }
    let channels = images.first().map_or(1, |image| image.dim().2);
    for (i, (image, labels)) in images.iter().zip(labels).enumerate() {
        let (height, width, found) = image.dim();
        if (height, width) != labels.dim() {
            let (rows, columns) = labels.dim();
            return Err(Error::Labels(format!(
                "image {i} has {height} x {width} pixels, its label image {rows} x {columns}; they must be equal"
            )));
        }
        if found != channels || image.is_empty() {
            return Err(Error::Image(format!(
                "image {i} has {height} rows, {width} columns and {found} channels; none may be 0, and all images must \
                 have {channels} channels like the first one"
            )));
        }
    }
    Ok(channels)
}

/// The largest number of values in one buffer of a batch (8 GiB).
const MAX_VALUES: usize = 1 << 31;

pub(crate) fn checked_len(sides: &[usize]) -> Result<usize> {
    let len = sides.iter().try_fold(1usize, |len, &side| len.checked_mul(side));
    len.filter(|&len| len <= MAX_VALUES).ok_or_else(|| {
        Error::Limit(format!(
            "a batch of {sides:?} values; use a smaller batch or smaller patches (at most {MAX_VALUES})"
        ))
    })
}

pub(crate) fn resize(buffer: &mut Vec<f32>, sides: &[usize]) -> Result<()> {
    let len = checked_len(sides)?;
    buffer.truncate(len);
    let more = len - buffer.len();
    buffer.try_reserve_exact(more).map_err(|_| Error::Limit(format!("no memory for a batch of {sides:?} values")))?;
    buffer.resize(len, 0.0);
    Ok(())
}

/// Continues an image to at least `side` rows and columns by reflection at its last row and column.
pub(crate) fn reflect_to(image: ArrayView3<'_, f32>, side: usize) -> Result<Array3<f32>> {
    let (height, width, channels) = image.dim();
    let reflect = |i: usize, n: usize| {
        let period = 2 * n.saturating_sub(1).max(1);
        let i = i % period;
        if i < n { i } else { (period - i).min(n - 1) }
    };
    let mut reflected: Array3<f32> = array((height.max(side), width.max(side), channels), "a training image")?;
    for ((y, x, c), value) in reflected.indexed_iter_mut() {
        *value = image[[reflect(y, height), reflect(x, width), c]];
    }
    Ok(reflected)
}

/// Continues a label image to at least `side` rows and columns with unlabelled pixels.
pub(crate) fn extend_to(labels: ArrayView2<'_, i32>, side: usize) -> Result<LabelImage> {
    let (height, width) = labels.dim();
    let mut extended: LabelImage = array((height.max(side), width.max(side)), "the labels of a training image")?;
    extended.fill(-1);
    extended.slice_mut(s![..height, ..width]).assign(&labels);
    Ok(extended)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    fn data(n: usize, side: usize) -> (Vec<Array3<f32>>, Vec<LabelImage>) {
        let image = |i: usize| Array3::from_shape_fn((side, side, 1), |(y, x, _)| ((y * 7 + x * 3 + i) % 11) as f32);
        let labels = |i: usize| {
            Array2::from_shape_fn((side, side), |(y, x)| match ((y + i) / 9, x / 9) {
                (1, 1) => 1,
                (2, 0) => 0,
                _ => -1,
            })
        };
        ((0..n).map(image).collect(), (0..n).map(labels).collect())
    }

    fn small() -> BatchConfig {
        BatchConfig { batch_size: 4, patch: 32, n_rays: 8, ..BatchConfig::default() }
    }

    #[test]
    fn a_batch_is_a_function_of_its_index() {
        let (images, labels) = data(3, 48);
        let maker = BatchMaker::new(images, labels, small()).unwrap();
        let mut batch = maker.batch(7).unwrap();
        assert_eq!((batch.images.len(), batch.dist.len()), (4 * 32 * 32, 4 * 16 * 16 * 8));
        assert!(batch.prob.contains(&-1.0) && batch.prob.iter().any(|&prob| prob > 0.5));
        let seventh = batch.clone();
        maker.batch_into(&mut batch, 8).unwrap();
        assert_ne!(batch, seventh);
        maker.batch_into(&mut batch, 7).unwrap();
        assert_eq!(batch, seventh);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(pool.install(|| maker.batch(7)).unwrap(), seventh);
    }

    #[test]
    fn small_images_are_reflected_and_their_margin_is_unlabelled() {
        let image = array![[[1.0f32], [2.0], [3.0]]];
        let labels = array![[0, 5, 5]];
        let config = BatchConfig {
            batch_size: 1,
            patch: 6,
            grid: [1, 1],
            augmentation: Augmentation::none(),
            ..BatchConfig::default()
        };
        let batch = BatchMaker::new(vec![image], vec![labels], config).unwrap().batch(0).unwrap();
        for row in batch.images.chunks(6) {
            assert_eq!(row, [1.0, 2.0, 3.0, 2.0, 1.0, 2.0]);
        }
        assert_eq!(batch.prob[3..], [-1.0; 33]);
        assert_eq!(batch.prob[0], 0.0);
        assert!(batch.prob[2] > 0.5);
    }

    #[test]
    fn classes_travel_with_their_objects() {
        let (images, labels) = data(2, 40);
        let objects = vec![ObjectClasses::from([(1, Some(2))]), ObjectClasses::from([(1, Some(1))])];
        let config = BatchConfig { classes: Some(ImageClasses { n_classes: 2, objects }), ..small() };
        let maker = BatchMaker::new(images, labels, config.clone()).unwrap();
        let batch = maker.batch(0).unwrap();
        let class = batch.class.unwrap();
        assert_eq!(class.len(), 4 * 16 * 16 * 3);
        for channel in 0..3 {
            assert!(class.chunks(3).any(|cell| cell[channel] == 1.0));
        }
        let (images, labels) = data(1, 40);
        assert!(BatchMaker::new(images, labels, config).is_err());
    }

    #[test]
    fn unusable_input_is_refused() {
        let refused = |images: Vec<Array3<f32>>, labels: Vec<LabelImage>, config: BatchConfig| {
            assert!(BatchMaker::new(images, labels, config).is_err());
        };
        let (images, labels) = data(2, 40);
        refused(vec![], vec![], small());
        refused(images.clone(), vec![], small());
        refused(images.clone(), vec![labels[0].clone(), Array2::zeros((40, 41))], small());
        refused(vec![images[0].clone(), Array3::zeros((40, 40, 3))], labels.clone(), small());
        refused(vec![Array3::zeros((0, 0, 1))], vec![Array2::zeros((0, 0))], small());
        refused(images.clone(), labels.clone(), BatchConfig { patch: 33, ..small() });
        refused(images.clone(), labels.clone(), BatchConfig { patch: 0, ..small() });
        refused(images.clone(), labels.clone(), BatchConfig { batch_size: 0, ..small() });
        refused(images.clone(), labels.clone(), BatchConfig { n_rays: 0, ..small() });
        refused(images.clone(), labels.clone(), BatchConfig { grid: [0, 2], ..small() });
        refused(images.clone(), labels.clone(), BatchConfig { patch: usize::MAX - 1, ..small() });
        refused(images, labels, BatchConfig { batch_size: usize::MAX, ..small() });
    }
}
