//! A network with its weights: from images to its outputs.

use std::sync::Arc;

use ndarray::{Array3, ArrayView3, Axis};

use super::engines::EngineCache;
use super::normalization::{FARTHEST, Normalization};
use super::work::Work;
use super::working_scale::WorkingScale;
use crate::budget::{array, bytes_of, gathered, zeros};
use crate::control::CancelToken;
use crate::error::{Error, Reason, Result, counted};
use crate::networks::{Device, Engine, Graph, ImageStatistics, Node, Weights};
use crate::raster::Image;

/// A network with its weights, and how it sees images: what an algorithm works with.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub graph: Arc<Graph>,
    pub weights: Weights,
    pub normalization: Normalization,
    /// Sides of the image that the network sees, relative to those of the image it is given.
    pub scale: WorkingScale,
    /// Whether it takes the mean of the channels of an image that has another number of them.
    pub averages_channels: bool,
    pub engines: EngineCache,
}

impl Network {
    /// A network that sees images as they are.
    pub fn new(graph: Arc<Graph>, weights: Weights, averages_channels: bool) -> Self {
        Self {
            graph,
            weights,
            normalization: Normalization::default(),
            scale: WorkingScale::NONE,
            averages_channels,
            engines: EngineCache::default(),
        }
    }

    /// The input for one image `[H, W, C]`: scaled intensities (unless they are `normalized` already), and as many channels as
    /// the network takes.
    ///
    /// # Errors
    /// [`Error::Image`] when the image is unusable or its channels do not fit, [`Error::Cancelled`].
    pub fn input(&self, image: &Image, normalized: bool, cancel: &CancelToken) -> Result<Array3<f32>> {
        Ok(self.input_and_notes(image, normalized, cancel)?.0)
    }

    /// [`input`](Self::input), and what a user should know of it.
    pub fn input_and_notes(
        &self,
        image: &Image,
        normalized: bool,
        cancel: &CancelToken,
    ) -> Result<(Array3<f32>, Vec<String>)> {
        self.check_channels(image.channels())?;
        let averaged = self.averaged("the image has", image.channels());
        if normalized {
            image.check()?;
            cancel.check()?;
            return Ok((self.fit_channels(image.try_to_f32()?)?, averaged.into_iter().collect()));
        }
        let (scaled, moved) = self.normalization.apply_and_count(image, cancel)?;
        cancel.check()?;
        let note = (moved > 0).then(|| {
            let lie = if moved == 1 { "intensity lies" } else { "intensities lie" };
            let they = if moved == 1 { "it is" } else { "they are" };
            format!(
                "{moved} {lie} more than {FARTHEST} times the contrast of the image away from it, as those of \
                 defective pixels do; {they} taken for that"
            )
        });
        Ok((self.fit_channels(scaled)?, averaged.into_iter().chain(note).collect()))
    }

    /// A note on an image with `found` channels whose mean is taken, which begins with `what`; a single channel is no mean.
    pub fn averaged(&self, what: &str, found: usize) -> Option<String> {
        let wanted = self.graph.input_channels();
        (self.averages_channels && found != wanted && found > 1).then(|| {
            let rest = match wanted {
                1 => String::new(),
                2 => " as the first channel, and 0 as the other".into(),
                _ => format!(" as the first channel, and 0 as the {} others", wanted - 1),
            };
            format!(
                "{what} {found} channels and the model takes {wanted}: the mean of all {found} is taken{rest}; where cells \
                 show in some of them only, choose channels"
            )
        })
    }

    /// Refuses an image whose channels cannot be made those of the network.
    pub fn check_channels(&self, found: usize) -> Result<()> {
        let wanted = self.graph.input_channels();
        if found == wanted || (self.averages_channels && found > 0) {
            return Ok(());
        }
        Err(Error::Image(format!(
            "it has {}, the model takes {wanted}; {}convert the image, or train a model for {}",
            counted(found, "channel"),
            if found > wanted { format!("choose {wanted} of its channels, ") } else { String::new() },
            counted(found, "channel")
        ))
        .because(Reason::Channels { found, expected: wanted }))
    }

