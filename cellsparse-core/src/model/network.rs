//! From images to the outputs of the network.

use std::sync::Arc;

use ndarray::{Array3, ArrayView3, Axis};

use super::normalization::FARTHEST;
use super::work::Work;
use super::{Architecture, Model};
use crate::budget::zeros;
use crate::error::{Error, Reason, Result};
use crate::networks::{Engine, ImageStatistics};
use crate::raster::Image;

impl Model {
    /// The input of the network for one image: scaled intensities (unless they are `normalized` already), and as many
    /// channels as the network takes.
    ///
    /// # Errors
    /// [`Error::Image`] when the image is unusable or its channels do not fit.
    pub(super) fn network_input(&self, image: &Image, normalized: bool) -> Result<Array3<f32>> {
        Ok(self.network_input_and_note(image, normalized)?.0)
    }

    /// [`network_input`](Self::network_input), and what a user should know of it.
    pub(super) fn network_input_and_note(
        &self,
        image: &Image,
        normalized: bool,
    ) -> Result<(Array3<f32>, Option<String>)> {
        self.check_channels(image.channels())?;
        if normalized {
            image.check()?;
            return Ok((self.fit_channels(image.to_f32())?, None));
        }
        let (scaled, moved) = self.normalization.apply_and_count(image)?;
        let note = (moved > 0).then(|| {
            format!(
                "{moved} intensities lie more than {FARTHEST} times the contrast of the image away from it, as those of \
                 defective pixels do; they are taken for that"
            )
        });
        Ok((self.fit_channels(scaled)?, note))
    }

    /// Refuses an image whose channels cannot be made those of the network.
    ///
    /// Networks of Cellpose and ELEPHANT for one channel take the mean of several; the reference network of Cellpose, for
    /// two, takes the mean and zeros. Otherwise the numbers must be equal.
    pub(super) fn check_channels(&self, found: usize) -> Result<()> {
        let wanted = self.architecture.n_channels();
        let averaged = match self.architecture {
            Architecture::Stardist(_) => false,
            Architecture::Cellpose(_) => wanted <= 2,
            Architecture::Elephant(_) => wanted == 1,
        };
        if found == wanted || (averaged && found > 0) {
            return Ok(());
        }
        Err(Error::Image(format!(
            "it has {found} channels, the model takes {wanted}; choose {wanted} of its channels, convert the image, \
             or train a model for {found} channels"
        ))
        .because(Reason::Channels { found, expected: wanted }))
    }

    pub(super) fn fit_channels(&self, image: Array3<f32>) -> Result<Array3<f32>> {
        let (height, width, found) = image.dim();
        self.check_channels(found)?;
        let wanted = self.architecture.n_channels();
        if found == wanted {
            return Ok(image);
        }
        let mut result = Array3::zeros((height, width, wanted));
        for (pixel, mut to) in image.lanes(Axis(2)).into_iter().zip(result.lanes_mut(Axis(2))) {
            // In 64 bits, where no sum of 32-bit numbers overflows.
            let sum: f64 = pixel.iter().map(|value| f64::from(*value)).sum();
            to[0] = (sum / found as f64) as f32;
        }
        Ok(result)
    }

    /// Runs the network on a batch of that shape, `[batch, height, width]`, each side a multiple of what the network divides
    /// by, and returns the outputs `[h, w, channels]` of each image. `fill` writes the input `[batch, height, width, channels]`.
    ///
    /// # Errors
    /// [`Error::Limit`] when there is no memory for it, [`Error::Cancelled`].
    pub(super) fn run(
        &self,
        work: &Work<'_>,
        shape: [usize; 3],
        fill: impl FnOnce(&mut [f32]),
    ) -> Result<Vec<Vec<Array3<f32>>>> {
        Ok(self.run_with(work, shape, None, fill)?.0)
    }

    /// [`run`](Self::run), with statistics of a whole image that normalisations take instead of those of its part, and with
    /// those of this part.
    pub(super) fn run_with(
        &self,
        work: &Work<'_>,
        shape: [usize; 3],
        statistics: Option<&ImageStatistics>,
        fill: impl FnOnce(&mut [f32]),
    ) -> Result<(Vec<Vec<Array3<f32>>>, ImageStatistics)> {
        work.cancel.check()?;
        let [batch, height, width] = shape;
        let mut engine = match self.engines.take(shape, work.device) {
            Some(engine) => engine,
            None => {
                self.first_fitting(work, [shape], |shape| shape)?;
                let mut engine = Engine::new(&Arc::clone(&self.graph), work.device, shape, false)?;
                engine.set_weights(&self.weights)?;
                engine
            }
        };
        let mut input = zeros(batch * height * width * self.graph.input_channels(), "the input of the network")?;
        fill(&mut input);
        let mut outputs = Vec::new();
        engine.set_image_statistics(statistics);
        let ended = engine.forward_until(&self.weights, &input, &mut outputs, &work.cancel);
        let seen = engine.image_statistics();
        engine.set_image_statistics(None);
        self.engines.put(shape, work.device, engine);
        ended?;
        let mut results: Vec<Vec<Array3<f32>>> = (0..batch).map(|_| Vec::new()).collect();
        for (&id, mut values) in self.graph.outputs().iter().zip(outputs) {
            let node = &self.graph.nodes()[id];
            let [rows, columns] = node.size(height, width);
            let len = rows * columns * node.channels;
            // From the last image on, so that nothing is moved and the first one keeps the buffer.
            for (index, result) in results.iter_mut().enumerate().rev() {
                let own = if index == 0 { std::mem::take(&mut values) } else { values.split_off(index * len) };
                let array = Array3::from_shape_vec((rows, columns, node.channels), own);
                result.push(array.map_err(|error| Error::Internal(format!("output of the network: {error}")))?);
            }
        }
        Ok((results, seen))
    }
}

/// Writes an image `[h, w, c]` as the input of a network.
pub(super) fn fill_from(image: ArrayView3<'_, f32>) -> impl FnOnce(&mut [f32]) {
    move |input| input.iter_mut().zip(image).for_each(|(to, from)| *to = *from)
}
