//! From the graph of a program of TensorFlow to the layers of a network: calls of functions are followed, names that only pass a value
//! on are left out, and variables and constants become arrays.

use std::collections::{HashMap, HashSet};

use super::super::shortened::shortened;
use super::super::source::Source;
use super::bundle::Bundle;
use super::graph::{Constant, Node, Read, StoredGraph};

/// Most calls of functions, and how deeply they may be nested.
const MOST_CALLS: usize = 256;
const DEEPEST: usize = 16;
/// Most layers, and most steps from a name to what it stands for.
const MOST_LAYERS: usize = 1 << 12;
const MOST_STEPS: usize = 256;
/// Most computations from an array to what a layer takes: a batch normalisation has four.
const DEEPEST_ARRAY: usize = 6;

/// The number of a layer.
pub type LayerId = usize;

/// Shape and row-major values.
pub type Array = (Vec<usize>, Vec<f32>);

/// What a layer computes. Maps are `[batch, height, width, channels]`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the names of the fields say it")]
pub enum Layer {
    /// The image.
    Input,
    /// Convolution with stride 1 and zero padding; the kernel is `[k, k, in, out]`.
    Conv { input: LayerId, kernel: Array },
    /// A number for each channel that is added.
    Bias { input: LayerId, values: Array },
    /// A number for each channel by which it is multiplied.
    Scale { input: LayerId, values: Array },
    /// Normalisation by stored statistics.
    BatchNorm { input: LayerId, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: f32 },
    /// Negative values become 0.
    Relu { input: LayerId },
    /// The logistic function.
    Sigmoid { input: LayerId },
    /// Probabilities that sum to 1 over the channels.
    Softmax { input: LayerId },
    /// Maximum over windows, with their size as stride.
    MaxPool { input: LayerId, by: [usize; 2] },
    /// Nearest-neighbour upsampling.
    Upsample { input: LayerId, by: [usize; 2] },
    /// Values at the first pixel of each window of a larger map, zeros elsewhere.
    Spread { input: LayerId, by: [usize; 2] },
    /// Channels side by side.
    Concat { inputs: Vec<LayerId> },
}

/// A node of a body that was entered by a call.
type Place = (usize, usize);

/// A body, and the call by which it was entered.
struct Frame {
    body: usize,
    /// The calling frame and its node.
    call: Option<Place>,
    /// The input of that node that is the first argument.
    first: usize,
    depth: usize,
}

/// Where the values of arrays are.
#[derive(Clone, Copy)]
pub(super) struct Contents<'g> {
    /// The file of the graph.
    pub file: &'g Source<'g>,
    /// The checkpoint, if there is one.
    pub variables: Option<&'g Bundle<'g>>,
}

/// Follows a graph from its outputs.
pub(super) struct Walk<'g, 'b> {
    graph: &'g StoredGraph<'b>,
    contents: Contents<'g>,
    frames: Vec<Frame>,
    /// The frames that calls have entered.
    entered: HashMap<Place, usize>,
    /// Values of arrays that may still be taken.
    left: usize,
    pub layers: Vec<Layer>,
    known: HashMap<Place, LayerId>,
    /// How many conditions are being looked at.
    conditions: usize,
}

impl<'g, 'b> Walk<'g, 'b> {
    /// Begins at the graph; arrays of `most` values are taken in all.
    pub fn new(graph: &'g StoredGraph<'b>, contents: Contents<'g>, most: usize) -> Self {
        let frames = vec![Frame { body: 0, call: None, first: 0, depth: 0 }];
        let (entered, known) = (HashMap::new(), HashMap::new());
        Self { graph, contents, frames, entered, left: most, layers: Vec::new(), known, conditions: 0 }
    }

