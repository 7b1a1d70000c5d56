//! Models as ONNX files, which onnxruntime, OpenVINO, OpenCV and Deep Java Library run.

use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::algorithm::NetworkOutput;
use super::facade::Model;
use super::onnx_scaling::{OnnxNormalization, SCALED, add_scaling};
use crate::error::{Error, Result};
use crate::formats::onnx::{Attribute, MOST_BYTES, Message, OnnxFile, Side, Values};
use crate::networks::{Activation, Graph, Node, NodeId, Op, Statistics};
use crate::raster::write_atomically;

/// The input of a file.
const INPUT: &str = "input";

/// How an ONNX file is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct OnnxOptions {
    /// Where it has the scaling of intensities.
    pub normalization: OnnxNormalization,
}

impl NetworkOutput {
    /// The output that the file gives for that of the network, `[h, w, channels]`.
    #[cfg(feature = "keras")]
    pub fn of(&self, mut values: ndarray::Array3<f32>) -> ndarray::Array3<f32> {
        match self.operator {
            Some("Sigmoid") => values.mapv_inplace(|value| 1.0 / (1.0 + (-value).exp())),
            Some(_) => {
                for mut pixel in values.lanes_mut(ndarray::Axis(2)) {
                    let largest = pixel.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    pixel.mapv_inplace(|value| (value - largest).exp());
                    let sum = pixel.sum();
                    pixel.mapv_inplace(|value| value / sum);
                }
            }
            None => {}
        }
        values
    }
}

impl Model {
    /// Writes the network as an ONNX file (operator set 13), atomically.
    ///
    /// The input `input` is `[batch, channels, height, width]`, scaled as [`normalization`](Self::normalization) says, with
    /// heights and widths that are multiples of [`Graph::divisor`]. The outputs are `[batch, channels, height, width]`, those of
    /// StarDist on its grid: `prob` (0 to 1), `dist` (pixels) and, with classes, `prob_class` (which sum to 1); of Cellpose `flow`
    /// (vertical and horizontal flow, times 5, and the logit of the cell probability) and `style`; of ELEPHANT `probabilities` of
    /// background, border and centre. What a program needs besides is a JSON text in the metadata `cellsparse`: algorithm,
    /// configuration, percentiles and where they are applied (`normalization_place`), thresholds, `divisor`, pixel size.
    ///
    /// # Errors
    /// [`Error::Limit`] for a network of 2 GiB and more, [`Error::Io`], [`Error::NotFound`].
    pub fn save_onnx(&self, path: impl AsRef<Path>) -> Result<()> {
        self.save_onnx_with(path, &OnnxOptions::default())
    }

    /// [`save_onnx`](Self::save_onnx) with options: with [`OnnxNormalization::Inside`] the input is the image as measured.
    ///
    /// # Errors
    /// As there.
    pub fn save_onnx_with(&self, path: impl AsRef<Path>, options: &OnnxOptions) -> Result<()> {
        let path = path.as_ref();
        let message = self.onnx(options)?;
        write_atomically(path, |writer| message.write(writer).map_err(|source| Error::io(path, source)))
    }

    /// Writes what [`save_onnx`](Self::save_onnx) writes.
    ///
    /// # Errors
    /// As [`save_onnx`](Self::save_onnx); the path in an error is `model`.
    pub fn write_onnx(&self, writer: &mut impl Write) -> Result<()> {
        self.write_onnx_with(writer, &OnnxOptions::default())
    }

    /// Writes what [`save_onnx_with`](Self::save_onnx_with) writes.
    ///
    /// # Errors
    /// As [`write_onnx`](Self::write_onnx).
    pub fn write_onnx_with(&self, writer: &mut impl Write, options: &OnnxOptions) -> Result<()> {
        self.onnx(options)?.write(writer).map_err(|source| Error::io("model", source))
    }

