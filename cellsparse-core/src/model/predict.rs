//! From an image to objects.

use std::collections::BTreeMap;

use ndarray::{ArrayView2, ArrayView3, Axis};

use super::work::Work;
use super::{Architecture, Model, Object, PredictOptions, Segmentation, cellpose, device, elephant, stardist};
use crate::budget::{Budget, bytes_of};
use crate::error::{Error, Reason, Result};
use crate::geometry::{disc_diameter, exact_outlines};
use crate::raster::{Image, LabelImage};

impl Model {
    /// Segments one image.
    ///
    /// # Errors
    /// [`Error::Image`] when the image is unusable or its channels do not fit the model, [`Error::Config`] for options out
    /// of range or of another algorithm, [`Error::Device`] for an absent device, [`Error::Limit`] for work that the memory does not
    /// suffice for, [`Error::Cancelled`] when the cancel token was raised.
    pub fn predict(&self, image: &Image, options: &PredictOptions) -> Result<Segmentation> {
        self.check_prediction(options)?;
        self.check_channels(image.channels())?;
        let (height, width, channels) = image.shape();
        let budget = options.memory.unwrap_or_else(Budget::of_free_memory);
        // The image as floats, and one channel again to measure percentiles on.
        let taken = bytes_of(&[height, width, channels], 4);
        budget.require(
            taken.saturating_add(bytes_of(&[height, width], 4)),
            format_args!("an image of {height} x {width} pixels as the network reads it"),
            "cut it into parts, or allow more memory",
        )?;
        options.cancel.check()?;
        // All of it in one pool: the one of the whole process does not survive a fork.
        self.engines.install(options.threads, || {
            let zoom = self.zoom(options)?;
            let reason = self.seen.and_then(|seen| seen.zoomed(zoom.0).nothing_in(image, options.normalized));
            if let Some(reason) = reason {
                return Ok(nothing([height, width], &reason));
            }
            options.cancel.check()?;
            let (image, note) = self.network_input_and_note(image, options.normalized)?;
            let mut found = self.segment(image.view(), options, zoom, budget.less(taken))?;
            found.notes.extend(note);
            Ok(found)
        })
    }

    /// Segments one image `[H, W, C]` whose intensities are already what the network was trained on.
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    pub fn predict_normalized(&self, image: ArrayView3<'_, f32>, options: &PredictOptions) -> Result<Segmentation> {
        self.check_prediction(options)?;
        self.check_channels(image.dim().2)?;
        let [height, width] = [image.dim().0, image.dim().1];
        self.engines.install(options.threads, || {
            let zoom = self.zoom(options)?;
            let seen = self.seen.map(|seen| seen.zoomed(zoom.0));
            if let Some(reason) = seen.and_then(|seen| seen.nothing_in(&Image::F32(image.to_owned()), true)) {
                return Ok(nothing([height, width], &reason));
            }
            let budget = options.memory.unwrap_or_else(Budget::of_free_memory);
            if image.dim().2 == self.architecture.n_channels() {
                return self.segment(image, options, zoom, budget);
            }
            self.segment(self.fit_channels(image.to_owned())?.view(), options, zoom, budget)
        })
    }

    pub(super) fn check_prediction(&self, options: &PredictOptions) -> Result<()> {
        if !(options.min_area >= 0.0 && options.min_area.is_finite()) {
            return Err(Error::Config(format!("min_area is {}; it must be 0 or more pixels", options.min_area))
                .because(Reason::out_of_range("min_area", options.min_area, 0.0..=f64::INFINITY)));
        }
        if let Some(tile) = options.tile.filter(|tile| !(32..=65536).contains(tile)) {
            return Err(Error::Config(format!("tile is {tile}; it must lie between 32 and 65536 pixels"))
                .because(Reason::out_of_range("tile", tile as f64, 32.0..=65536.0)));
        }
        self.thresholds.with(options).map(drop)
    }

    fn segment(
        &self,
        image: ArrayView3<'_, f32>,
        options: &PredictOptions,
        (zoom, note): (f64, Option<String>),
        budget: Budget,
    ) -> Result<Segmentation> {
        let (device, _) = device::resolve(options.device)?;
        let work = Work::of(options, &device, budget, zoom);
        let mut found = self.segment_on(&work, image, options)?;
        work.cancel.check()?;
        found.notes.splice(..0, note);
        Ok(found)
    }

