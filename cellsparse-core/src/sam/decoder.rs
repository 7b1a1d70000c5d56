//! From an embedding and the tokens of a prompt to masks: tokens and pixels attend to each other twice.

use candle_core::{IndexOp as _, Tensor};

use super::checkpoint::Checkpoint;
use super::layers::{EPSILON, Linear, Norm, SMALL_EPSILON};
use super::operations::{Tensors, gelu, softmax};
use super::prompt::PromptEncoder;
use crate::error::Result;

/// Parts that attention of the decoder is shared among; no array tells it.
const HEADS: usize = 8;
/// Masks that the network gives: one for plain prompts, three for ambiguous ones.
pub(super) const MASKS: usize = 4;

#[derive(Debug)]
pub(super) struct Decoder {
    /// Of the score and of the masks, `[1 + MASKS, width]`.
    outputs: Tensor,
    layers: Vec<Layer>,
    last_attention: Attention,
    last_norm: Norm,
    enlarge: [Enlarge; 2],
    between: Norm,
    /// From the token of a mask to the weights of its pixels.
    of_masks: Vec<Perceptron>,
    of_scores: Perceptron,
    width: usize,
    side: usize,
}

impl Decoder {
    pub(super) fn new(file: &mut Checkpoint, width: usize, side: usize) -> Result<Self> {
        let mut outputs = file.values("mask_decoder.iou_token.weight", &[1, width])?;
        outputs.extend(file.values("mask_decoder.mask_tokens.weight", &[MASKS, width])?);
        let depth = file.count(|layer| format!("mask_decoder.transformer.layers.{layer}.norm1.weight"));
        let layer = |place| Layer::new(file, place, width);
        let layers: Vec<Layer> = (0..depth).map(layer).collect::<Result<_>>()?;
        let (quarter, eighth) = (width / 4, width / 8);
        let name = "mask_decoder.transformer.final_attn_token_to_image";
        let of_mask = |file: &mut Checkpoint, place| {
            Perceptron::new(file, &format!("mask_decoder.output_hypernetworks_mlps.{place}"), width, eighth)
        };
        Ok(Self {
            outputs: file.placed(outputs, &[1 + MASKS, width])?,
            layers,
            last_attention: Attention::new(file, name, width)?,
            last_norm: Norm::new(file, "mask_decoder.transformer.norm_final_attn", width, EPSILON)?,
            enlarge: [
                Enlarge::new(file, "mask_decoder.output_upscaling.0", width, quarter)?,
                Enlarge::new(file, "mask_decoder.output_upscaling.3", quarter, eighth)?,
            ],
            between: Norm::new(file, "mask_decoder.output_upscaling.1", quarter, SMALL_EPSILON)?,
            of_masks: (0..MASKS).map(|place| of_mask(file, place)).collect::<Result<_>>()?,
            of_scores: Perceptron::new(file, "mask_decoder.iou_prediction_head", width, MASKS)?,
            width,
            side,
        })
    }

    /// Bytes that [`forward`](Self::forward) takes at its peak with that many tokens.
    pub(super) fn memory(&self, tokens: usize) -> u64 {
        let pixels = (self.side * self.side) as u64;
        4 * pixels * (8 * self.width + 4 * HEADS * (tokens + 1 + MASKS) + 16 * MASKS) as u64
    }

    /// Scores of the masks and their logits, `[MASKS]` and `[MASKS, (4 side)^2]`, of an embedding `[side * side, width]` and
    /// tokens `[tokens, width]`.
    pub(super) fn forward(&self, embedding: &Tensor, prompts: &PromptEncoder, tokens: &Tensor) -> Tensors<[Tensor; 2]> {
        let asked = Tensor::cat(&[&self.outputs, tokens], 0)?;
        let (mut tokens, mut pixels) = (asked.clone(), embedding.broadcast_add(&prompts.no_mask)?);
        let positions = &prompts.positions;
        for (place, layer) in self.layers.iter().enumerate() {
            (tokens, pixels) = layer.forward(&tokens, &pixels, &asked, positions, place == 0)?;
        }
        let attended = self.last_attention.forward(&(&tokens + &asked)?, &(&pixels + positions)?, &pixels)?;
        let tokens = self.last_norm.forward(&(tokens + attended)?)?;

        let [first, second] = &self.enlarge;
        let pixels = gelu(&self.between.forward(&first.forward(&pixels, self.side)?)?)?;
        let pixels = gelu(&second.forward(&pixels, 2 * self.side)?)?;
        let weights = |(place, network): (usize, &Perceptron)| network.forward(&tokens.narrow(0, 1 + place, 1)?);
        let weights = self.of_masks.iter().enumerate().map(weights).collect::<Tensors<Vec<_>>>()?;
        let masks = Tensor::cat(&weights, 0)?.matmul(&pixels.t()?)?;
        let scores = self.of_scores.forward(&tokens.narrow(0, 0, 1)?)?.i(0)?;
        Ok([scores, masks])
    }
}

#[derive(Debug)]
struct Layer {
    of_tokens: Attention,
    to_image: Attention,
    to_tokens: Attention,
    mlp: [Linear; 2],
    norms: [Norm; 4],
}

