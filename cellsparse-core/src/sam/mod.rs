//! Click to outline: masks from points and boxes by the Segment Anything Model (SAM; Kirillov et al. 2023,
//! <https://arxiv.org/abs/2304.02643>) and MobileSAM (Zhang et al. 2023, <https://arxiv.org/abs/2306.14289>), on Candle.
//!
//! The weights are a file that the user has: this library holds none and downloads none. An image is encoded once, which
//! takes seconds; masks for points and boxes then take a fraction of one. An [`Outliner`] keeps what was encoded, and gives objects
//! of images of any size.
//!
//! ```no_run
//! use cellsparse_core::raster::Image;
//! use cellsparse_core::sam::{EncodeOptions, Outputs, Prompt, Sam};
//!
//! # fn main() -> cellsparse_core::Result<()> {
//! # let image = Image::from_gray(ndarray::Array2::zeros((64, 64)));
//! let sam = Sam::load("mobile_sam.pt", cellsparse_core::Device::Auto)?;
//! let embedding = sam.encode(&image, &EncodeOptions::default())?;
//! let masks = sam.masks(&embedding, &[Prompt::point(30.0, 20.0)], Outputs::Best)?;
//! println!("score {}, {} pixels", masks[0].score, masks[0].pixels()?.iter().filter(|inside| **inside).count());
//! # Ok(())
//! # }
//! ```

mod checkpoint;
mod decoder;
mod layers;
mod operations;
mod outliner;
mod picture;
mod prompt;
mod tiny_vit;
mod vit;
mod windows;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use ndarray::{Array2, Axis, s};

use self::checkpoint::Checkpoint;
pub use self::checkpoint::SOURCES;
use self::decoder::{Decoder, MASKS};
pub use self::outliner::{Outline, Outliner};
use self::prompt::PromptEncoder;
pub use self::prompt::{Point, Prompt};
use crate::budget::{Budget, bytes_of};
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::model::Device;
use crate::raster::{Image, resize_bilinear};

/// Which network weights are for, told by their names and shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// SAM with the smallest encoder, 94 million weights.
    VitB,
    /// SAM with the middle encoder, 312 million weights.
    VitL,
    /// SAM with the largest encoder, 641 million weights.
    VitH,
    /// MobileSAM, 10 million weights.
    VitT,
    /// SAM with an encoder of other sizes.
    Other,
}

impl fmt::Display for Kind {
    /// `vit_b`, `vit_l`, `vit_h`, `vit_t`, `other`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::VitB => "vit_b",
            Self::VitL => "vit_l",
            Self::VitH => "vit_h",
            Self::VitT => "vit_t",
            Self::Other => "other",
        })
    }
}

/// How an image is encoded.
#[derive(Debug, Clone, Default)]
pub struct EncodeOptions {
    /// Memory that the call may take; half of what is free when `None`.
    pub memory: Option<Budget>,
    /// Raised to stop between two layers.
    pub cancel: CancelToken,
}

/// Which masks are wanted for a prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outputs {
    /// One: for a single point, which may mean a part, a whole or several objects, the one of three with the best score; for
    /// other prompts as [`Single`](Self::Single).
    #[default]
    Best,
    /// The one that the network has for prompts that are not ambiguous.
    Single,
    /// The three for ambiguous prompts, in the order of the network.
    Three,
}

/// A network with its weights on a device. Cheap to share between threads; nothing in it changes.
#[derive(Debug)]
pub struct Sam {
    encoder: Encoder,
    prompts: PromptEncoder,
    decoder: Decoder,
    device: candle_core::Device,
    /// Told apart from others by its address, so that no embedding is given to other weights.
    identity: Arc<()>,
}

#[derive(Debug)]
enum Encoder {
    Vit(vit::Encoder),
    Tiny(tiny_vit::Encoder),
}

/// What the network saw in an image.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// `[side * side, width]`.
    values: Tensor,
    /// Rows and columns of the image, and of it as the encoder saw it.
    image: [usize; 2],
    fitted: [usize; 2],
    identity: Arc<()>,
}

/// A mask of one object.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    /// Place of the prompt that it is for.
    pub object: usize,
    /// How well the network believes the mask to fit: the estimated overlap (IoU) with the object.
    pub score: f32,
    /// The logits of the network, `[256, 256]` (4 times the side of its embedding), for the image with its longer side at that
    /// size and zeros below or to the right; above 0 is inside.
    pub low: Array2<f32>,
    image: [usize; 2],
    fitted: [usize; 2],
    /// Pixels along the image that the encoder saw.
    size: usize,
}