    /// The layer that computes an output of the graph, `NODE:INDEX`.
    pub fn output(&mut self, name: &str) -> Read<LayerId> {
        let root = self.resolve(0, name)?;
        let mut waiting = vec![root];
        // Those that wait for what stands above them.
        let mut open = HashSet::new();
        // Depth first, without recursion: a node waits until all that it reads is known.
        while let Some(&place) = waiting.last() {
            if self.known.contains_key(&place) {
                waiting.pop();
                continue;
            }
            let reads = self.reads(place)?;
            let missing: Vec<Place> = reads.iter().copied().filter(|place| !self.known.contains_key(place)).collect();
            if missing.is_empty() {
                let inputs: Vec<LayerId> = reads.iter().map(|place| self.known[place]).collect();
                let layer = self.layer(place, &inputs)?;
                self.known.insert(place, self.layers.len());
                self.layers.push(layer);
                waiting.pop();
            } else {
                open.insert(place);
                if missing.iter().any(|place| open.contains(place)) {
                    return Err("its graph has a loop".into());
                }
                waiting.extend(missing);
            }
            if self.layers.len() > MOST_LAYERS || waiting.len() > MOST_LAYERS {
                return Err(format!("its network has more than {MOST_LAYERS} layers"));
            }
        }
        Ok(self.known[&root])
    }

    fn node(&self, (frame, node): Place) -> &'g Node<'b> {
        &self.graph.bodies[self.frames[frame].body].nodes[node]
    }

    /// What a name within a frame stands for, past calls and nodes that only pass a value on.
    fn resolve(&mut self, frame: usize, name: &str) -> Read<Place> {
        let (mut frame, mut name) = (frame, name.to_string());
        for _ in 0..MOST_STEPS {
            let (first, index) = match name.split_once(':') {
                Some((first, rest)) => {
                    (first, rest.rsplit(':').next().and_then(|index| index.parse().ok()).unwrap_or(0))
                }
                None => (name.as_str(), 0),
            };
            let Frame { body, call, first: offset, depth } = self.frames[frame];
            let body = &self.graph.bodies[body];
            let Some(node) = body.node(first) else {
                let argument = body.arguments.iter().position(|argument| *argument == first);
                let (argument, call) = argument
                    .zip(call)
                    .ok_or_else(|| format!("its graph names '{}', which is not in it", shortened(first)))?;
                let outer = self
                    .node(call)
                    .inputs
                    .get(offset + argument)
                    .ok_or("a function is called with too few arguments")?;
                name = outer.to_string();
                frame = call.0;
                continue;
            };
            let place = (frame, node);
            let node = &body.nodes[node];
            if let Some((function, offset)) = self.called(place)? {
                let results = &self.graph.bodies[function].results;
                let (_, result) = results.get(index).ok_or("a function is asked for more than it gives")?;
                name = result.to_string();
                frame = self.enter(place, function, offset, depth)?;
                continue;
            }
            match node.operation {
                "Switch" | "RefSwitch" => {
                    self.is_for_prediction(place, 1)?;
                    name = node.inputs.first().ok_or_else(|| lacks(node))?.to_string();
                }
                // Of the two ways that meet in it, the first one is that of a condition that is false.
                "Identity" | "StopGradient" | "PreventGradient" | "ReadVariableOp" | "Snapshot" | "Merge" => {
                    let input = node.inputs.first().ok_or_else(|| lacks(node))?;
                    name = input.to_string();
                }
                _ => return Ok(place),
            }
        }
        Err("its graph passes a value on without end".into())
    }

    /// The function that a node calls, and which input of the node is its first argument. Of those that are for training and
    /// for prediction, that for prediction.
    fn called(&mut self, place: Place) -> Read<Option<(usize, usize)>> {
        let node = self.node(place);
        let (name, first) = match node.operation {
            "StatefulPartitionedCall" | "PartitionedCall" => (node.function("f"), 0),
            "If" | "StatelessIf" => {
                self.is_for_prediction(place, 0)?;
                (node.function("else_branch"), 1)
            }
            other => (Some(other), 0),
        };
        Ok(name.and_then(|name| self.graph.function(name)).map(|function| (function, first)))
    }

