//! Weights by name as other programs keep them.

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

/// A name from a file, fit for one line of a message: at most 80 characters, nothing that a terminal would obey.
pub(super) fn shortened(name: &str) -> String {
    let mut text: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_on_one_line() {
        assert_eq!(shortened("a\n\u{1b}[31mé"), "a\\n\\u{1b}[31mé");
        assert_eq!(shortened(&"x".repeat(90)), "x".repeat(80) + "...");
        let array = |name: &str| NamedArray { name: name.into(), shape: vec![], values: vec![1.0] };
        let mut dict = StateDict { arrays: vec![array("a"), array("b")], notes: vec![] };
        assert_eq!(dict.first_names(), "'a', 'b'");
        dict.arrays.extend([array("c"), array("d"), array("e")]);
        assert_eq!(dict.first_names(), "'a', 'b', 'c', 'd', ...");
    }
}
