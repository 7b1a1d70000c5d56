//! Models from programs of TensorFlow that compute a network of StarDist.

use super::facade::Model;
use super::foreign_stardist::furnish;
use crate::error::{Error, Result};
use crate::formats::tensorflow::{Array, Layer, LayerId, TensorFlowModel};
use crate::formats::tensors::NamedArrays;
use crate::networks::{Activation, Graph, NodeId, Op, StarDistConfig};

/// The epsilon of the package's batch normalisation, and how far one may be from it.
const EPSILON: f32 = 1e-3;
const NEAR: f32 = 1e-6;

impl Model {
    /// The model whose network a program of TensorFlow computes, and what a person should know of it: a U-Net of the StarDist package
    /// with its heads, side by side in one output or apart, on the grid or brought back to the size of the image as
    /// `export_TF` of the package does.
    ///
    /// The configuration is deduced from the layers; then every layer is compared with the network of that configuration. Images are
    /// scaled as [`from_stardist`](Self::from_stardist) says.
    ///
    /// # Errors
    /// [`Error::Config`] for another network, with what differs; [`Error::Weights`] for arrays of other shapes.
    pub fn from_tensorflow(found: TensorFlowModel) -> Result<(Self, Vec<String>)> {
        let TensorFlowModel { mut layers, outputs, thresholds, percentiles, facts, mut notes } = found;
        let heads = Heads::of(&layers, &outputs)?;
        let config = heads.config(&layers)?;
        config.check()?;
        heads.check_sizes(config.grid)?;
        let graph = config.graph();
        let arrays =
            Match { graph: &graph, layers: &mut layers, known: vec![None; graph.nodes().len()] }.arrays(&heads)?;
        let mut model = Self::with_weights(config, arrays)?;
        if thresholds.is_none() && facts.is_none() {
            notes.push("the program has no thresholds; probability 0.5 and overlap 0.4 are taken".to_string());
        }
        furnish(&mut model, thresholds, percentiles, facts, &mut notes)?;
        Ok((model, notes))
    }
}

fn differs(reason: impl std::fmt::Display) -> Error {
    Error::Config(format!("a program of TensorFlow that is no network of StarDist: {reason}"))
}

/// What a layer is called in messages.
fn kind(layer: &Layer) -> &'static str {
    match layer {
        Layer::Input => "the image",
        Layer::Conv { .. } => "a convolution without bias",
        Layer::Bias { .. } => "a convolution without activation",
        Layer::Scale { .. } => "a scaling of channels",
        Layer::BatchNorm { .. } => "a batch normalisation without activation",
        Layer::Relu { .. } => "a ReLU",
        Layer::Sigmoid { .. } => "a sigmoid",
        Layer::Softmax { .. } => "a softmax",
        Layer::MaxPool { .. } => "a maximum pooling",
        Layer::Upsample { .. } => "an upsampling",
        Layer::Spread { .. } => "a transposed convolution",
        Layer::Concat { .. } => "a concatenation",
    }
}

/// What comes out of a network: the layers before the last functions, and how much each was enlarged.
struct Heads {
    prob: LayerId,
    dist: LayerId,
    classes: Option<LayerId>,
    enlarged: Vec<[usize; 2]>,
}

impl Heads {
    fn of(layers: &[Layer], outputs: &[LayerId]) -> Result<Self> {
        let (mut prob, mut dist, mut classes, mut enlarged) = (None, None, None, Vec::new());
        let parts = outputs.iter().flat_map(|id| match &layers[*id] {
            Layer::Concat { inputs } => inputs.clone(),
            _ => vec![*id],
        });
        for id in parts {
            let (id, by) = match layers[id] {
                Layer::Upsample { input, by } | Layer::Spread { input, by } => (input, by),
                _ => (id, [1, 1]),
            };
            enlarged.push(by);
            let (place, head) = match layers[id] {
                Layer::Sigmoid { input } => (&mut prob, input),
                Layer::Softmax { input } => (&mut classes, input),
                Layer::Bias { .. } => (&mut dist, id),
                ref other => return Err(differs(format!("an output is {}", kind(other)))),
            };
            if place.replace(head).is_some() {
                return Err(differs("it has two outputs of one kind"));
            }
        }
        let (Some(prob), Some(dist)) = (prob, dist) else {
            return Err(differs("it has not both an output of probabilities (sigmoid) and one of distances (linear)"));
        };
        Ok(Self { prob, dist, classes, enlarged })
    }