    /// The image with as many channels as the network takes: the mean of those that it has, and zeros.
    pub fn fit_channels(&self, image: Array3<f32>) -> Result<Array3<f32>> {
        let (height, width, found) = image.dim();
        self.check_channels(found)?;
        let wanted = self.graph.input_channels();
        if found == wanted {
            return Ok(image);
        }
        let mut result: Array3<f32> = array((height, width, wanted), "an image as the network sees it")?;
        for (pixel, mut to) in image.lanes(Axis(2)).into_iter().zip(result.lanes_mut(Axis(2))) {
            // In 64 bits, where no sum of 32-bit numbers overflows.
            let sum: f64 = pixel.iter().map(|value| f64::from(*value)).sum();
            to[0] = (sum / found as f64) as f32;
        }
        Ok(result)
    }

    /// Bytes that the network takes on the CPU for batches of that shape, `[batch, height, width]`. On a device with memory of its
    /// own, these are the inputs and outputs of the batch that it computes, and twice the outputs of the one before, which
    /// somebody looks at meanwhile.
    pub fn bytes(&self, shape: [usize; 3], device: &Device) -> Result<u64> {
        match device.is_cpu() {
            true if device.is_sparing() => self.graph.sparing_bytes(shape),
            true => self.graph.bytes(shape, false),
            false => {
                Ok(self.input_bytes(shape).saturating_mul(2).saturating_add(self.output_bytes(shape).saturating_mul(3)))
            }
        }
    }

    fn input_bytes(&self, [batch, height, width]: [usize; 3]) -> u64 {
        bytes_of(&[batch, height, width, self.graph.input_channels()], 4)
    }

    fn output_bytes(&self, [batch, height, width]: [usize; 3]) -> u64 {
        let bytes = |node: &Node| {
            let [rows, columns] = node.size(height, width);
            bytes_of(&[batch, rows, columns, node.channels], 4)
        };
        let outputs = self.graph.outputs().iter().map(|id| bytes(&self.graph.nodes()[*id]));
        outputs.fold(0, u64::saturating_add)
    }

    /// The first of several shapes for which there is memory.
    ///
    /// # Errors
    /// [`Error::Limit`] with what the last of them would take.
    pub fn first_fitting<T: Copy>(
        &self,
        work: &Work<'_>,
        choices: impl IntoIterator<Item = T>,
        shape: impl Fn(T) -> [usize; 3],
    ) -> Result<Option<T>> {
        let mut last = None;
        for choice in choices {
            let shape = shape(choice);
            let bytes = self.bytes(shape, work.device)?;
            if bytes <= work.budget.left() {
                return Ok(Some(choice));
            }
            last = Some((shape, bytes));
        }
        let Some(([batch, height, width], bytes)) = last else { return Ok(None) };
        let tiles = if batch == 1 { "a tile".into() } else { format!("{batch} tiles") };
        work.budget.require(
            bytes,
            format_args!("the network on {tiles} of {height} x {width} pixels"),
            "give a smaller tile, or allow more memory",
        )?;
        Ok(None)
    }

    /// Runs the network on a batch of that shape, `[batch, height, width]`, each side a multiple of what the network divides
    /// by, and returns the outputs `[h, w, channels]` of each image. `fill` writes the input `[batch, height, width, channels]`.
    ///
    /// # Errors
    /// [`Error::Limit`] when there is no memory for it, [`Error::Cancelled`].
    pub fn run(
        &self,
        work: &Work<'_>,
        shape: [usize; 3],
        fill: impl FnOnce(&mut [f32]),
    ) -> Result<Vec<Vec<Array3<f32>>>> {
        Ok(self.run_with(work, shape, None, fill)?.0)
    }

    /// [`run`](Self::run), with statistics of a whole image that normalisations take instead of those of its part, and with
    /// those of this part.
    pub fn run_with(
        &self,
        work: &Work<'_>,
        shape: [usize; 3],
        statistics: Option<&ImageStatistics>,
        fill: impl FnOnce(&mut [f32]),
    ) -> Result<(Vec<Vec<Array3<f32>>>, ImageStatistics)> {
        work.cancel.check()?;
        let [batch, height, width] = shape;
        let engine = self.engine(work, shape)?;
        let mut input = zeros(batch * height * width * self.graph.input_channels(), "the input of the network")?;
        fill(&mut input);
        let (outputs, seen) = self.outputs(work, shape, engine, statistics, &input)?;
        let mut results: Vec<Vec<Array3<f32>>> = (0..batch).map(|_| Vec::new()).collect();
        for (&id, mut values) in self.graph.outputs().iter().zip(outputs) {
            let node = &self.graph.nodes()[id];
            let [rows, columns] = node.size(height, width);
            let len = rows * columns * node.channels;
            // From the last image on, so that nothing is moved and the first one keeps the buffer.
            for (index, result) in results.iter_mut().enumerate().rev() {
                let own = match index {
                    0 => std::mem::take(&mut values),
                    _ => gathered(len, values.drain(index * len..), "the output of the network")?,
                };
                let array = Array3::from_shape_vec((rows, columns, node.channels), own);
                result.push(array.map_err(|error| Error::Internal(format!("output of the network: {error}")))?);
            }
        }
        Ok((results, seen))
    }