impl Sam {
    /// Reads weights: those of SAM or MobileSAM as they are handed out (`.pth`, `.pt`), or the same arrays in a safetensors file.
    /// Which network they are for is told by their names and shapes.
    ///
    /// Files of tools that train SAM further for microscopy are read where they hold the same arrays.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is absent, damaged or of another network, [`Error::Weights`] for arrays that do not fit
    /// together, [`Error::Limit`] above 4 GiB, [`Error::Device`]. They say where weights come from.
    pub fn load(path: impl AsRef<Path>, device: Device) -> Result<Self> {
        let device = crate::model::open_device(device)?.candle();
        let mut file = Checkpoint::read(path.as_ref(), device.clone())?;
        let encoder = if file.shape("image_encoder.patch_embed.proj.weight").is_some() {
            Encoder::Vit(vit::Encoder::new(&mut file)?)
        } else {
            Encoder::Tiny(tiny_vit::Encoder::new(&mut file)?)
        };
        let [width, side, size] = [encoder.width(), encoder.side(), encoder.size()];
        let prompts = PromptEncoder::new(&mut file, width, side, size)?;
        let decoder = Decoder::new(&mut file, width, side)?;
        file.finish()?;
        Ok(Self { encoder, prompts, decoder, device, identity: Arc::new(()) })
    }

    /// Which network it is.
    pub fn kind(&self) -> Kind {
        match &self.encoder {
            Encoder::Tiny(_) => Kind::VitT,
            Encoder::Vit(encoder) => match (encoder.sizes().width, encoder.sizes().depth) {
                (768, 12) => Kind::VitB,
                (1024, 24) => Kind::VitL,
                (1280, 32) => Kind::VitH,
                _ => Kind::Other,
            },
        }
    }

    /// Pixels along what the network sees of an image: 1024 but for networks of other sizes.
    pub fn size(&self) -> usize {
        self.encoder.size()
    }

    /// Looks at an image: 1 to 3 channels, of two the third colour is black. Samples of 8 bit are taken as they are; of others
    /// the percentiles 0.1 and 99.9 of each channel become 0 and 255. The result is a few megabytes, whatever the image.
    ///
    /// # Errors
    /// [`Error::Image`] for an image that cannot be used, [`Error::Limit`] when it would take more memory than allowed,
    /// [`Error::Cancelled`], [`Error::Device`].
    pub fn encode(&self, image: &Image, options: &EncodeOptions) -> Result<Embedding> {
        options.cancel.check()?;
        let (rows, columns, channels) = image.shape();
        let size = self.encoder.size();
        let budget = options.memory.unwrap_or_else(Budget::of_free_memory);
        // The image as 8-bit colours and before that as floats, at the size of the network, and what the encoder makes of it.
        let of_image = bytes_of(&[rows, columns], 6 + 4 * channels as u64).saturating_add(bytes_of(&[size, size], 30));
        budget.require(
            of_image.saturating_add(self.encoder.memory()),
            format_args!("encoding an image of {columns} x {rows} pixels with {}", self.kind()),
            "give more memory, cut the image or take MobileSAM",
        )?;
        let pixels = picture::prepare(image, size)?;
        let pixels = Tensor::from_vec(pixels, (1, 3, size, size), &self.device).map_err(failed)?;
        let values = self.encoder.forward(&pixels, &options.cancel)?;
        let fitted = picture::fitted([rows, columns], size);
        Ok(Embedding { values, image: [rows, columns], fitted, identity: Arc::clone(&self.identity) })
    }

    /// The masks of objects, one or three for each prompt, in the order of the prompts.
    ///
    /// # Errors
    /// [`Error::Config`] for a prompt that says nothing or lies outside the image, or an embedding of another network;
    /// [`Error::Limit`], [`Error::Weights`] when the weights lead to numbers that are not finite, [`Error::Device`].
    pub fn masks(&self, embedding: &Embedding, prompts: &[Prompt], outputs: Outputs) -> Result<Vec<Mask>> {
        if !Arc::ptr_eq(&self.identity, &embedding.identity) {
            return Err(Error::Config("the embedding is that of other weights; encode the image with these".into()));
        }
        let budget = Budget::of_free_memory();
        let mut masks = Vec::new();
        for (object, prompt) in prompts.iter().enumerate() {
            prompt.check(embedding.image).map_err(|error| match prompts.len() {
                1 => error,
                _ => error.map_message(|message| format!("object {object}: {message}")),
            })?;
            let [scale_y, scale_x] = [0, 1].map(|axis| embedding.fitted[axis] as f64 / embedding.image[axis] as f64);
            let (tokens, count) = self.prompts.tokens(prompt, [scale_x, scale_y]);
            budget.require(self.decoder.memory(count), "a mask", "give fewer points")?;
            let (scores, logits) = self.decode(embedding, tokens, count).map_err(failed)?;
            if !scores.iter().chain(&logits).all(|value| value.is_finite()) {
                return Err(Error::Weights("a mask has values that are not finite; the weights are damaged".into()));
            }
            for place in chosen(prompt, outputs, &scores) {
                masks.push(self.mask(embedding, object, scores[place], &logits, place)?);
            }
        }
        Ok(masks)
    }