    /// Refuses a condition that is not whether the network is being trained, which is false unless a program says otherwise.
    fn is_for_prediction(&mut self, place: Place, condition: usize) -> Read<()> {
        self.conditions += 1;
        if self.conditions > DEEPEST {
            return Err("its conditions depend on each other without end".into());
        }
        let source = self.input(place, condition)?;
        self.conditions -= 1;
        match self.node(source).operation {
            "PlaceholderWithDefault" => Ok(()),
            other => {
                let name = shortened(self.node(place).name);
                Err(format!(
                    "its node '{name}' depends on a condition, '{}', that is not the phase of learning",
                    shortened(other)
                ))
            }
        }
    }

    fn enter(&mut self, call: Place, function: usize, first: usize, depth: usize) -> Read<usize> {
        if let Some(frame) = self.entered.get(&call) {
            return Ok(*frame);
        }
        if depth >= DEEPEST || self.frames.len() > MOST_CALLS {
            return Err("its functions call each other without end".into());
        }
        self.frames.push(Frame { body: function, call: Some(call), first, depth: depth + 1 });
        self.entered.insert(call, self.frames.len() - 1);
        Ok(self.frames.len() - 1)
    }

    /// What an input of a node stands for.
    fn input(&mut self, place: Place, index: usize) -> Read<Place> {
        let node = self.node(place);
        let name = node.inputs.get(index).ok_or_else(|| lacks(node))?;
        self.resolve(place.0, name)
    }

    /// The maps that a node reads.
    fn reads(&mut self, place: Place) -> Read<Vec<Place>> {
        let node = self.node(place);
        let indices = match node.operation {
            "Placeholder" => 0..0,
            "Conv2D"
            | "BiasAdd"
            | "Relu"
            | "Sigmoid"
            | "Softmax"
            | "MaxPool"
            | "ResizeNearestNeighbor"
            | "FusedBatchNorm"
            | "FusedBatchNormV2"
            | "FusedBatchNormV3" => 0..1,
            // What is added to a map, or multiplies it, may stand on either side.
            "Add" | "AddV2" | "Mul" => {
                let first = self.input(place, 0)?;
                if self.is_array(first, 0)? { 1..2 } else { 0..1 }
            }
            "Sub" => 0..1,
            "Conv2DBackpropInput" => 2..3,
            "ConcatV2" => 0..node.inputs.len().saturating_sub(1),
            other => {
                return Err(format!(
                    "its network computes '{}' ('{}'), which networks of StarDist do not",
                    shortened(other),
                    shortened(node.name)
                ));
            }
        };
        indices.map(|index| self.input(place, index)).collect()
    }

