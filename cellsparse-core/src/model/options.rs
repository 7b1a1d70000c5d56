//! What a caller can choose: device, training and prediction options.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::control::CancelToken;
use crate::error::{Error, Reason, Result};

/// Where a network runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Device {
    /// The best device that this build and this machine have.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of that number.
    Cuda(usize),
    /// The Metal device.
    Metal,
    /// The CPU, driven as an accelerator is; batches of more pixels than that many find no memory.
    #[cfg(all(test, feature = "candle"))]
    StandIn(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
            Device::Metal => f.write_str("metal"),
            #[cfg(all(test, feature = "candle"))]
            Device::StandIn(_) => f.write_str("stand-in"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || unknown("device", text, "the devices are auto, cpu, cuda, cuda:N and metal");
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            "metal" => Ok(Device::Metal),
            other => {
                let index = other.strip_prefix("cuda:").ok_or_else(unknown)?;
                index.parse().map(Device::Cuda).map_err(|_| unknown())
            }
        }
    }
}

/// The numbers that a network is computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Precision {
    /// 32 bits; trainings with the default preset as [`Bf16`](Self::Bf16) on a CPU that is known to be quicker with it.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// bfloat16, which has 16 bits. On an accelerator maps, gradients and kernels are rounded to these numbers; on the CPU the factors
    /// of products in 3 x 3 convolutions, which is quicker where the processor has an instruction for them (AVX512-BF16). Sums have
    /// 32 bits, and so have the weights of the model.
    Bf16,
    /// TensorFloat-32: 32 bits, of which the factors of products have 19. On CUDA devices alone.
    Tf32,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Auto => "auto",
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Tf32 => "tf32",
        })
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Precision::Auto),
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            "tf32" => Ok(Precision::Tf32),
            other => Err(unknown("precision", other, "there are auto, f32, tf32 and bf16")),
        }
    }
}

/// A named set of defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Preset {
    /// What measures best from a few annotations.
    #[default]
    Default,
    /// The settings of the reference implementation, as literal as possible.
    Reference,
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "default" => Ok(Preset::Default),
            "reference" => Ok(Preset::Reference),
            other => Err(unknown("preset", other, "the presets are default and reference")),
        }
    }
}

/// How ELEPHANT's probabilities become cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Postprocess {
    /// Seeds in the centres grow over the foreground: cells of any shape.
    #[default]
    Watershed,
    /// One ellipse for every centre, as in elephant-core.
    Ellipse,
}

impl FromStr for Postprocess {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "watershed" => Ok(Postprocess::Watershed),
            "ellipse" => Ok(Postprocess::Ellipse),
            other => Err(unknown("post-processing", other, "there are watershed and ellipse")),
        }
    }
}

fn unknown(what: &'static str, found: &str, known: &str) -> Error {
    Error::Config(format!("unknown {what} '{found}'; {known}"))
        .because(Reason::UnknownName { what, found: found.to_owned() })
}

/// What the weights of a new model are before its first training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Start {
    /// Those in the library, learned on drawn fields, if they fit the network; else those the model has.
    #[default]
    Starter,
    /// Those the model has: random ones, unless it was made otherwise.
    None,
}

impl std::str::FromStr for Start {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "starter" => Ok(Start::Starter),
            "none" => Ok(Start::None),
            other => Err(Error::Config(format!("unknown starting weights '{other}'; there are starter and none"))),
        }
    }
}