    pub(super) fn segment_on(
        &self,
        work: &Work<'_>,
        image: ArrayView3<'_, f32>,
        options: &PredictOptions,
    ) -> Result<Segmentation> {
        let thresholds = self.thresholds.zoomed(work.zoom).with(options)?;
        // What was found, the highest value of the map that decides, and the threshold for it.
        let (mut found, highest, threshold) = match &self.architecture {
            Architecture::Stardist(config) => {
                let star = thresholds.stardist()?;
                let scale = self.scale_for(image, work)?;
                let (found, highest) = self.segment_stars(config, image, scale, &star, options.min_area, work)?;
                (found, highest, star.prob)
            }
            Architecture::Cellpose(config) => {
                let thresholds = thresholds.cellpose()?;
                let maps = cellpose::maps(self, config, image, &thresholds, work)?;
                let highest = highest(maps.cellprob.iter());
                (maps.segment(config, &thresholds, options.min_area, &work.cancel)?, highest, thresholds.cellprob)
            }
            Architecture::Elephant(_) => {
                let thresholds = thresholds.elephant()?;
                let scale = self.scale_for(image, work)?;
                let maps = elephant::probabilities(self, image, scale, work)?;
                let highest = highest(maps.index_axis(Axis(2), 2).iter());
                let method = options.postprocess.unwrap_or_default();
                let found = elephant::segment(maps.view(), &thresholds, method, options.min_area, &work.cancel)?;
                (found, highest, thresholds.center)
            }
        };
        if found.objects.is_empty() {
            found.notes.push(if highest <= threshold {
                format!("nothing found: the threshold {threshold:.2} lies above all values, of which {highest:.2} is the highest")
            } else {
                "nothing found: what exceeds the threshold has not the size or the shape of a cell".into()
            });
        }
        found.notes.extend(self.strange_size(&found, work.zoom));
        found.notes.extend(self.strange_tile(image.dim(), work.tile));
        Ok(found)
    }

    /// A note on objects that are far from the size of the cells that were drawn, in an image seen that many times as large.
    fn strange_size(&self, found: &Segmentation, zoom: f64) -> Option<String> {
        let drawn = self.seen?.zoomed(zoom).diameter;
        let mut areas = vec![0_usize; found.objects.len() + 1];
        for id in &found.labels {
            if let Some(area) = areas.get_mut(*id as usize) {
                *area += 1;
            }
        }
        let objects = areas.get_mut(1..)?;
        objects.sort_unstable();
        let median = disc_diameter(*objects.get(objects.len() / 2)? as f64);
        let times = (drawn / median).max(median / drawn);
        (times > STRANGE).then(|| {
            let word = if median < drawn { "smaller" } else { "larger" };
            format!(
                "the objects are {times:.0} times {word} across than the drawn cells; draw some cells of this image"
            )
        })
    }

    /// A note on tiles that were asked for and are smaller than those that are taken.
    fn strange_tile(&self, (height, width, _): (usize, usize, usize), tile: Option<usize>) -> Option<String> {
        let Architecture::Stardist(config) = &self.architecture else { return None };
        let least = stardist::least_tile(config);
        // Compared as a plain number: compiled code compares the contents of an absent option too, which valgrind reports.
        let tile = tile.unwrap_or(usize::MAX);
        let small = tile < least && height.max(width) > tile;
        small.then(|| format!(
            "tiles of {tile} pixels were asked for, and tiles of {least} are taken: of smaller ones this network would read \
             more for its surroundings than for the answer"
        ))
    }
}

/// The median object is so many times smaller or larger across than the drawn cells when a note says so.
const STRANGE: f64 = 3.0;

fn highest<'a>(values: impl Iterator<Item = &'a f32>) -> f32 {
    values.copied().fold(f32::NEG_INFINITY, f32::max)
}

/// No object in an image of that size.
fn nothing([rows, columns]: [usize; 2], reason: &str) -> Segmentation {
    let mut nothing = Segmentation::new(LabelImage::zeros((rows, columns)), Vec::new());
    nothing.notes.push(format!("nothing found: {reason}"));
    nothing
}

/// The segmentation of a label image whose ids are 1, 2, ...: objects have the outline of their largest part, and the mean
/// of `confidence` over their pixels as probability.
pub(super) fn from_labels(labels: LabelImage, confidence: ArrayView2<'_, f32>) -> Result<Segmentation> {
    let mut sums: BTreeMap<i32, (f64, usize)> = BTreeMap::new();
    for (&id, &value) in labels.iter().zip(&confidence) {
        if id > 0 {
            let (sum, count) = sums.entry(id).or_default();
            *sum += f64::from(value);
            *count += 1;
        }
    }
    let mut objects = Vec::new();
    let outlines = exact_outlines(&labels)?;
    for outline in &outlines {
        let area = |ring: &[[f64; 2]]| {
            let next = ring.iter().cycle().skip(1);
            ring.iter().zip(next).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum::<f64>().abs()
        };
        let largest = outline.parts.iter().max_by(|a, b| area(&a.exterior).total_cmp(&area(&b.exterior)));
        // Outlines are closed, x, y along the edges of pixels; polygons are y, x with pixel centres at integers.
        let polygon = largest.map_or(Vec::new(), |part| {
            part.exterior.iter().skip(1).map(|[x, y]| [(*y - 0.5) as f32, (*x - 0.5) as f32]).collect()
        });
        let (sum, count) = sums.get(&outline.id).copied().unwrap_or((0.0, 1));
        let probability = (sum / count as f64) as f32;
        objects.push(Object { id: outline.id, polygon, probability, class: None });
    }
    Ok(Segmentation::traced(labels, objects, outlines))
}
