//! Networks of StarDist as programs of TensorFlow, which Fiji and QuPath run.

use std::io::{self, Write};
use std::path::Path;

use super::facade::Model;
use crate::error::{Error, Result};
use crate::formats::bioimage::Package;
use crate::formats::stardist_model::FACTS;
use crate::formats::tensorflow::SAVED_MODEL;
use crate::formats::tensorflow_writer::{Attribute, GraphFile, MOST_BYTES, Message, Values};
use crate::networks::{Activation, Graph, NodeId, Op};
use crate::raster::write_atomically;

/// The form of a program of TensorFlow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorFlowForm {
    /// A saved model in a zip archive, as Fiji's plugin of StarDist takes it: the output has the size of the image.
    SavedModel,
    /// A frozen graph, as QuPath and OpenCV take it: the output is on the grid.
    FrozenGraph,
}

impl Model {
    /// Writes the network of a model of StarDist as a program of TensorFlow (1.12 and later), atomically.
    ///
    /// The input `input` is `[batch, height, width, channels]`, scaled as [`normalization`](Self::normalization) says, with heights and
    /// widths that are multiples of [`Graph::divisor`]; the output `output` has the probability and the distances as its channels.
    /// Classes are left out, as programs take every further channel for a distance. Beside a saved model lies `cellsparse.json`, which
    /// [`import`](Self::import) reads. On a grid a saved model repeats distances over all pixels of a step, and gives the probability at its
    /// first pixel and zeros elsewhere, as `export_TF` of the StarDist package does.
    ///
    /// # Errors
    /// [`Error::Weights`] for a network that is none of StarDist, [`Error::Limit`] for one of 2 GiB and more, [`Error::Io`],
    /// [`Error::NotFound`].
    pub fn save_tensorflow(&self, path: impl AsRef<Path>, form: TensorFlowForm) -> Result<()> {
        let path = path.as_ref();
        let message = self.tensorflow(form)?;
        if message.len() > MOST_BYTES {
            return Err(Error::Limit(format!(
                "the network takes {} bytes; a program of TensorFlow has at most {MOST_BYTES}",
                message.len()
            )));
        }
        if form == TensorFlowForm::FrozenGraph {
            return write_atomically(path, |writer| message.write(writer).map_err(|source| Error::io(path, source)));
        }
        let facts = self.facts().to_string();
        let mut package = Package::empty();
        package.file(SAVED_MODEL, Box::new(move |writer: &mut dyn Write| -> io::Result<()> { message.write(writer) }));
        package.text(FACTS, facts);
        package.save(path)
    }

    fn tensorflow(&self, form: TensorFlowForm) -> Result<Message<'_>> {
        let (config, _) = self.package_form()?;
        let graph: &Graph = &self.network.graph;
        let mut file = GraphFile::default();
        let image = Attribute::Sides(vec![None, None, None, Some(config.n_channels)]);
        file.node("input", "Placeholder", &[], &[("dtype", Attribute::Floats), ("shape", image)]);
        let needed = needed(graph, &graph.outputs()[..2]);
        let parameters = self.network.weights.parameters();
        let mut names = vec![String::new(); graph.nodes().len()];
        for (id, first) in graph.parameter_offsets().into_iter().enumerate().filter(|(id, _)| needed[*id]) {
            let values = |index: usize| parameters.get(first + index).map_or(&[][..], |found| found.values.as_slice());
            names[id] = Translation { file: &mut file, graph, names: &names, id }.add(values);
        }
        let [prob, dist] = [0, 1].map(|output| names[graph.outputs()[output]].clone());
        file.node("prob/Sigmoid", "Sigmoid", &[&prob], &[("T", Attribute::Floats)]);
        let mut parts = ["prob/Sigmoid".to_string(), dist];
        if form == TensorFlowForm::SavedModel && config.grid != [1, 1] {
            parts[0] = spread(&mut file, &parts[0], config.grid);
            parts[1] = upsample(&mut file, "grid", &parts[1], config.grid);
        }
        file.integers("output/axis", &[3], false);
        let kinds = [("N", Attribute::Number(2)), ("T", Attribute::Floats), ("Tidx", Attribute::Integers)];
        file.node("output", "ConcatV2", &[&parts[0], &parts[1], "output/axis"], &kinds);
        Ok(match form {
            TensorFlowForm::SavedModel => file.saved_model([config.n_channels, 1 + config.n_rays]),
            TensorFlowForm::FrozenGraph => file.finish(),
        })
    }
}

/// Which nodes some outputs depend on.
fn needed(graph: &Graph, outputs: &[NodeId]) -> Vec<bool> {
    let mut needed = vec![false; graph.nodes().len()];
    outputs.iter().for_each(|&id| needed[id] = true);
    // Nodes stand behind those that they read.
    for id in (0..needed.len()).rev() {
        if needed[id] {
            inputs(&graph.nodes()[id].op).into_iter().for_each(|input| needed[input] = true);
        }
    }
    needed
}

