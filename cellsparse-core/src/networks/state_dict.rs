//! The names and shapes of PyTorch state dicts, for networks whose layers have PyTorch's names.

use std::borrow::Cow;
use std::collections::HashMap;

use super::graph::Graph;
use super::weights::Weights;
use crate::error::Result;

/// Named arrays: shape and values.
type Arrays = HashMap<String, (Vec<usize>, Vec<f32>)>;

/// Weights from a PyTorch state dict; entries that are no parameters of a network (`num_batches_tracked`, `diam_mean`,
/// `diam_labels`) are left out.
///
/// Kernels `[out, in, k, k]` and matrices `[out, in]` become `[k, k, in, out]`.
///
/// # Errors
/// [`Error::Weights`](crate::Error::Weights) as [`Weights::from_named`].
pub fn from_state_dict(graph: &Graph, arrays: Arrays) -> Result<Weights> {
    let torch_names: HashMap<String, &'static str> = graph
        .parameters()
        .iter()
        .filter_map(|spec| split(&spec.name))
        .map(|(layer, part)| (torch_name(layer, part), part))
        .collect();
    let mut named = Arrays::new();
    for (name, (shape, values)) in arrays {
        if name.ends_with("num_batches_tracked") || name == "diam_mean" || name == "diam_labels" {
            continue;
        }
        let Some(part) = torch_names.get(&name) else {
            named.insert(name, (shape, values));
            continue;
        };
        let layer = name.rsplit_once('.').map_or(name.as_str(), |(layer, _)| layer);
        let value = match *part {
            "kernel" => to_kernel(&shape, &values),
            _ => (shape, values),
        };
        named.insert(format!("{layer}/{part}"), value);
    }
    Weights::from_named(graph, named)
}

/// The state dict of `weights`, in the network's order: name, shape, values. A fully connected layer's matrix is `[out, in]`,
/// a kernel `[out, in, k, k]`.
pub fn to_state_dict(graph: &Graph, weights: &Weights) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let owned = |entry: StateDictEntry<'_>| {
        let values = entry.values().into_owned();
        (entry.name, entry.shape, values)
    };
    state_dict_entries(graph, weights).into_iter().map(owned).collect()
}

/// An entry of a state dict whose values are not made yet.
#[derive(Debug, Clone)]
pub struct StateDictEntry<'w> {
    /// Its name.
    pub name: String,
    /// Its shape, as PyTorch has it.
    pub shape: Vec<usize>,
    /// Values as the network has them.
    stored: &'w [f32],
    /// `[taps, in, out]` of a kernel.
    kernel: Option<[usize; 3]>,
}

impl<'w> StateDictEntry<'w> {
    /// Its values in row-major order.
    pub fn values(&self) -> Cow<'w, [f32]> {
        match self.kernel {
            Some(sides) => Cow::Owned(from_kernel(sides, self.stored)),
            None => Cow::Borrowed(self.stored),
        }
    }
}

/// The entries of [`to_state_dict`], made one at a time.
pub fn state_dict_entries<'w>(graph: &Graph, weights: &'w Weights) -> Vec<StateDictEntry<'w>> {
    let mut entries = Vec::new();
    for (id, node) in graph.nodes().iter().enumerate() {
        for spec in graph.node_parameters(id) {
            let Some(parameter) = weights.parameters().iter().find(|parameter| parameter.spec.name == spec.name) else {
                continue;
            };
            let Some((layer, part)) = split(&spec.name) else { continue };
            let (shape, kernel) = match *spec.shape {
                [rows, columns, inputs, outputs] if part == "kernel" => {
                    let is_matrix = node.scale == [0, 0];
                    let shape = if is_matrix { vec![outputs, inputs] } else { vec![outputs, inputs, rows, columns] };
                    (shape, Some([rows * columns, inputs, outputs]))
                }
                _ => (spec.shape.clone(), None),
            };
            entries.push(StateDictEntry { name: torch_name(layer, part), shape, stored: &parameter.values, kernel });
        }
    }
    entries
}

/// Layer and part of a parameter's name.
fn split(name: &str) -> Option<(&str, &'static str)> {
    let (layer, part) = name.rsplit_once('/')?;
    let known = ["kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"];
    Some((layer, known.into_iter().find(|known| *known == part)?))
}

fn torch_name(layer: &str, part: &str) -> String {
    let part = match part {
        "kernel" | "gamma" => "weight",
        "beta" => "bias",
        "moving_mean" => "running_mean",
        "moving_variance" => "running_var",
        other => other,
    };
    format!("{layer}.{part}")
}

/// `[out, in, k, k]` or `[out, in]` as `[k, k, in, out]`; anything else is left for the check of shapes to refuse.
fn to_kernel(shape: &[usize], values: &[f32]) -> (Vec<usize>, Vec<f32>) {
    let (outputs, inputs, rows, columns) = match *shape {
        [outputs, inputs] => (outputs, inputs, 1, 1),
        [outputs, inputs, rows, columns] => (outputs, inputs, rows, columns),
        _ => return (shape.to_vec(), values.to_vec()),
    };
    let taps = rows * columns;
    let mut result = vec![0.0; values.len()];
    for (index, value) in values.iter().enumerate() {
        let (o, i, tap) = (index / (inputs * taps), index / taps % inputs, index % taps);
        result[(tap * inputs + i) * outputs + o] = *value;
    }
    (vec![rows, columns, inputs, outputs], result)
}

/// `[taps, in, out]` as `[out, in, taps]`.
fn from_kernel([taps, inputs, outputs]: [usize; 3], values: &[f32]) -> Vec<f32> {
    let mut result = vec![0.0; values.len()];
    for (index, value) in values.iter().enumerate() {
        let (tap, i, o) = (index / (inputs * outputs), index / outputs % inputs, index % outputs);
        result[(o * inputs + i) * taps + tap] = *value;
    }
    result
}
