//! From an image to objects.

use ndarray::ArrayView3;

use super::algorithm::Found;
use super::device;
use super::facade::Model;
use super::options::PredictOptions;
use super::segmentation::Segmentation;
use super::work::Work;
use crate::budget::{Budget, bytes_of};
use crate::error::{Error, Reason, Result, counted};
use crate::geometry::disc_diameter;
use crate::raster::{Image, LabelImage};

impl Model {
    /// Segments one image.
    ///
    /// # Errors
    /// [`Error::Image`] when the image is unusable or its channels do not fit the model, [`Error::Config`] for options out
    /// of range or of another algorithm, [`Error::Device`] for an absent device, [`Error::Limit`] for work that the
    /// memory does not suffice for, [`Error::Cancelled`] when the cancel token was raised.
    pub fn predict(&self, image: &Image, options: &PredictOptions) -> Result<Segmentation> {
        self.check_prediction(options)?;
        self.network.check_channels(image.channels())?;
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
        self.network.engines.install(options.threads, || {
            let zoom = self.zoom(options)?;
            if let Some(seen) = self.seen
                && let Some(reason) = seen.zoomed(zoom.0).nothing_in(image, options.normalized, &options.cancel)?
            {
                return Ok(nothing([height, width], &reason));
            }
            options.cancel.check()?;
            let (image, notes) = self.network.input_and_notes(image, options.normalized, &options.cancel)?;
            let mut found = self.segment(image.view(), options, zoom, budget.less(taken))?;
            found.notes.extend(notes);
            Ok(found)
        })
    }

    /// Segments one image `[H, W, C]` whose intensities are already what the network was trained on.
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    pub fn predict_normalized(&self, image: ArrayView3<'_, f32>, options: &PredictOptions) -> Result<Segmentation> {
        self.check_prediction(options)?;
        self.network.check_channels(image.dim().2)?;
        let [height, width] = [image.dim().0, image.dim().1];
        self.network.engines.install(options.threads, || {
            let zoom = self.zoom(options)?;
            let seen = self.seen.map(|seen| seen.zoomed(zoom.0));
            let cancel = &options.cancel;
            let reason = seen.map(|seen| seen.nothing_in(&Image::F32(image.to_owned()), true, cancel)).transpose()?;
            if let Some(reason) = reason.flatten() {
                return Ok(nothing([height, width], &reason));
            }
            let budget = options.memory.unwrap_or_else(Budget::of_free_memory);
            if image.dim().2 == self.architecture.n_channels() {
                return self.segment(image, options, zoom, budget);
            }
            let mut found = self.segment(self.network.fit_channels(image.to_owned())?.view(), options, zoom, budget)?;
            found.notes.extend(self.network.averaged("the image has", image.dim().2));
            Ok(found)
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
        let chosen = device::resolve_in(options.device, options.precision)?;
        let work = Work::of(options, &chosen.device, budget, zoom, self.pixel_size);
        let mut found = self.segment_on(&work, image, options)?;
        work.cancel.check()?;
        found.notes.splice(..0, chosen.note.into_iter().chain(note));
        Ok(found)
    }

    pub(super) fn segment_on(
        &self,
        work: &Work<'_>,
        image: ArrayView3<'_, f32>,
        options: &PredictOptions,
    ) -> Result<Segmentation> {
        let thresholds = self.thresholds.zoomed(work.zoom).with(options)?;
        let algorithm = self.architecture.with(thresholds)?;
        let Found { segmentation: mut found, highest, threshold, times } =
            algorithm.segment(&self.network, image, options, work)?;
        if found.objects.is_empty() {
            found.notes.push(if highest <= threshold {
                format!("nothing found: the threshold {threshold:.2} lies above all values, of which {highest:.2} is the highest")
            } else {
                "nothing found: what exceeds the threshold has not the size or the shape of a cell".into()
            });
        }
        found.notes.extend(self.strange_size(&found, work.zoom * times));
        found.notes.extend(strange_tile(algorithm.smallest_tile(), image.dim(), work.tile));
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
}

/// Ratio of the diameters of the median object and of the drawn cells, or its inverse, from which a note says so.
const STRANGE: f64 = 3.0;

/// A note on tiles that were asked for and are smaller than the `smallest` that are taken.
fn strange_tile(
    smallest: Option<usize>,
    (height, width, _): (usize, usize, usize),
    tile: Option<usize>,
) -> Option<String> {
    let smallest = smallest?;
    // Compared as a plain number: compiled code compares the contents of an absent option too, which valgrind reports.
    let tile = tile.unwrap_or(usize::MAX);
    let small = tile < smallest && height.max(width) > tile;
    small.then(|| {
        format!(
            "tiles of {} were asked for, and tiles of {smallest} are taken: of smaller ones this network would read \
         more for its surroundings than for its output",
            counted(tile, "pixel")
        )
    })
}

/// No object in an image of that size.
fn nothing([rows, columns]: [usize; 2], reason: &str) -> Segmentation {
    let mut nothing = Segmentation::new(LabelImage::zeros((rows, columns)), Vec::new());
    nothing.notes.push(format!("nothing found: {reason}"));
    nothing
}
