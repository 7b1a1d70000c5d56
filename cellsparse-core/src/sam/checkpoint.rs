//! The arrays of a file of weights, taken by name, and what a file holds that has other ones.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};
use crate::formats::foreign::read_weights;

/// Where people get weights, a clause.
pub const SOURCES: &str = "weights of SAM are sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth and sam_vit_h_4b8939.pth from \
     https://github.com/facebookresearch/segment-anything#model-checkpoints, those of MobileSAM are weights/mobile_sam.pt from \
     https://github.com/ChaoningZhang/MobileSAM";

/// Prefixes that programs for training put before all names.
const PREFIXES: [&str; 3] = ["sam.", "model.", "module."];

/// Beginnings and ends of names of arrays that no mask depends on: masks as prompts, a classifier of images, constants.
const UNUSED_BEGINNINGS: [&str; 5] =
    ["prompt_encoder.mask_downscaling.", "image_encoder.norm_head.", "image_encoder.head.", "pixel_mean", "pixel_std"];
const UNUSED_ENDS: [&str; 2] = [".num_batches_tracked", ".attention_bias_idxs"];

/// Parts of names that tell weights of relatives of SAM, and what these are.
const RELATIVES: [(&str, &str); 6] = [
    ("mask_decoder.hf_token", "weights of HQ-SAM"),
    ("image_encoder.trunk.", "weights of SAM 2"),
    ("memory_attention.", "weights of SAM 2"),
    ("vision_encoder.", "weights of SAM for the package transformers"),
    ("detector.", "weights of SAM 3"),
    ("image_encoder.backbone.", "weights of EfficientViT-SAM or RepViT-SAM"),
];

/// Arrays by name, each taken once.
pub(super) struct Checkpoint {
    arrays: HashMap<String, (Vec<usize>, Vec<f32>)>,
    path: PathBuf,
    device: Device,
}

impl Checkpoint {
    /// Reads a PyTorch or a safetensors file.
    pub(super) fn read(path: &Path, device: Device) -> Result<Self> {
        let state = read_weights(path).map_err(|error| match error {
            Error::NotFound { .. } => Error::file(path, format!("no such file; {SOURCES}")),
            _ if path.is_dir() => Error::file(path, format!("is a folder; give the file of the weights; {SOURCES}")),
            error => error,
        })?;
        let first_names = state.first_names();
        let mut arrays = state.into_named_arrays();
        for prefix in PREFIXES {
            if arrays.keys().any(|name| name.starts_with(&format!("{prefix}image_encoder."))) {
                let named = |(name, array): (String, _)| Some((name.strip_prefix(prefix)?.to_string(), array));
                arrays = arrays.into_iter().filter_map(named).collect();
            }
        }
        let relative = RELATIVES.iter().find(|(part, _)| arrays.keys().any(|name| name.contains(part)));
        if let Some((_, what)) = relative {
            return Err(Error::file(path, format!("holds {what}, which are not read; {SOURCES}")));
        }
        if !arrays.keys().any(|name| name.starts_with("image_encoder.")) {
            return Err(Error::file(path, format!("holds no weights of SAM but arrays like {first_names}; {SOURCES}")));
        }
        Ok(Self { arrays, path: path.to_path_buf(), device })
    }

    /// The shape of an array, if it is there.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.arrays.get(name).map(|(shape, _)| shape.as_slice())
    }

    /// The shape of an array that must be there, with as many axes as asked for.
    pub(super) fn sizes<const AXES: usize>(&self, name: &str) -> Result<[usize; AXES]> {
        let shape = self.shape(name).ok_or_else(|| self.missing(name))?;
        shape.try_into().map_err(|_| {
            self.unfit(format!("the array '{name}' has the shape {shape:?} where {AXES} axes are expected"))
        })
    }

    /// How many of `name(0)`, `name(1)`, ... are there.
    pub(super) fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..).take_while(|&place| self.arrays.contains_key(&name(place))).count()
    }

    /// The values of an array of that shape.
    pub(super) fn values(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (found, values) = self.arrays.remove(name).ok_or_else(|| self.missing(name))?;
        if found != shape {
            return Err(self.unfit(format!("the array '{name}' has the shape {found:?} where {shape:?} is expected")));
        }
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(self.unfit(format!("the array '{name}' holds {value}; the file is damaged"))),
            None => Ok(values),
        }
    }

    /// An array of that shape on the device.
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let values = self.values(name, shape)?;
        self.placed(values, shape)
    }

    /// Values on the device.
    pub(super) fn placed(&self, values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
        Tensor::from_vec(values, shape, &self.device).map_err(super::failed)
    }

    /// Refuses arrays that nobody took: a network that has more parts gives other masks.
    pub(super) fn finish(self) -> Result<()> {
        let unused = |name: &str| {
            UNUSED_BEGINNINGS.iter().any(|begin| name.starts_with(begin))
                || UNUSED_ENDS.iter().any(|end| name.ends_with(end))
        };
        match self.arrays.keys().filter(|name| !unused(name)).min() {
            Some(name) => Err(self.unfit(format!("the array '{name}' belongs to no part of SAM"))),
            None => Ok(()),
        }
    }

    /// Weights that are not those of SAM or MobileSAM.
    pub(super) fn unfit(&self, what: String) -> Error {
        Error::Weights(format!("{}: {what}; {SOURCES}", self.path.display()))
    }

    fn missing(&self, name: &str) -> Error {
        self.unfit(format!("the array '{name}' is missing"))
    }
}