impl Layer {
    fn new(file: &mut Checkpoint, place: usize, width: usize) -> Result<Self> {
        let name = format!("mask_decoder.transformer.layers.{place}");
        let [hidden, _] = file.sizes(&format!("{name}.mlp.lin1.weight"))?;
        let mut norm = |place| Norm::new(file, &format!("{name}.norm{place}"), width, EPSILON);
        let norms = [norm(1)?, norm(2)?, norm(3)?, norm(4)?];
        Ok(Self {
            of_tokens: Attention::new(file, &format!("{name}.self_attn"), width)?,
            to_image: Attention::new(file, &format!("{name}.cross_attn_token_to_image"), width)?,
            to_tokens: Attention::new(file, &format!("{name}.cross_attn_image_to_token"), width)?,
            mlp: [
                Linear::new(file, &format!("{name}.mlp.lin1"), width, hidden)?,
                Linear::new(file, &format!("{name}.mlp.lin2"), hidden, width)?,
            ],
            norms,
        })
    }

    /// Tokens and pixels after the layer. `asked` are the tokens as they came in, `positions` those of the pixels; the first
    /// layer begins without adding the former, which are the tokens.
    fn forward(
        &self,
        tokens: &Tensor,
        pixels: &Tensor,
        asked: &Tensor,
        positions: &Tensor,
        is_first: bool,
    ) -> Tensors<(Tensor, Tensor)> {
        let [norm1, norm2, norm3, norm4] = &self.norms;
        let tokens = if is_first {
            self.of_tokens.forward(tokens, tokens, tokens)?
        } else {
            let placed = (tokens + asked)?;
            (tokens + self.of_tokens.forward(&placed, &placed, tokens)?)?
        };
        let tokens = norm1.forward(&tokens)?;
        let placed_pixels = (pixels + positions)?;
        let attended = self.to_image.forward(&(&tokens + asked)?, &placed_pixels, pixels)?;
        let tokens = norm2.forward(&(tokens + attended)?)?;
        let [first, second] = &self.mlp;
        let tokens = norm3.forward(&(&tokens + second.forward(&first.forward(&tokens)?.relu()?)?)?)?;
        let attended = self.to_tokens.forward(&placed_pixels, &(&tokens + asked)?, &tokens)?;
        let pixels = norm4.forward(&(pixels + attended)?)?;
        Ok((tokens, pixels))
    }
}

/// Attention of rows to other rows, in as many channels as the file says.
#[derive(Debug)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    head: usize,
}

impl Attention {
    fn new(file: &mut Checkpoint, name: &str, width: usize) -> Result<Self> {
        let [inner, _] = file.sizes(&format!("{name}.q_proj.weight"))?;
        if inner == 0 || inner % HEADS != 0 {
            return Err(file.unfit(format!("'{name}' has {inner} channels, which {HEADS} heads cannot share")));
        }
        let mut into = |part: &str| Linear::new(file, &format!("{name}.{part}_proj"), width, inner);
        let (q, k, v) = (into("q")?, into("k")?, into("v")?);
        Ok(Self { q, k, v, out: Linear::new(file, &format!("{name}.out_proj"), inner, width)?, head: inner / HEADS })
    }

    fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensors<Tensor> {
        let heads = |x: Tensor| x.reshape(((), HEADS, self.head))?.transpose(0, 1)?.contiguous();
        let [q, k, v] = [self.q.forward(q)?, self.k.forward(k)?, self.v.forward(v)?].map(heads);
        let scores = (q?.matmul(&k?.t()?)? / (self.head as f64).sqrt())?;
        let attended = softmax(&scores)?.matmul(&v?)?;
        self.out.forward(&attended.transpose(0, 1)?.contiguous()?.reshape(((), HEADS * self.head))?)
    }
}

/// A transposed convolution that makes 2 x 2 pixels of each.
#[derive(Debug)]
struct Enlarge {
    /// `[from, 4 to]`: for each row and column of the new pixels their channels.
    weight: Tensor,
    bias: Tensor,
    to: usize,
}

impl Enlarge {
    fn new(file: &mut Checkpoint, name: &str, from: usize, to: usize) -> Result<Self> {
        let kernel = file.values(&format!("{name}.weight"), &[from, to, 2, 2])?;
        let turned = (0..from * 4 * to).map(|i| {
            let (input, place, output) = (i / (4 * to), i / to % 4, i % to);
            kernel[(input * to + output) * 4 + place]
        });
        let weight = file.placed(turned.collect(), &[from, 4 * to])?;
        Ok(Self { weight, bias: file.tensor(&format!("{name}.bias"), &[to])?, to })
    }

    /// `x` is `[side * side, from]`, the result `[(2 side)^2, to]`.
    fn forward(&self, x: &Tensor, side: usize) -> Tensors<Tensor> {
        let x = x.matmul(&self.weight)?.reshape(&[side, side, 2, 2, self.to][..])?.transpose(1, 2)?.contiguous()?;
        x.reshape((4 * side * side, self.to))?.broadcast_add(&self.bias)
    }
}

/// Linear layers with the negative values cut off between them.
#[derive(Debug)]
struct Perceptron(Vec<Linear>);

impl Perceptron {
    fn new(file: &mut Checkpoint, name: &str, from: usize, to: usize) -> Result<Self> {
        let depth = file.count(|layer| format!("{name}.layers.{layer}.weight"));
        let mut width = from;
        let mut layers = Vec::new();
        for place in 0..depth.max(1) {
            let name = format!("{name}.layers.{place}");
            let [next, _] = file.sizes(&format!("{name}.weight"))?;
            let next = if place + 1 >= depth { to } else { next };
            layers.push(Linear::new(file, &name, width, next)?);
            width = next;
        }
        Ok(Self(layers))
    }

    fn forward(&self, x: &Tensor) -> Tensors<Tensor> {
        let mut x = x.clone();
        for (place, layer) in self.0.iter().enumerate() {
            x = layer.forward(&x)?;
            if place + 1 < self.0.len() {
                x = x.relu()?;
            }
        }
        Ok(x)
    }
}