    pub(super) fn onnx(&self, options: &OnnxOptions) -> Result<Message<'_>> {
        let graph: &Graph = &self.network.graph;
        let mut file = OnnxFile::new(&self.algorithm().to_string());
        let image = |channels: usize, scale: [usize; 2]| {
            let side = |name: &str, by: usize| match by {
                0 => Side::Fixed(1),
                1 => Side::Named(name.to_string()),
                _ => Side::Named(format!("{name}/{by}")),
            };
            vec![
                Side::Named("batch".to_string()),
                Side::Fixed(channels as u64),
                side("height", scale[0]),
                side("width", scale[1]),
            ]
        };
        file.input(INPUT, &image(graph.input_channels(), [1, 1]));
        let normalization = self.network.normalization;
        let input = match options.normalization {
            OnnxNormalization::Metadata => INPUT,
            OnnxNormalization::Inside => {
                add_scaling(&mut file, INPUT, normalization);
                SCALED
            }
        };
        let parameters = self.network.weights.parameters();
        for ((id, node), first) in graph.nodes().iter().enumerate().zip(graph.parameter_offsets()) {
            let values = |index: usize| parameters.get(first + index).map_or(&[][..], |found| found.values.as_slice());
            Translation { file: &mut file, graph, id, node, input }.add(values);
        }
        for (&id, output) in graph.outputs().iter().zip(self.algorithm().facts().outputs) {
            let node = &graph.nodes()[id];
            match output.operator {
                Some(operator @ "Softmax") => {
                    file.node(operator, &[&name(graph, id)], output.name, &[("axis", Attribute::Integer(1))]);
                }
                Some(operator) => file.node(operator, &[&name(graph, id)], output.name, &[]),
                None => file.node("Identity", &[&name(graph, id)], output.name, &[]),
            }
            file.output(output.name, &image(node.channels, node.scale));
        }
        let mut facts = self.facts();
        facts["normalization_place"] = json!(options.normalization);
        file.fact("cellsparse", &facts.to_string());
        let taken = match options.normalization {
            OnnxNormalization::Metadata => "scaled so that its",
            OnnxNormalization::Inside => "as measured; the network scales it so that its",
        };
        let message = file.finish(&format!(
            "A network of {} trained with cellsparse. Input [batch, channels, height, width], every channel of every image {taken} \
             percentiles {} and {} are 0 and 1.",
            self.algorithm(),
            normalization.pmin,
            normalization.pmax
        ));
        if message.len() > MOST_BYTES {
            return Err(Error::Limit(format!(
                "the network takes {} bytes; an ONNX file has at most {MOST_BYTES}",
                message.len()
            )));
        }
        Ok(message)
    }

    /// What a program that runs the network elsewhere has to know.
    pub(super) fn facts(&self) -> serde_json::Value {
        let info = self.info();
        let there = self.network.graph.outputs().len();
        let names: Vec<&str> = self.algorithm().facts().outputs.iter().take(there).map(|output| output.name).collect();
        let mut facts = json!(self.architecture);
        if let Some(object) = facts.as_object_mut() {
            let more = json!({
                "normalization": self.network.normalization,
                "scale": self.network.scale,
                "thresholds": self.thresholds,
                "divisor": self.network.graph.divisor(),
                "outputs": names,
                "pixel_size": info.pixel_size,
                "cell_diameter": info.cell_diameter,
            });
            more.as_object()
                .into_iter()
                .flatten()
                .for_each(|(key, value)| drop(object.insert(key.clone(), value.clone())));
        }
        facts
    }
}

/// The name of the result of a node that computes something.
fn name(graph: &Graph, id: NodeId) -> String {
    format!("{}:0", graph.nodes()[id].name)
}

/// The name of the result of any node; of the input that of what the network sees.
fn result(graph: &Graph, id: NodeId, input: &str) -> String {
    match graph.nodes()[id].op {
        Op::Input => input.to_string(),
        _ => name(graph, id),
    }
}

/// One node of a graph on its way into a file.
struct Translation<'f, 'a> {
    file: &'f mut OnnxFile<'a>,
    graph: &'f Graph,
    id: NodeId,
    node: &'f Node,
    /// The name of what the network sees.
    input: &'static str,
}

