//! Weights by name as other programs keep them.

use super::shortened::shortened;
use super::tensors::NamedArrays;

/// One array of foreign weights.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedArray {
    /// Its name, as in `downsample.down.res_down_0.proj.1.weight`.
    pub name: String,
    /// Its shape; empty for a single number.
    pub shape: Vec<usize>,
    /// Its values in row-major order, as many as the product of `shape`.
    pub values: Vec<f32>,
}

/// Foreign weights in the order of their file, every name once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateDict {
    /// The arrays.
    pub arrays: Vec<NamedArray>,
    /// What a person should know about the reading, one sentence each: wrappers opened, entries left out.
    pub notes: Vec<String>,
}

impl StateDict {
    /// The arrays by name, without their order.
    pub fn into_named_arrays(self) -> NamedArrays {
        self.arrays.into_iter().map(|array| (array.name, (array.shape, array.values))).collect()
    }

    /// The first few names in quotes, for messages.
    pub fn first_names(&self) -> String {
        let mut names: Vec<String> =
            self.arrays.iter().take(4).map(|array| format!("'{}'", shortened(&array.name))).collect();
        if self.arrays.len() > names.len() {
            names.push("...".to_string());
        }
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_are_listed() {
        let array = |name: &str| NamedArray { name: name.into(), shape: vec![], values: vec![1.0] };
        let mut dict = StateDict { arrays: vec![array("a"), array("b")], notes: vec![] };
        assert_eq!(dict.first_names(), "'a', 'b'");
        dict.arrays.extend([array("c"), array("d"), array("e")]);
        assert_eq!(dict.first_names(), "'a', 'b', 'c', 'd', ...");
    }
}