    /// An engine for batches of that shape, with the weights.
    fn engine(&self, work: &Work<'_>, shape: [usize; 3]) -> Result<Engine> {
        if let Some(engine) = self.engines.take(shape, work.device) {
            return Ok(engine);
        }
        self.first_fitting(work, [shape], |shape| shape)?;
        // What is kept for other shapes is part of the memory.
        self.engines.make_room(self.bytes(shape, work.device)?, work.budget.left());
        let mut engine = Engine::new(&Arc::clone(&self.graph), work.device, shape, false)?;
        engine.set_weights(&self.weights)?;
        Ok(engine)
    }

    /// The outputs for a batch, and the statistics of an image. What an accelerator has no memory for is computed in two
    /// halves, each in the same way.
    fn outputs(
        &self,
        work: &Work<'_>,
        shape: [usize; 3],
        mut engine: Engine,
        statistics: Option<&ImageStatistics>,
        input: &[f32],
    ) -> Result<(Vec<Vec<f32>>, ImageStatistics)> {
        let mut outputs = Vec::new();
        engine.set_image_statistics(statistics);
        let ended = engine.forward_until(&self.weights, input, &mut outputs, &work.cancel);
        let [batch, height, width] = shape;
        if let Err(Error::Limit(_)) = ended
            && !work.device.is_cpu()
            && batch > 1
        {
            drop(engine);
            let first = batch / 2;
            let (input, rest) = input.split_at(input.len() / batch * first);
            let half = |count: usize, input: &[f32]| {
                let shape = [count, height, width];
                Ok(self.outputs(work, shape, self.engine(work, shape)?, statistics, input)?.0)
            };
            let mut outputs = half(first, input)?;
            for (output, rest) in outputs.iter_mut().zip(half(batch - first, rest)?) {
                output.extend(rest);
            }
            return Ok((outputs, ImageStatistics::default()));
        }
        let seen = engine.image_statistics();
        engine.set_image_statistics(None);
        self.engines.put(shape, work.device, engine);
        ended?;
        Ok((outputs, seen))
    }
}

/// Writes an image `[h, w, c]` as the input of a network.
pub(super) fn fill_from(image: ArrayView3<'_, f32>) -> impl FnOnce(&mut [f32]) {
    move |input| input.iter_mut().zip(image).for_each(|(to, from)| *to = *from)
}

#[cfg(test)]
mod tests {
    use crate::model::{Algorithm, Architecture, Model};

    #[cfg(feature = "candle")]
    #[test]
    fn what_goes_to_an_accelerator_and_comes_back_counts_among_the_memory() {
        let model = Model::new(Architecture::of(Algorithm::Stardist, 1), 0).unwrap();
        let bytes = |shape| model.network.bytes(shape, &super::Device::stand_in(None)).unwrap();
        // A number for every pixel, and 33 on every second row and column.
        assert_eq!(bytes([1, 64, 32]), 4 * (2 * 64 * 32 + 3 * 33 * 32 * 16));
        assert_eq!(bytes([3, 64, 32]), 3 * bytes([1, 64, 32]));
    }

    #[test]
    fn channels_whose_mean_is_taken_are_said() {
        let said = |algorithm, wanted, found| {
            let model = Model::new(Architecture::of(algorithm, wanted), 0).unwrap();
            model.network.averaged("the image has", found)
        };
        for algorithm in [Algorithm::Cellpose, Algorithm::Elephant] {
            let text = said(algorithm, 1, 3).unwrap();
            assert!(
                text.starts_with("the image has 3 channels and the model takes 1: the mean of all 3 is taken;"),
                "{text}"
            );
            assert_eq!([said(algorithm, 1, 1), said(algorithm, 2, 1), said(algorithm, 3, 3)], [None, None, None]);
        }
        let text = said(Algorithm::Cellpose, 2, 3).unwrap();
        assert!(text.contains("as the first channel, and 0 as the other;"), "{text}");
        assert_eq!([said(Algorithm::Elephant, 2, 3), said(Algorithm::Stardist, 1, 3)], [None, None]);
    }
}
