//! The encoder of MobileSAM: TinyViT (Wu et al. 2022), convolutions at first and then attention within windows.

use candle_core::{IndexOp as _, Tensor};

use super::checkpoint::Checkpoint;
use super::layers::{Conv, Depthwise, EPSILON, Linear, Mlp, Neck, Norm};
use super::operations::{Tensors, gelu, softmax};
use super::windows::Windows;
use crate::control::CancelToken;
use crate::error::Result;

/// Pixels along the image.
pub(super) const IMAGE: usize = 1024;
/// Pixels along the embedding.
pub(super) const SIDE: usize = 64;
/// A step between stages leaves the number of pixels as it is when it ends in one of these numbers of channels.
const KEEPING: [usize; 3] = [320, 448, 576];

#[derive(Debug)]
pub(super) struct Encoder {
    first: Conv,
    second: Conv,
    stages: Vec<Stage>,
    neck: Neck,
    out: usize,
    /// Values of the widest map.
    widest: usize,
}

#[derive(Debug)]
struct Stage {
    blocks: Vec<Block>,
    merge: Option<Merge>,
    side: usize,
}

impl Encoder {
    pub(super) fn new(file: &mut Checkpoint) -> Result<Self> {
        let [half, ..] = file.sizes::<4>("image_encoder.patch_embed.seq.0.c.weight")?;
        let [width, ..] = file.sizes::<4>("image_encoder.patch_embed.seq.2.c.weight")?;
        let [out, last, ..] = file.sizes::<4>("image_encoder.neck.0.weight")?;
        let first = Conv::halving(file, "image_encoder.patch_embed.seq.0", [3, half])?;
        let second = Conv::halving(file, "image_encoder.patch_embed.seq.2", [half, width])?;
        let (mut stages, mut width, mut side, mut widest) = (Vec::new(), width, IMAGE / 4, half * IMAGE * IMAGE / 4);
        for place in 0..4 {
            let name = format!("image_encoder.layers.{place}");
            let count = file.count(|block| {
                format!("{name}.blocks.{block}.{}", if place == 0 { "conv1.c.weight" } else { "attn.qkv.weight" })
            });
            let block = |block| {
                let name = format!("{name}.blocks.{block}");
                if place == 0 {
                    Block::convolutions(file, &name, width)
                } else {
                    Block::attention(file, &name, width, side)
                }
            };
            let blocks = (0..count).map(block).collect::<Result<_>>()?;
            let merge = (place < 3).then(|| Merge::new(file, &format!("{name}.downsample"), width)).transpose()?;
            widest = widest.max(4 * width * side * side);
            stages.push(Stage { blocks, side, merge });
            if let Some(merge) = stages.last().and_then(|stage| stage.merge.as_ref()) {
                width = merge.to;
                side = if merge.keeps { side } else { side / 2 };
            }
        }
        if side != SIDE || width != last {
            return Err(file.unfit(format!(
                "its last stage has {side} x {side} pixels of {width} channels where {SIDE} x {SIDE} of {last} are expected"
            )));
        }
        Ok(Self { first, second, stages, neck: Neck::new(file, width, out, side)?, out, widest })
    }

    /// Channels of the embedding.
    pub(super) fn out(&self) -> usize {
        self.out
    }

    /// Bytes that [`forward`](Self::forward) takes at its peak.
    pub(super) fn memory(&self) -> u64 {
        // Input and result of one layer, their sum with the shortcut, and the squares of a convolution laid out as rows.
        4 * 6 * self.widest as u64
    }

    /// `image` is `[1, 3, 1024, 1024]`, the result `[64 * 64, out]`.
    pub(super) fn forward(&self, image: &Tensor, cancel: &CancelToken) -> Result<Tensor> {
        let start = || -> Tensors<Tensor> {
            let x = self.second.forward(&gelu(&self.first.forward(image)?)?)?;
            x.squeeze(0)?.flatten_from(1)?.t()?.contiguous()
        };
        let mut x = start().map_err(super::failed)?;
        for stage in &self.stages {
            for block in &stage.blocks {
                cancel.check()?;
                x = block.forward(&x, stage.side).map_err(super::failed)?;
            }
            if let Some(merge) = &stage.merge {
                x = merge.forward(&x, stage.side).map_err(super::failed)?;
            }
        }
        cancel.check()?;
        self.neck.forward(&x).map_err(super::failed)
    }
}

/// One step of a stage; what comes in and goes out is `[side * side, width]`.
#[derive(Debug)]
enum Block {
    Convolutions { widen: Linear, spread: Depthwise, narrow: Linear },
    Attention { windows: Windows, attention: Attention, local: Depthwise, before_mlp: Norm, mlp: Mlp },
}

impl Block {
    fn convolutions(file: &mut Checkpoint, name: &str, width: usize) -> Result<Self> {
        let [hidden, ..] = file.sizes::<4>(&format!("{name}.conv1.c.weight"))?;
        Ok(Self::Convolutions {
            widen: Linear::normalised(file, &format!("{name}.conv1"), width, hidden)?,
            spread: Depthwise::new(file, &format!("{name}.conv2"), hidden, 1)?,
            narrow: Linear::normalised(file, &format!("{name}.conv3"), hidden, width)?,
        })
    }