    fn layer(&mut self, place: Place, inputs: &[LayerId]) -> Read<Layer> {
        let node = self.node(place);
        let wrong = |what: &str| format!("its {} '{}' {what}", node.operation, shortened(node.name));
        if node.text("data_format").is_some_and(|format| format != "NHWC") {
            return Err(wrong("has the channels first"));
        }
        let input = inputs.first().copied().unwrap_or_default();
        Ok(match node.operation {
            "Placeholder" => Layer::Input,
            "Conv2D" => {
                let ones = |name: &str| node.integers(name).is_none_or(|sides| sides.iter().all(|side| *side == 1));
                if !ones("strides") || !ones("dilations") || node.text("padding") != Some("SAME") {
                    return Err(wrong("has strides, a dilation, or no padding"));
                }
                Layer::Conv { input, kernel: self.array(place, 1)? }
            }
            "BiasAdd" => Layer::Bias { input, values: self.array(place, 1)? },
            "Add" | "AddV2" | "Mul" => {
                let first = self.input(place, 0)?;
                let other = usize::from(!self.is_array(first, 0)?);
                let values = self.vector(place, other)?;
                if node.operation == "Mul" { Layer::Scale { input, values } } else { Layer::Bias { input, values } }
            }
            "Sub" => {
                let (shape, mut values) = self.vector(place, 1)?;
                values.iter_mut().for_each(|value| *value = -*value);
                Layer::Bias { input, values: (shape, values) }
            }
            "Relu" => Layer::Relu { input },
            "Sigmoid" => Layer::Sigmoid { input },
            "Softmax" => Layer::Softmax { input },
            "MaxPool" => {
                let by = node.integers("ksize").as_deref().and_then(window);
                let by = by.filter(|_| node.integers("ksize") == node.integers("strides"));
                Layer::MaxPool { input, by: by.ok_or_else(|| wrong("has windows that overlap"))? }
            }
            "ResizeNearestNeighbor" => {
                if node.flag("align_corners") == Some(true) {
                    return Err(wrong("aligns the corners of its images"));
                }
                let by = self.factors(place, inputs)?;
                Layer::Upsample {
                    input,
                    by: by.ok_or_else(|| wrong("has no size that is a multiple of that of its input"))?,
                }
            }
            "Conv2DBackpropInput" => {
                let by = node.integers("strides").as_deref().and_then(window);
                let by = by.ok_or_else(|| wrong("has strides of another kind"))?;
                let (shape, values) = self.array(place, 1)?;
                if shape != [1, 1, 1, 1] || values != [1.0] {
                    return Err(wrong("has a kernel that is not a single 1"));
                }
                Layer::Spread { input, by }
            }
            "ConcatV2" => {
                let axis = self.array(place, node.inputs.len().saturating_sub(1))?;
                if axis.1 != [3.0] && axis.1 != [-1.0] {
                    return Err(wrong("is not over the channels"));
                }
                Layer::Concat { inputs: inputs.to_vec() }
            }
            // All that is left of what has inputs.
            _ => {
                if node.flag("is_training") == Some(true) {
                    return Err(wrong("is still being trained"));
                }
                let [gamma, beta, mean, variance] = [1, 2, 3, 4].map(|index| self.array(place, index));
                let epsilon = node.float("epsilon").unwrap_or(1e-4);
                Layer::BatchNorm { input, gamma: gamma?, beta: beta?, mean: mean?, variance: variance?, epsilon }
            }
        })
    }

    /// The factors of an upsampling: its size is that of its input, times a constant.
    fn factors(&mut self, place: Place, inputs: &[LayerId]) -> Read<Option<[usize; 2]>> {
        let size = self.input(place, 1)?;
        if self.node(size).operation != "Mul" {
            return Ok(None);
        }
        let sides = [self.input(size, 0)?, self.input(size, 1)?];
        let Some(factor) = sides.iter().position(|side| holds_array(self.node(*side))) else { return Ok(None) };
        let mut other = sides[1 - factor];
        while matches!(self.node(other).operation, "StridedSlice" | "Cast") {
            other = self.input(other, 0)?;
        }
        if self.node(other).operation != "Shape" {
            return Ok(None);
        }
        let of = self.input(other, 0)?;
        let (_, factors) = self.array(size, factor)?;
        let fits = self.known.get(&of).is_some_and(|layer| inputs.first() == Some(layer));
        Ok(match factors[..] {
            [rows, columns] if fits && (1.0..=64.0).contains(&rows) && (1.0..=64.0).contains(&columns) => {
                Some([rows as usize, columns as usize])
            }
            _ => None,
        })
    }

    /// Whether a node is an array, or is computed of arrays alone.
    fn is_array(&mut self, place: Place, depth: usize) -> Read<bool> {
        let node = self.node(place);
        if holds_array(node) {
            return Ok(true);
        }
        if !OF_ARRAYS.contains(&node.operation) || depth > DEEPEST_ARRAY || node.inputs.len() > 2 {
            return Ok(false);
        }
        for index in 0..node.inputs.len() {
            let input = self.input(place, index)?;
            if !self.is_array(input, depth + 1)? {
                return Ok(false);
            }
        }
        Ok(!node.inputs.is_empty())
    }

    /// The array that an input of a node is or is computed to, a number for each channel.
    fn vector(&mut self, place: Place, index: usize) -> Read<Array> {
        let input = self.input(place, index)?;
        if holds_array(self.node(input)) {
            let (shape, values) = self.array(place, index)?;
            // Sides of length 1 before the channels say nothing.
            let is_vector = shape.last() == Some(&values.len());
            return Ok((if is_vector { vec![values.len()] } else { shape }, values));
        }
        let values = self.computed(input, 0)?;
        Ok((vec![values.len()], values.into_iter().map(|value| value as f32).collect()))
    }