    /// The configuration of a network of StarDist, if it is one.
    fn config(&self, layers: &[Layer]) -> Result<StarDistConfig> {
        let outputs = |head: LayerId| Ok::<usize, Error>(kernel_of(layers, head)?[3]);
        // Convolutions with their shapes, poolings and upsamplings on the way of most layers from the image to the probability.
        let mut way = Vec::new();
        let mut batch_norm = false;
        let mut id = self.prob;
        loop {
            id = match &layers[id] {
                Layer::Input => break,
                Layer::Conv { input, kernel } => {
                    way.push(Step::Conv(kernel_shape(kernel)?));
                    *input
                }
                Layer::MaxPool { input, by } => {
                    way.push(Step::Pool(*by));
                    *input
                }
                Layer::Upsample { input, .. } => {
                    way.push(Step::Up);
                    *input
                }
                // One that is written as multiplication and addition has no statistics of its own.
                Layer::BatchNorm { input, .. } | Layer::Scale { input, .. } => {
                    batch_norm = true;
                    *input
                }
                Layer::Bias { input, .. } | Layer::Relu { input } => *input,
                Layer::Concat { inputs } => {
                    let up = inputs.iter().find(|input| matches!(layers[**input], Layer::Upsample { .. }));
                    *up.ok_or_else(|| differs("it concatenates maps of which none was upsampled"))?
                }
                other => return Err(differs(format!("it has {} within", kind(other)))),
            };
        }
        way.reverse();
        let ups = way.iter().filter(|step| matches!(step, Step::Up)).count();
        let pools: Vec<[usize; 2]> = way.iter().filter_map(|step| step.pool()).collect();
        let convs = |steps: &[Step]| steps.iter().filter_map(Step::conv).collect::<Vec<[usize; 4]>>();
        let first_up = way.iter().position(|step| matches!(step, Step::Up));
        let last_pool = way.iter().rposition(|step| matches!(step, Step::Pool(_)));
        let last_up = way.iter().rposition(|step| matches!(step, Step::Up));
        let (Some(first_up), Some(last_pool), Some(last_up)) = (first_up, last_pool, last_up) else {
            return Err(differs("it has no pooling or no upsampling, and is no U-Net"));
        };
        if pools.len() < ups || last_pool > first_up {
            return Err(differs("it upsamples more than it pools, or before"));
        }
        let grid = pools[..pools.len() - ups]
            .iter()
            .fold([1_usize; 2], |grid, by| [grid[0].saturating_mul(by[0]), grid[1].saturating_mul(by[1])]);
        let n_conv_per_depth = convs(&way[last_pool..first_up]).len();
        // The last one is that of the head.
        let after = convs(&way[last_up..]);
        let features = match after.len().checked_sub(n_conv_per_depth + 1) {
            Some(0) => 0,
            Some(1) => after[n_conv_per_depth][3],
            _ => return Err(differs(format!("it has {} convolutions after its last upsampling", after.len()))),
        };
        let first = convs(&way).first().copied().unwrap_or_default();
        let classes = self.classes.map(outputs).transpose()?;
        Ok(StarDistConfig {
            n_channels: first[2],
            n_rays: outputs(self.dist)?,
            grid,
            n_filter_base: first[3],
            n_depth: ups,
            n_conv_per_depth,
            net_conv_after_unet: features,
            batch_norm,
            n_classes: classes.map(|classes| classes.saturating_sub(1)),
        })
    }

    /// Refuses maps that were brought to another size than that of the image.
    fn check_sizes(&self, grid: [usize; 2]) -> Result<()> {
        match self.enlarged.iter().find(|by| **by != [1, 1] && **by != grid) {
            Some(by) => Err(differs(format!("an output is enlarged by {by:?} on a grid of {grid:?}"))),
            None => Ok(()),
        }
    }
}

/// A step on the way from the image to an output.
enum Step {
    Conv([usize; 4]),
    Pool([usize; 2]),
    Up,
}

impl Step {
    fn conv(&self) -> Option<[usize; 4]> {
        if let Self::Conv(shape) = self { Some(*shape) } else { None }
    }

    fn pool(&self) -> Option<[usize; 2]> {
        if let Self::Pool(by) = self { Some(*by) } else { None }
    }
}

fn kernel_shape((shape, _): &Array) -> Result<[usize; 4]> {
    shape.as_slice().try_into().map_err(|_| differs(format!("a kernel has the shape {shape:?}")))
}

/// The shape of the kernel of a convolution with bias.
fn kernel_of(layers: &[Layer], id: LayerId) -> Result<[usize; 4]> {
    let Layer::Bias { input, .. } = &layers[id] else {
        return Err(differs(format!("{} where a convolution with bias stands before an output", kind(&layers[id]))));
    };
    let Layer::Conv { kernel, .. } = &layers[*input] else {
        return Err(differs(format!("{} where a convolution stands before an output", kind(&layers[*input]))));
    };
    kernel_shape(kernel)
}