fn inputs(op: &Op) -> Vec<NodeId> {
    match op {
        Op::Input => Vec::new(),
        Op::Concat { inputs } => inputs.clone(),
        Op::Conv { input, residual, .. } => [Some(*input), *residual].into_iter().flatten().collect(),
        Op::Norm { input, style, .. } => [Some(*input), *style].into_iter().flatten().collect(),
        Op::MaxPool { input, .. }
        | Op::Upsample { input, .. }
        | Op::GlobalAveragePool { input }
        | Op::L2Normalize { input } => vec![*input],
    }
}

/// One node of a network on its way into a file.
struct Translation<'f, 'a> {
    file: &'f mut GraphFile<'a>,
    graph: &'f Graph,
    /// What computes the nodes before it.
    names: &'f [String],
    id: NodeId,
}

impl<'a> Translation<'_, 'a> {
    /// Adds what computes the node and gives its name; `values` are the node's parameters by index.
    fn add(self, values: impl Fn(usize) -> &'a [f32]) -> String {
        let Self { file, graph, names, id } = self;
        let node = &graph.nodes()[id];
        let name = node.name.as_str();
        let layout = ("data_format", Attribute::Text("NHWC"));
        let floats = ("T", Attribute::Floats);
        match &node.op {
            Op::Input => "input".into(),
            Op::Conv { input, kernel: side, activation, .. } => {
                let [kernel, bias, conv, sum] =
                    ["kernel", "bias", "Conv2D", "BiasAdd"].map(|part| format!("{name}/{part}"));
                let channels = graph.nodes()[*input].channels;
                file.floats(&kernel, &[*side, *side, channels, node.channels], Values::Floats(values(0)));
                let ones = || Attribute::List(vec![1; 4]);
                let attributes = [
                    floats.clone(),
                    ("strides", ones()),
                    ("dilations", ones()),
                    ("padding", Attribute::Text("SAME")),
                    layout.clone(),
                ];
                file.node(&conv, "Conv2D", &[&names[*input], &kernel], &attributes);
                file.floats(&bias, &[node.channels], Values::Floats(values(1)));
                file.node(&sum, "BiasAdd", &[&conv, &bias], &[floats, layout]);
                activate(file, name, sum, *activation)
            }
            Op::Norm { input, epsilon, activation, .. } => {
                let parts = ["gamma", "beta", "moving_mean", "moving_variance"].map(|part| format!("{name}/{part}"));
                for (index, part) in parts.iter().enumerate() {
                    file.floats(part, &[node.channels], Values::Floats(values(index)));
                }
                let normalised = format!("{name}/FusedBatchNorm");
                let reads: Vec<&str> = std::iter::once(&names[*input]).chain(&parts).map(String::as_str).collect();
                let attributes =
                    [floats, ("epsilon", Attribute::Float(*epsilon)), layout, ("is_training", Attribute::Flag(false))];
                file.node(&normalised, "FusedBatchNorm", &reads, &attributes);
                activate(file, name, normalised, *activation)
            }
            Op::MaxPool { input, by } => {
                let window = || Attribute::List(vec![1, by[0] as i64, by[1] as i64, 1]);
                let attributes =
                    [floats, ("ksize", window()), ("strides", window()), ("padding", Attribute::Text("VALID")), layout];
                let pooled = format!("{name}/MaxPool");
                file.node(&pooled, "MaxPool", &[&names[*input]], &attributes);
                pooled
            }
            Op::Upsample { input, by } => upsample(file, name, &names[*input], *by),
            Op::Concat { inputs } => {
                let axis = format!("{name}/axis");
                file.integers(&axis, &[3], false);
                let joined = format!("{name}/concat");
                let reads: Vec<&str> =
                    inputs.iter().map(|input| &names[*input]).chain([&axis]).map(String::as_str).collect();
                let count = ("N", Attribute::Number(inputs.len() as i64));
                file.node(&joined, "ConcatV2", &reads, &[count, floats, ("Tidx", Attribute::Integers)]);
                joined
            }
            // No network of StarDist has them.
            Op::GlobalAveragePool { .. } | Op::L2Normalize { .. } => String::new(),
        }
    }
}

fn activate(file: &mut GraphFile<'_>, name: &str, from: String, activation: Activation) -> String {
    if activation == Activation::Linear {
        return from;
    }
    let activated = format!("{name}/Relu");
    file.node(&activated, "Relu", &[&from], &[("T", Attribute::Floats)]);
    activated
}