impl<'a> Translation<'_, 'a> {
    /// Adds what computes the node; `values` are its parameters by index.
    fn add(mut self, values: impl Fn(usize) -> &'a [f32]) {
        let of = |id: NodeId| result(self.graph, id, self.input);
        let pair = |by: [usize; 2]| Attribute::Integers(by.map(|side| side as i64).to_vec());
        let output = of(self.id);
        match &self.node.op {
            Op::Input => {}
            Op::Conv { .. } => self.convolution(values),
            Op::MaxPool { input, by } => {
                let attributes = [("kernel_shape", pair(*by)), ("strides", pair(*by))];
                self.file.node("MaxPool", &[&of(*input)], &output, &attributes);
            }
            Op::Upsample { input, by } => {
                let scales = format!("{}/scales", self.node.name);
                let factors = vec![1.0, 1.0, by[0] as f32, by[1] as f32];
                let attributes = [
                    ("mode", Attribute::Text("nearest")),
                    ("coordinate_transformation_mode", Attribute::Text("asymmetric")),
                    ("nearest_mode", Attribute::Text("floor")),
                ];
                self.file.node("Resize", &[&of(*input), "", &scales], &output, &attributes);
                self.file.constant(&scales, &[4], Values::Own(factors));
            }
            Op::Concat { inputs } => {
                let inputs: Vec<String> = inputs.iter().map(|id| of(*id)).collect();
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                self.file.node("Concat", &inputs, &output, &[("axis", Attribute::Integer(1))]);
            }
            Op::Norm { .. } => self.normalisation(values),
            Op::GlobalAveragePool { input } => self.file.node("GlobalAveragePool", &[&of(*input)], &output, &[]),
            Op::L2Normalize { input } => {
                let length = format!("{}/length", self.node.name);
                let attributes = [("axes", Attribute::Integers(vec![1])), ("keepdims", Attribute::Integer(1))];
                self.file.node("ReduceL2", &[&of(*input)], &length, &attributes);
                self.file.node("Div", &[&of(*input), &length], &output, &[]);
            }
        }
    }

    fn convolution(&mut self, values: impl Fn(usize) -> &'a [f32]) {
        let Op::Conv { input, kernel: side, bias, residual, activation } = self.node.op else { return };
        let (inputs, taps) = (self.graph.nodes()[input].channels, side * side);
        let kernel = format!("{}/kernel", self.node.name);
        let values_of_kernel = Values::Kernel { values: values(0), taps, inputs };
        self.file.constant(&kernel, &[self.node.channels, inputs, side, side], values_of_kernel);
        let bias_name = format!("{}/bias", self.node.name);
        let from = result(self.graph, input, self.input);
        let mut reads = vec![from.as_str(), kernel.as_str()];
        if bias {
            self.file.constant(&bias_name, &[self.node.channels], Values::Floats(values(1)));
            reads.push(&bias_name);
        }
        let margin = (side / 2) as i64;
        let attributes = [
            ("kernel_shape", Attribute::Integers(vec![side as i64; 2])),
            ("pads", Attribute::Integers(vec![margin; 4])),
        ];
        let rest = usize::from(residual.is_some()) + usize::from(activation != Activation::Linear);
        let convolved = self.step("conv", rest);
        self.file.node("Conv", &reads, &convolved, &attributes);
        let mut last = convolved;
        if let Some(residual) = residual {
            let sum = self.step("sum", rest - 1);
            self.file.node("Add", &[&last, &result(self.graph, residual, self.input)], &sum, &[]);
            last = sum;
        }
        self.activate(&last, activation);
    }

    fn normalisation(&mut self, values: impl Fn(usize) -> &'a [f32]) {
        let Op::Norm { input, style, statistics, epsilon, activation } = self.node.op else { return };
        let channels = self.node.channels;
        let mut from = result(self.graph, input, self.input);
        if let Some(style) = style {
            let shifted = self.step("shifted", 1);
            self.file.node("Add", &[&from, &result(self.graph, style, self.input)], &shifted, &[]);
            from = shifted;
        }
        let epsilon = ("epsilon", Attribute::Float(epsilon));
        let linear = activation == Activation::Linear;
        let of = |part: &str| format!("{}/{part}", self.node.name);
        let [gamma, beta, mean, variance] = ["gamma", "beta", "moving_mean", "moving_variance"].map(of);
        let normalised = self.step("normalised", usize::from(!linear));
        match statistics {
            Statistics::Batch { .. } => {
                for (index, part) in [&gamma, &beta, &mean, &variance].into_iter().enumerate() {
                    self.file.constant(part, &[channels], Values::Floats(values(index)));
                }
                self.file.node(
                    "BatchNormalization",
                    &[&from, &gamma, &beta, &mean, &variance],
                    &normalised,
                    &[epsilon],
                );
            }
            Statistics::Group { channels: together } => {
                // As instances of one channel for each group: the operator for groups is younger than this operator set.
                let groups = channels.checked_div(together).unwrap_or(1);
                let [shape, grouped, ones, zeros, whole, instances, back, scaled] =
                    ["groups", "grouped", "ones", "zeros", "shape", "instances", "ungrouped", "scaled"].map(of);
                self.file.constant(&shape, &[3], Values::Integers(vec![0, groups as i64, -1]));
                self.file.constant(&ones, &[groups], Values::Own(vec![1.0; groups]));
                self.file.constant(&zeros, &[groups], Values::Own(vec![0.0; groups]));
                self.file.constant(&gamma, &[channels, 1, 1], Values::Floats(values(0)));
                self.file.constant(&beta, &[channels, 1, 1], Values::Floats(values(1)));
                self.file.node("Reshape", &[&from, &shape], &grouped, &[]);
                self.file.node("InstanceNormalization", &[&grouped, &ones, &zeros], &instances, &[epsilon]);
                self.file.node("Shape", &[&from], &whole, &[]);
                self.file.node("Reshape", &[&instances, &whole], &back, &[]);
                self.file.node("Mul", &[&back, &gamma], &scaled, &[]);
                self.file.node("Add", &[&scaled, &beta], &normalised, &[]);
            }
        }
        self.activate(&normalised, activation);
    }

    /// The name of a result within the node, or of the node itself if nothing comes after it.
    fn step(&self, part: &str, rest: usize) -> String {
        if rest == 0 { name(self.graph, self.id) } else { format!("{}/{part}", self.node.name) }
    }

    fn activate(&mut self, from: &str, activation: Activation) {
        let output = name(self.graph, self.id);
        match activation {
            Activation::Linear => {}
            Activation::Relu => self.file.node("Relu", &[from], &output, &[]),
            Activation::LeakyRelu(slope) => {
                self.file.node("LeakyRelu", &[from], &output, &[("alpha", Attribute::Float(slope))]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use crate::networks::{CellposeConfig, ElephantConfig, StarDistConfig};

    #[test]
    fn every_network_is_written_with_all_its_weights() {
        let stardist = StarDistConfig { n_filter_base: 4, n_classes: Some(2), batch_norm: true, ..Default::default() };
        let elephant = ElephantConfig { widths: vec![4, 8], residual: true, ..Default::default() };
        let cellpose = CellposeConfig { widths: vec![4, 8], ..Default::default() };
        for architecture in [Architecture::from(stardist), elephant.into(), cellpose.into()] {
            let model = Model::new(architecture, 1).unwrap();
            let mut bytes = Vec::new();
            model.write_onnx(&mut bytes).unwrap();
            assert!(bytes.len() > 4 * model.weights().count(), "{:?}", model.architecture());
            for output in model.algorithm().facts().outputs {
                assert!(bytes.windows(output.name.len()).any(|window| window == output.name.as_bytes()));
            }
        }
    }
}
