//! The encoder of SAM: a transformer on patches, most blocks of which attend within windows (Kirillov et al. 2023, after
//! Li et al. 2022, "Exploring plain vision transformer backbones for object detection").

use candle_core::{IndexOp as _, Tensor};

use super::checkpoint::Checkpoint;
use super::layers::{Conv, Linear, Mlp, Neck, Norm, SMALL_EPSILON};
use super::operations::{Tensors, softmax_by_position};
use super::windows::Windows;
use crate::control::CancelToken;
use crate::error::Result;

/// Most scores of one attention that are held at a time; above, heads come one after another.
const SCORES_AT_A_TIME: usize = 1 << 24;

/// The sizes of an encoder, all of them told by its arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Channels of a patch within the encoder.
    pub(super) width: usize,
    pub(super) depth: usize,
    /// Pixels along a patch.
    pub(super) patch: usize,
    /// Patches along the image.
    pub(super) side: usize,
    /// Channels of the embedding.
    pub(super) out: usize,
}

#[derive(Debug)]
pub(super) struct Encoder {
    sizes: Sizes,
    patches: Conv,
    /// `[side * side, width]`.
    positions: Tensor,
    blocks: Vec<Block>,
    neck: Neck,
}

impl Encoder {
    pub(super) fn new(file: &mut Checkpoint) -> Result<Self> {
        let [width, channels, patch, patch_width] = file.sizes("image_encoder.patch_embed.proj.weight")?;
        let [one, side, side_across, _] = file.sizes("image_encoder.pos_embed")?;
        let [out, ..] = file.sizes::<4>("image_encoder.neck.0.weight")?;
        let depth = file.count(|block| format!("image_encoder.blocks.{block}.norm1.weight"));
        let plausible = (1..=64).contains(&patch) && (1..=256).contains(&side) && (1..=256).contains(&depth);
        if channels != 3 || patch != patch_width || one != 1 || side != side_across || !plausible {
            return Err(file.unfit(format!(
                "patches of {patch} x {patch_width} pixels and {channels} channels, {side} x {side_across} of them, and {depth} \
                 blocks are no encoder of SAM"
            )));
        }
        let values = file.values("image_encoder.pos_embed", &[1, side, side, width])?;
        let block = |place| Block::new(file, &format!("image_encoder.blocks.{place}"), width, side);
        let blocks = (0..depth).map(block).collect::<Result<_>>()?;
        Ok(Self {
            sizes: Sizes { width, depth, patch, side, out },
            patches: Conv::patches(file, "image_encoder.patch_embed.proj", [3, width], patch)?,
            positions: file.placed(values, &[side * side, width])?,
            blocks,
            neck: Neck::new(file, width, out, side)?,
        })
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Bytes that [`forward`](Self::forward) takes at its peak.
    pub(super) fn memory(&self) -> u64 {
        let Sizes { width, side, .. } = self.sizes;
        let pixels = (side * side) as u64;
        let scores = |block: &Block| {
            let (n, batch) = block.attention.batch(side);
            (n as u64).pow(2) * (batch.min(SCORES_AT_A_TIME / (n * n)).max(1)) as u64
        };
        // Twice the scores, and the widest maps: those within the two layers after each attention.
        4 * (2 * self.blocks.iter().map(scores).max().unwrap_or(0) + 14 * pixels * width as u64)
    }

    /// `image` is `[1, 3, size, size]`, the result `[side * side, out]`.
    pub(super) fn forward(&self, image: &Tensor, cancel: &CancelToken) -> Result<Tensor> {
        let start = || -> Tensors<Tensor> {
            let x = self.patches.forward(image)?.squeeze(0)?.flatten_from(1)?.t()?.contiguous()?;
            x + &self.positions
        };
        let mut x = start().map_err(super::failed)?;
        for block in &self.blocks {
            cancel.check()?;
            x = block.forward(&x).map_err(super::failed)?;
        }
        cancel.check()?;
        self.neck.forward(&x).map_err(super::failed)
    }
}

#[derive(Debug)]
struct Block {
    before_attention: Norm,
    attention: Attention,
    before_mlp: Norm,
    mlp: Mlp,
    windows: Windows,
}

impl Block {
    fn new(file: &mut Checkpoint, name: &str, width: usize, side: usize) -> Result<Self> {
        let attention = Attention::new(file, &format!("{name}.attn"), width)?;
        if attention.side > side {
            return Err(file.unfit(format!("windows of {} patches in an image of {side}", attention.side)));
        }
        Ok(Self {
            before_attention: Norm::new(file, &format!("{name}.norm1"), width, SMALL_EPSILON)?,
            windows: Windows { side, window: attention.side },
            attention,
            before_mlp: Norm::new(file, &format!("{name}.norm2"), width, SMALL_EPSILON)?,
            mlp: Mlp::new(file, [format!("{name}.mlp.lin1"), format!("{name}.mlp.lin2")], width)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensors<Tensor> {
        let attended = self.attention.forward(&self.windows.cut(&self.before_attention.forward(x)?)?)?;
        let x = (x + self.windows.join(&attended)?)?;
        &x + self.mlp.forward(&self.before_mlp.forward(&x)?)?
    }
}

/// Attention within squares, with relative positions along rows and columns.
#[derive(Debug)]
struct Attention {
    qkv: Linear,
    project: Linear,
    /// `[2 side - 1, head]`: what is added for each distance along rows, and along columns.
    down: Tensor,
    across: Tensor,
    heads: usize,
    head: usize,
    /// Pixels along the square; the whole image where it is as large.
    side: usize,
}

impl Attention {
    fn new(file: &mut Checkpoint, name: &str, width: usize) -> Result<Self> {
        let [distances, head] = file.sizes(&format!("{name}.rel_pos_h"))?;
        if head == 0 || !width.is_multiple_of(head) || distances % 2 == 0 {
            return Err(file.unfit(format!(
                "'{name}.rel_pos_h' has the shape [{distances}, {head}], which fits no attention of {width} channels"
            )));
        }
        Ok(Self {
            qkv: Linear::new(file, &format!("{name}.qkv"), width, 3 * width)?,
            project: Linear::new(file, &format!("{name}.proj"), width, width)?,
            down: file.tensor(&format!("{name}.rel_pos_h"), &[distances, head])?,
            across: file.tensor(&format!("{name}.rel_pos_w"), &[distances, head])?,
            heads: width / head,
            head,
            side: distances.div_ceil(2),
        })
    }

    /// Pixels of a square, and squares times heads of an image.
    fn batch(&self, side: usize) -> (usize, usize) {
        (self.side * self.side, side.div_ceil(self.side).pow(2) * self.heads)
    }

    /// `x` is `[squares, side * side, width]`, as is the result.
    fn forward(&self, x: &Tensor) -> Tensors<Tensor> {
        let (squares, n, width) = x.dims3()?;
        let qkv = self.qkv.forward(&x.reshape((squares * n, width))?)?;
        let qkv = qkv.reshape((squares, n, 3, self.heads, self.head))?.permute((2, 0, 3, 1, 4))?.contiguous()?;
        let qkv = qkv.reshape((3, squares * self.heads, n, self.head))?;
        let at_a_time = (SCORES_AT_A_TIME / (n * n)).max(1);
        let mut parts = Vec::new();
        for first in (0..squares * self.heads).step_by(at_a_time) {
            let count = at_a_time.min(squares * self.heads - first);
            let [q, k, v] = [0, 1, 2].map(|part| qkv.i(part).and_then(|part| part.narrow(0, first, count)));
            parts.push(self.attend(&q?, &k?, &v?)?);
        }
        let attended = Tensor::cat(&parts, 0)?.reshape((squares, self.heads, n, self.head))?;
        let attended = attended.transpose(1, 2)?.contiguous()?.reshape((squares * n, width))?;
        self.project.forward(&attended)?.reshape((squares, n, width))
    }

    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensors<Tensor> {
        let (batch, n, head) = q.dims3()?;
        let rows = q.contiguous()?.reshape((batch * n, head))?;
        let (down, across) = (rows.matmul(&self.down.t()?)?, rows.matmul(&self.across.t()?)?);
        let scores = (q * (head as f64).powf(-0.5))?.matmul(&k.t()?)?;
        softmax_by_position(&scores, &down, &across, self.side)?.matmul(&v.contiguous()?)
    }
}