    fn attention(file: &mut Checkpoint, name: &str, width: usize, side: usize) -> Result<Self> {
        let attention = Attention::new(file, &format!("{name}.attn"), width)?;
        Ok(Self::Attention {
            windows: Windows { side, window: attention.side },
            attention,
            local: Depthwise::new(file, &format!("{name}.local_conv"), width, 1)?,
            before_mlp: Norm::new(file, &format!("{name}.mlp.norm"), width, EPSILON)?,
            mlp: Mlp::new(file, [format!("{name}.mlp.fc1"), format!("{name}.mlp.fc2")], width)?,
        })
    }

    fn forward(&self, x: &Tensor, side: usize) -> Tensors<Tensor> {
        match self {
            Self::Convolutions { widen, spread, narrow } => {
                let wide = image(&gelu(&widen.forward(x)?)?, side)?;
                let wide = gelu(&spread.forward(&wide)?)?.flatten_to(1)?;
                gelu(&(narrow.forward(&wide)? + x)?)
            }
            Self::Attention { windows, attention, local, before_mlp, mlp } => {
                // The zeros beyond the image are there before the normalisation, and take part in the attention.
                let x = (x + windows.join(&attention.forward(&windows.cut(x)?)?)?)?;
                let x = local.forward(&image(&x, side)?)?.flatten_to(1)?;
                &x + mlp.forward(&before_mlp.forward(&x)?)?
            }
        }
    }
}

/// `[side * side, c]` as `[side, side, c]`.
fn image(x: &Tensor, side: usize) -> Tensors<Tensor> {
    x.reshape((side, side, ()))
}

/// Attention within windows, with a number for each distance between two pixels.
#[derive(Debug)]
struct Attention {
    before: Norm,
    qkv: Linear,
    project: Linear,
    /// `[heads, n, n]`.
    distances: Tensor,
    heads: usize,
    head: usize,
    side: usize,
}

impl Attention {
    fn new(file: &mut Checkpoint, name: &str, width: usize) -> Result<Self> {
        let [heads, offsets] = file.sizes(&format!("{name}.attention_biases"))?;
        let side = offsets.isqrt();
        if heads == 0 || side * side != offsets || side > SIDE || !width.is_multiple_of(heads) {
            return Err(file.unfit(format!(
                "'{name}.attention_biases' has the shape [{heads}, {offsets}], which fits no attention of {width} channels"
            )));
        }
        let biases = file.values(&format!("{name}.attention_biases"), &[heads, offsets])?;
        let n = side * side;
        let mut distances = Vec::with_capacity(heads * n * n);
        for biases in biases.chunks_exact(offsets) {
            for (q, k) in (0..n).flat_map(|q| (0..n).map(move |k| (q, k))) {
                let [down, across] = [(q / side).abs_diff(k / side), (q % side).abs_diff(k % side)];
                distances.push(biases[down * side + across]);
            }
        }
        Ok(Self {
            before: Norm::new(file, &format!("{name}.norm"), width, EPSILON)?,
            qkv: Linear::new(file, &format!("{name}.qkv"), width, 3 * width)?,
            project: Linear::new(file, &format!("{name}.proj"), width, width)?,
            distances: file.placed(distances, &[heads, n, n])?,
            heads,
            head: width / heads,
            side,
        })
    }

    /// `x` is `[windows, n, width]`, as is the result.
    fn forward(&self, x: &Tensor) -> Tensors<Tensor> {
        let (windows, n, width) = x.dims3()?;
        let qkv = self.qkv.forward(&self.before.forward(&x.reshape((windows * n, width))?)?)?;
        let qkv = qkv.reshape((windows, n, self.heads, 3, self.head))?.permute((3, 0, 2, 1, 4))?.contiguous()?;
        let (q, k, v) = (qkv.i(0)?, qkv.i(1)?, qkv.i(2)?);
        let scores = (q.matmul(&k.t()?)? * (self.head as f64).powf(-0.5))?;
        let attended = softmax(&scores.broadcast_add(&self.distances)?)?.matmul(&v)?;
        let attended = attended.transpose(1, 2)?.contiguous()?.reshape((windows * n, width))?;
        self.project.forward(&attended)?.reshape((windows, n, width))
    }
}

/// The step to the next stage.
#[derive(Debug)]
struct Merge {
    widen: Linear,
    spread: Depthwise,
    mix: Linear,
    to: usize,
    /// Whether the number of pixels stays.
    keeps: bool,
}

impl Merge {
    fn new(file: &mut Checkpoint, name: &str, from: usize) -> Result<Self> {
        let [to, ..] = file.sizes::<4>(&format!("{name}.conv1.c.weight"))?;
        let keeps = KEEPING.contains(&to);
        Ok(Self {
            widen: Linear::normalised(file, &format!("{name}.conv1"), from, to)?,
            spread: Depthwise::new(file, &format!("{name}.conv2"), to, if keeps { 1 } else { 2 })?,
            mix: Linear::normalised(file, &format!("{name}.conv3"), to, to)?,
            to,
            keeps,
        })
    }

    fn forward(&self, x: &Tensor, side: usize) -> Tensors<Tensor> {
        let x = image(&gelu(&self.widen.forward(x)?)?, side)?;
        self.mix.forward(&gelu(&self.spread.forward(&x)?)?.flatten_to(1)?)
    }
}