    /// All scores and logits for a prompt.
    fn decode(
        &self,
        embedding: &Embedding,
        tokens: Vec<f32>,
        count: usize,
    ) -> operations::Tensors<(Vec<f32>, Vec<f32>)> {
        let tokens = Tensor::from_vec(tokens, (count, self.encoder.width()), &self.device)?;
        let [scores, logits] = self.decoder.forward(&embedding.values, &self.prompts, &tokens)?;
        Ok((scores.to_vec1()?, logits.flatten_all()?.to_vec1()?))
    }

    fn mask(&self, embedding: &Embedding, object: usize, score: f32, logits: &[f32], place: usize) -> Result<Mask> {
        let side = 4 * self.encoder.side();
        let own = logits.chunks_exact(side * side).nth(place).map(<[f32]>::to_vec).unwrap_or_default();
        let low = Array2::from_shape_vec((side, side), own).map_err(|error| Error::Internal(error.to_string()))?;
        let Embedding { image, fitted, .. } = *embedding;
        Ok(Mask { object, score, low, image, fitted, size: self.encoder.size() })
    }
}

/// Places of the wanted masks among those of the network.
fn chosen(prompt: &Prompt, outputs: Outputs, scores: &[f32]) -> Vec<usize> {
    match outputs {
        Outputs::Three => (1..MASKS).collect(),
        Outputs::Best if prompt.is_ambiguous() => {
            let best = (1..MASKS).reduce(|best, place| if scores[place] > scores[best] { place } else { best });
            best.into_iter().collect()
        }
        _ => vec![0],
    }
}

impl Embedding {
    /// Rows and columns of the image.
    pub fn image_size(&self) -> [usize; 2] {
        self.image
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        bytes_of(self.values.dims(), 4)
    }
}

impl Mask {
    /// The logits at the pixels of the image, `[H, W]`; above 0 is inside.
    ///
    /// # Errors
    /// [`Error::Limit`] when they do not fit into memory.
    pub fn logits(&self) -> Result<Array2<f32>> {
        let large = resize_bilinear(self.low.view().insert_axis(Axis(2)), self.size, self.size)?;
        let seen = large.slice(s![..self.fitted[0], ..self.fitted[1], ..]);
        Ok(resize_bilinear(seen, self.image[0], self.image[1])?.remove_axis(Axis(2)))
    }

    /// Which pixels of the image are inside, `[H, W]`.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn pixels(&self) -> Result<Array2<bool>> {
        Ok(self.logits()?.mapv(|value| value > 0.0))
    }
}

impl Encoder {
    /// Channels of the embedding.
    fn width(&self) -> usize {
        match self {
            Self::Vit(encoder) => encoder.sizes().out,
            Self::Tiny(encoder) => encoder.out(),
        }
    }

    /// Pixels along the embedding.
    fn side(&self) -> usize {
        match self {
            Self::Vit(encoder) => encoder.sizes().side,
            Self::Tiny(_) => tiny_vit::SIDE,
        }
    }

    /// Pixels along the image.
    fn size(&self) -> usize {
        match self {
            Self::Vit(encoder) => encoder.sizes().side * encoder.sizes().patch,
            Self::Tiny(_) => tiny_vit::IMAGE,
        }
    }

    fn memory(&self) -> u64 {
        match self {
            Self::Vit(encoder) => encoder.memory(),
            Self::Tiny(encoder) => encoder.memory(),
        }
    }

    fn forward(&self, image: &Tensor, cancel: &CancelToken) -> Result<Tensor> {
        match self {
            Self::Vit(encoder) => encoder.forward(image, cancel),
            Self::Tiny(encoder) => encoder.forward(image, cancel),
        }
    }
}

/// A failure of Candle: of the device, or of the memory.
fn failed(error: candle_core::Error) -> Error {
    Error::Device(error.to_string())
}