/// A network and the layers that should be it.
struct Match<'g, 'l> {
    graph: &'g Graph,
    layers: &'l mut [Layer],
    /// The layers of the nodes.
    known: Vec<Option<LayerId>>,
}

impl Match<'_, '_> {
    /// The parameters of the network by name, taken from the layers.
    fn arrays(mut self, heads: &Heads) -> Result<NamedArrays> {
        let mut arrays = NamedArrays::new();
        let heads = [Some(heads.prob), Some(heads.dist), heads.classes];
        let mut waiting: Vec<(NodeId, LayerId)> =
            self.graph.outputs().iter().copied().zip(heads.into_iter().flatten()).collect();
        while let Some((node, layer)) = waiting.pop() {
            match self.known[node] {
                Some(known) if known == layer => continue,
                Some(_) => return Err(differs(format!("'{}' is computed twice", self.graph.nodes()[node].name))),
                None => self.known[node] = Some(layer),
            }
            waiting.extend(self.compare(node, layer, &mut arrays)?);
        }
        Ok(arrays)
    }

    /// Compares a node with a layer, takes its arrays, and says which nodes and layers are to be compared next.
    fn compare(&mut self, node: NodeId, layer: LayerId, arrays: &mut NamedArrays) -> Result<Vec<(NodeId, LayerId)>> {
        let node = &self.graph.nodes()[node];
        let other = |found: &Layer| differs(format!("it has {} where the package has '{}'", kind(found), node.name));
        let mut give =
            |part: &str, array: &mut Array| arrays.insert(format!("{}/{part}", node.name), std::mem::take(array));
        let activated = |layers: &[Layer], activation: Activation| match (activation, &layers[layer]) {
            (Activation::Linear, _) => Ok(layer),
            (_, Layer::Relu { input }) => Ok(*input),
            (_, found) => Err(other(found)),
        };
        match &node.op {
            Op::Input => match &self.layers[layer] {
                Layer::Input => Ok(Vec::new()),
                found => Err(other(found)),
            },
            Op::Conv { input, activation, .. } => {
                let sum = activated(self.layers, *activation)?;
                let Layer::Bias { input: conv, values } = &mut self.layers[sum] else {
                    return Err(other(&self.layers[sum]));
                };
                let conv = *conv;
                give("bias", values);
                let Layer::Conv { input: from, kernel } = &mut self.layers[conv] else {
                    return Err(other(&self.layers[conv]));
                };
                give("kernel", kernel);
                Ok(vec![(*input, *from)])
            }
            Op::Norm { input, activation, .. } => {
                let id = activated(self.layers, *activation)?;
                if let Layer::Bias { input: scale, values } = &mut self.layers[id] {
                    let (scale, channels) = (*scale, values.1.len());
                    give("beta", values);
                    let Layer::Scale { input: from, values } = &mut self.layers[scale] else {
                        return Err(other(&self.layers[scale]));
                    };
                    give("gamma", values);
                    // With these statistics nothing but the multiplication and the addition is left.
                    give("moving_mean", &mut (vec![channels], vec![0.0; channels]));
                    give("moving_variance", &mut (vec![channels], vec![1.0 - EPSILON; channels]));
                    return Ok(vec![(*input, *from)]);
                }
                let Layer::BatchNorm { input: from, gamma, beta, mean, variance, epsilon } = &mut self.layers[id]
                else {
                    return Err(other(&self.layers[id]));
                };
                if (*epsilon - EPSILON).abs() > NEAR {
                    return Err(differs(format!(
                        "its batch normalisation has epsilon {epsilon}, that of the package {EPSILON}"
                    )));
                }
                give("gamma", gamma);
                give("beta", beta);
                give("moving_mean", mean);
                give("moving_variance", variance);
                Ok(vec![(*input, *from)])
            }
            Op::MaxPool { input, by } => match &self.layers[layer] {
                Layer::MaxPool { input: from, by: found } if found == by => Ok(vec![(*input, *from)]),
                found => Err(other(found)),
            },
            Op::Upsample { input, by } => match &self.layers[layer] {
                Layer::Upsample { input: from, by: found } if found == by => Ok(vec![(*input, *from)]),
                found => Err(other(found)),
            },
            Op::Concat { inputs } => match &self.layers[layer] {
                Layer::Concat { inputs: from } if from.len() == inputs.len() => {
                    Ok(inputs.iter().copied().zip(from.iter().copied()).collect())
                }
                found => Err(other(found)),
            },
            Op::GlobalAveragePool { .. } | Op::L2Normalize { .. } => Err(other(&self.layers[layer])),
        }
    }
}