/// How to train.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Optimiser steps (batches). `None` means 200 with the reference preset, else 800 of smaller batches, or as many as
    /// fit into `time_budget` when there is one.
    pub steps: Option<usize>,
    /// Patches in a batch. `None` means 8 when `steps` are given and with the reference preset, else 4: many small batches
    /// teach more in the same time.
    pub batch_size: Option<usize>,
    /// Side of the square training patches in pixels, rounded up to what the network can divide. `None` means 224 when
    /// `steps` are given and with the reference preset, else 128; and no more than the largest image.
    pub patch_size: Option<usize>,
    /// Learning rate; `None` takes the preset's.
    pub learning_rate: Option<f32>,
    /// Which set of defaults to train with.
    pub preset: Preset,
    /// Finish after about this time, preparation and choice of thresholds included, with the learning-rate schedule fitted to
    /// it. Like a training without `steps`, it may finish earlier: when the loss falls no more.
    pub time_budget: Option<Duration>,
    /// Weights that a model which was never trained begins with. The reference preset takes those it has.
    pub start: Start,
    /// Seed of sampling and augmentation.
    pub seed: u64,
    /// Continue with the optimiser state and step count stored in the model.
    pub resume: bool,
    /// This is one of many short trainings that follow each other while labels are drawn: the weights before it give way
    /// unless they segment what is drawn clearly better, and the rate is that of a training from starting weights.
    pub round: bool,
    /// Leave the thresholds as they are, or as they usually are for a model that was never trained, instead of choosing them at
    /// the end: for short trainings, of which the choice would take the larger part.
    pub keep_thresholds: bool,
    /// Take the intensities of the images, those of the validation set included, as they are instead of scaling each image by
    /// its own percentiles: for parts of one large image, which are scaled alike before they come here. Their cells are taken
    /// to be of one size, so that all parts are resampled alike.
    pub normalized: bool,
    /// Size of the pixels of all images `[y, x]` in micrometres; `None` takes what the data set tells of each.
    pub pixel_size: Option<[f64; 2]>,
    /// Bring images whose pixels have different known sizes to one: that of a model which was trained before, else the
    /// median. Without it, or with the reference preset, images are taken as they are, and a model of different ones keeps
    /// no pixel size; one of Cellpose does not look for the size of the cells in other images.
    pub rescale: bool,
    /// Where to run.
    pub device: Device,
    /// The numbers to compute with. The reference preset computes in 32 bits.
    pub precision: Precision,
    /// Compute threads; `None` takes one per core, and more than twice as many are not made. A call from inside a pool of
    /// rayon runs in that pool and makes none. The result does not depend on it.
    pub threads: Option<usize>,
    /// Memory that the training may take, beyond data set and model; `None` means half of what is free when it begins.
    pub memory: Option<Budget>,
    /// Write the model here after the first step, after every epoch (25 steps; 200 with the reference preset) and in between
    /// as often as takes a twentieth of the time, so that a crash loses little; not once more when `cancel` is raised, since the
    /// training then returns in a moment.
    /// Thresholds are chosen at the end of the training: those in a checkpoint are the ones from before.
    pub checkpoint: Option<PathBuf>,
    /// Raised by another thread to stop training; the weights reached so far are kept. Thresholds are then chosen on images of 4
    /// million pixels together at most; above, the defaults are taken. Raised (once more) while they are chosen, it ends the
    /// choice, and the defaults are taken.
    pub cancel: CancelToken,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            steps: None,
            batch_size: None,
            patch_size: None,
            learning_rate: None,
            preset: Preset::Default,
            time_budget: None,
            start: Start::Starter,
            seed: 0,
            resume: false,
            round: false,
            keep_thresholds: false,
            normalized: false,
            pixel_size: None,
            rescale: true,
            device: Device::Auto,
            precision: Precision::Auto,
            threads: None,
            memory: None,
            checkpoint: None,
            cancel: CancelToken::new(),
        }
    }
}

/// How to predict. `None` takes the value stored with the model.
///
/// The options of one algorithm can also be made as a type of its own, see [`AlgorithmOptions`](super::AlgorithmOptions).
#[derive(Debug, Clone)]
pub struct PredictOptions {
    /// StarDist: smallest object probability of a candidate; ELEPHANT: smallest centre probability of a seed. In `(0, 1)`.
    pub prob_thresh: Option<f32>,
    /// StarDist: largest overlap that two objects may keep, in `[0, 1]`.
    pub nms_thresh: Option<f32>,
    /// Cellpose: largest flow error of a mask.
    pub flow_threshold: Option<f32>,
    /// Cellpose: smallest cell-probability logit of a pixel.
    pub cellprob_threshold: Option<f32>,
    /// Cellpose: cell diameter in pixels.
    pub diameter: Option<f32>,
    /// Cellpose: average the outputs for overlapping, mirrored tiles. About three times the work.
    pub augment: bool,
    /// ELEPHANT: how probabilities become cells; `None` means [`Postprocess::Watershed`].
    pub postprocess: Option<Postprocess>,
    /// Objects with fewer pixels are removed, beyond those that are much smaller than any annotated cell. Default 0.
    pub min_area: f32,
    /// Side of the tiles in pixels; `None` chooses one. StarDist takes no tile below four times the receptive radius of its
    /// network, most of which would be read for its surroundings alone; no tile is larger than the image.
    pub tile: Option<usize>,
    /// Take the intensities of the image as they are, as in [`TrainOptions::normalized`].
    pub normalized: bool,
    /// Size of the image's pixels `[y, x]` in micrometres, if it is known. An image whose pixels have another size than those of
    /// the training, where that is known too, is seen scaled by the ratio of their sides (geometric means); results are in
    /// the pixels of the image, and a note tells it.
    pub pixel_size: Option<[f64; 2]>,
    /// Whether an image of another pixel size is seen scaled, and by Cellpose one whose cells are clearly smaller or larger than the
    /// drawn ones, where the pixel size of one of the two is not known and no diameter is given. Default true.
    pub rescale: bool,
    /// Where to run.
    pub device: Device,
    /// The numbers to compute with.
    pub precision: Precision,
    /// Compute threads, as in [`TrainOptions::threads`].
    pub threads: Option<usize>,
    /// Memory that the prediction may take, beyond image and model; `None` means half of what is free when it begins. With
    /// less, StarDist reads smaller tiles and Cellpose fewer at a time, which changes nothing but rounding.
    pub memory: Option<Budget>,
    /// Raised by another thread to stop.
    pub cancel: CancelToken,
}

impl Default for PredictOptions {
    fn default() -> Self {
        Self {
            prob_thresh: None,
            nms_thresh: None,
            flow_threshold: None,
            cellprob_threshold: None,
            diameter: None,
            augment: false,
            postprocess: None,
            min_area: 0.0,
            tile: None,
            normalized: false,
            pixel_size: None,
            rescale: true,
            device: Device::Auto,
            precision: Precision::Auto,
            threads: None,
            memory: None,
            cancel: CancelToken::new(),
        }
    }
}