    /// Computes an array of arrays. A single number counts for every channel.
    fn computed(&mut self, place: Place, depth: usize) -> Read<Vec<f64>> {
        let node = self.node(place);
        let wrong = |what: &str| format!("its {} '{}' {what}", node.operation, shortened(node.name));
        if depth > DEEPEST_ARRAY || !OF_ARRAYS.contains(&node.operation) {
            return Err(wrong("is no array that networks of StarDist have"));
        }
        let mut sides = Vec::new();
        for index in 0..if matches!(node.operation, "Rsqrt" | "Neg") { 1 } else { 2 } {
            let input = self.input(place, index)?;
            sides.push(match holds_array(self.node(input)) {
                true => self.array(place, index)?.1.into_iter().map(f64::from).collect(),
                false => self.computed(input, depth + 1)?,
            });
        }
        let [first, rest @ ..] = &sides[..] else { return Err(lacks(node)) };
        let Some(second) = rest.first() else {
            let of_one = |value: &f64| if node.operation == "Neg" { -value } else { 1.0 / value.sqrt() };
            return Ok(first.iter().map(of_one).collect());
        };
        if first.len() != second.len() && first.len() != 1 && second.len() != 1 {
            return Err(wrong("computes with arrays of different lengths"));
        }
        let at = |values: &[f64], index: usize| values.get(index).or(values.first()).copied().unwrap_or_default();
        let pairs = (0..first.len().max(second.len())).map(|index| (at(first, index), at(second, index)));
        Ok(match node.operation {
            "Sub" => pairs.map(|(a, b)| a - b).collect(),
            "Mul" => pairs.map(|(a, b)| a * b).collect(),
            _ => pairs.map(|(a, b)| a + b).collect(),
        })
    }

    /// The array that an input of a node is.
    fn array(&mut self, place: Place, index: usize) -> Read<Array> {
        let place = self.input(place, index)?;
        let node = self.node(place);
        let (shape, values) = match node.operation {
            "Const" => {
                let constant = node.constant().ok_or_else(|| lacks(node))?;
                let in_node = |reason| format!("its constant '{}': {reason}", shortened(node.name));
                let constant: Constant<'_> = constant.map_err(in_node)?;
                let values = constant.floats(self.left, self.contents.file).map_err(in_node)?;
                (constant.shape, values)
            }
            "VariableV2" | "Variable" | "VarHandleOp" => {
                let variables = self.contents.variables.ok_or_else(|| {
                    format!("its variable '{}' has no values in the file; freeze the graph", shortened(node.name))
                })?;
                let name = node.text("shared_name").filter(|name| !name.is_empty()).unwrap_or(node.name);
                variables.variable(name, self.left)?
            }
            other => {
                return Err(format!(
                    "its network takes numbers from '{}' ('{}'), neither a variable nor a constant",
                    shortened(other),
                    shortened(node.name)
                ));
            }
        };
        let rest = self.left.checked_sub(values.len());
        self.left = rest.ok_or("its network has more numbers than the file can hold")?;
        Ok((shape, values))
    }
}

fn holds_array(node: &Node<'_>) -> bool {
    matches!(node.operation, "Const" | "VariableV2" | "Variable" | "VarHandleOp")
}

/// What is computed of the arrays of a batch normalisation that is written as multiplication and addition.
const OF_ARRAYS: [&str; 6] = ["Add", "AddV2", "Sub", "Mul", "Rsqrt", "Neg"];

fn lacks(node: &Node<'_>) -> String {
    format!("its node '{}' ({}) lacks an input or a value", shortened(node.name), shortened(node.operation))
}

/// Rows and columns of a window `[1, rows, columns, 1]`.
fn window(sides: &[i64]) -> Option<[usize; 2]> {
    match sides {
        [1, rows @ 1..=64, columns @ 1..=64, 1] => Some([*rows as usize, *columns as usize]),
        _ => None,
    }
}
