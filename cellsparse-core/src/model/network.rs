//! From images to the outputs of the network.

use std::sync::Arc;

use ndarray::{Array3, ArrayView3, Axis, concatenate};

use super::{Architecture, Model};
use crate::error::{Error, Result};
use crate::networks::{Device, Engine};
use crate::raster::Image;

impl Model {
    /// The input of the network for one image: scaled intensities (unless they are `normalized` already), and as many
    /// channels as the network takes.
    ///
    /// # Errors
    /// [`Error::Image`] when the image is unusable or its channels do not fit.
    pub(super) fn network_input(&self, image: &Image, normalized: bool) -> Result<Array3<f32>> {
        self.check_channels(image.channels())?;
        if normalized {
            image.check()?;
            return self.fit_channels(image.to_f32());
        }
        self.fit_channels(self.normalization.apply(image)?)
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
            "it has {found} channels, the model takes {wanted}; convert the image, or train a model for {found} channels"
        )))
    }

    pub(super) fn fit_channels(&self, image: Array3<f32>) -> Result<Array3<f32>> {
        let (height, width, found) = image.dim();
        self.check_channels(found)?;
        let wanted = self.architecture.n_channels();
        if found == wanted {
            return Ok(image);
        }
        let mut result = Array3::zeros((height, width, wanted));
        for ((y, x, _), value) in image.indexed_iter() {
            result[[y, x, 0]] += value;
        }
        result.mapv_inplace(|sum| sum / found as f32);
        Ok(result)
    }

    /// Runs the network on images `[h, w, c]` of one size, each side a multiple of what the network divides by, and returns
    /// the outputs `[h, w, channels]` of each image.
    pub(super) fn run(&self, device: &Device, images: &[ArrayView3<'_, f32>]) -> Result<Vec<Vec<Array3<f32>>>> {
        let Some(first) = images.first() else { return Ok(Vec::new()) };
        let (height, width, _) = first.dim();
        let shape = [images.len(), height, width];
        let mut engine = match self.engines.take(shape, device) {
            Some(engine) => engine,
            None => {
                let mut engine = Engine::new(&Arc::clone(&self.graph), device, shape, false)?;
                engine.set_weights(&self.weights)?;
                engine
            }
        };
        let input = concatenate(Axis(0), images).map_err(|error| Error::Internal(format!("a batch: {error}")))?;
        let input: Vec<f32> = input.iter().copied().collect();
        let mut outputs = Vec::new();
        engine.forward(&self.weights, &input, &mut outputs)?;
        self.engines.put(shape, device, engine);
        let mut results: Vec<Vec<Array3<f32>>> = images.iter().map(|_| Vec::new()).collect();
        for (&id, values) in self.graph.outputs().iter().zip(outputs) {
            let node = &self.graph.nodes()[id];
            let [rows, columns] = node.size(height, width);
            let len = rows * columns * node.channels;
            for (result, values) in results.iter_mut().zip(values.chunks_exact(len)) {
                let array = Array3::from_shape_vec((rows, columns, node.channels), values.to_vec());
                result.push(array.map_err(|error| Error::Internal(format!("output of the network: {error}")))?);
            }
        }
        Ok(results)
    }
}