/// Nearest-neighbour upsampling in the nodes in which Keras writes it, by which OpenCV knows it.
fn upsample(file: &mut GraphFile<'_>, name: &str, from: &str, by: [usize; 2]) -> String {
    let part = |part: &str| format!("{name}/{part}");
    let [shape, begin, end, step, sides] =
        ["Shape", "strided_slice/stack", "strided_slice/stack_1", "strided_slice/stack_2", "strided_slice"].map(part);
    let [factors, size, result] = ["Const", "mul", "ResizeNearestNeighbor"].map(part);
    file.node(&shape, "Shape", &[from], &[("T", Attribute::Floats), ("out_type", Attribute::Integers)]);
    for (name, place) in [(&begin, 1), (&end, 3), (&step, 1)] {
        file.integers(name, &[place], true);
    }
    let mut attributes = vec![("T", Attribute::Integers), ("Index", Attribute::Integers)];
    for mask in ["begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"] {
        attributes.push((mask, Attribute::Number(0)));
    }
    file.node(&sides, "StridedSlice", &[&shape, &begin, &end, &step], &attributes);
    file.integers(&factors, &by.map(|by| by as i32), true);
    file.node(&size, "Mul", &[&sides, &factors], &[("T", Attribute::Integers)]);
    let attributes = [("T", Attribute::Floats), ("align_corners", Attribute::Flag(false))];
    file.node(&result, "ResizeNearestNeighbor", &[from, &size], &attributes);
    result
}

/// A map of one channel with zeros between its values, as many steps apart as the grid says.
fn spread(file: &mut GraphFile<'_>, from: &str, by: [usize; 2]) -> String {
    file.node("spread/Shape", "Shape", &[from], &[("T", Attribute::Floats), ("out_type", Attribute::Integers)]);
    file.integers("spread/Const", &[1, by[0] as i32, by[1] as i32, 1], true);
    file.node("spread/mul", "Mul", &["spread/Shape", "spread/Const"], &[("T", Attribute::Integers)]);
    file.floats("spread/kernel", &[1; 4], Values::Own(vec![1.0]));
    let attributes = [
        ("T", Attribute::Floats),
        ("strides", Attribute::List(vec![1, by[0] as i64, by[1] as i64, 1])),
        ("padding", Attribute::Text("SAME")),
        ("data_format", Attribute::Text("NHWC")),
    ];
    let reads = ["spread/mul", "spread/kernel", from];
    file.node("spread/conv2d_transpose", "Conv2DBackpropInput", &reads, &attributes);
    "spread/conv2d_transpose".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Normalization, StarThresholds};
    use crate::networks::{CellposeConfig, StarDistConfig};

    #[test]
    fn programs_give_the_model_back() {
        let folder = tempfile::tempdir().unwrap();
        let small =
            StarDistConfig { n_rays: 5, n_filter_base: 2, n_depth: 2, net_conv_after_unet: 3, ..Default::default() };
        let configs = [
            small.clone(),
            StarDistConfig { grid: [1, 4], n_channels: 3, n_conv_per_depth: 3, ..small.clone() },
            StarDistConfig { batch_norm: true, n_depth: 1, net_conv_after_unet: 0, grid: [1, 1], ..small.clone() },
            StarDistConfig { n_conv_per_depth: 1, grid: [4, 2], ..small.clone() },
        ];
        for config in configs {
            let mut model = Model::stardist(config, 3).unwrap();
            model.set_normalization(Normalization { pmin: 2.0, pmax: 99.0 }).unwrap();
            model.set_thresholds(StarThresholds { prob: 0.35, nms: 0.3, smallest_object: 12.0 }.into()).unwrap();
            for (form, name) in [(TensorFlowForm::SavedModel, "a.zip"), (TensorFlowForm::FrozenGraph, "a.pb")] {
                let path = folder.path().join(name);
                model.save_tensorflow(&path, form).unwrap();
                let again = Model::import(&path, None).unwrap();
                let (found, notes) = (again.model, again.notes.join(" "));
                assert!(found.weights() == model.weights() && found.architecture() == model.architecture());
                let told = form == TensorFlowForm::SavedModel;
                assert_eq!(told, found.normalization() == model.normalization());
                assert_eq!(told, found.thresholds() == model.thresholds());
                assert_eq!(told, notes.is_empty(), "{notes}");
            }
        }
        let classes = StarDistConfig { n_classes: Some(2), ..small.clone() };
        let path = folder.path().join("a.pb");
        Model::stardist(classes, 0).unwrap().save_tensorflow(&path, TensorFlowForm::FrozenGraph).unwrap();
        let without = Model::import(&path, None).unwrap().model;
        assert_eq!(without.architecture(), &small.into(), "classes are left out");
        let cellpose = Model::cellpose(CellposeConfig { widths: vec![4, 8], ..Default::default() }, 0).unwrap();
        assert!(matches!(cellpose.save_tensorflow(&path, TensorFlowForm::FrozenGraph), Err(Error::Weights(_))));
    }
}
