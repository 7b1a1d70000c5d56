//! Weights as Keras 2 saves them (`model.save_weights("weights.h5")`), which Keras 3, TensorFlow and the StarDist package load.
//!
//! A file names its layers in the order in which Keras has them (`layer_names`), each layer its arrays (`weight_names`), and an array
//! lies at `LAYER/LAYER/PART:0`. Layers without weights, which Keras skips as it loads, are not named.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::hdf5_writer::Hdf5Group;

/// The version of Keras that files state; it says how kernels lie, which has not changed since version 2.
const KERAS_VERSION: &str = "2.15.0";

/// Weights that are about to be written.
#[derive(Debug, Default)]
pub struct KerasWeights<'a> {
    root: Hdf5Group<'a>,
    layers: Vec<String>,
}

impl<'a> KerasWeights<'a> {
    /// Adds a layer with its arrays, each with its name (`kernel`, `bias`, `gamma`, ...), shape and row-major values, in the order of
    /// Keras. Kernels are `[k, k, in, out]`.
    pub fn layer<'n>(&mut self, name: &str, arrays: impl IntoIterator<Item = (&'n str, &'n [usize], &'a [f32])>) {
        let group = self.root.group(name);
        let mut names = Vec::new();
        for (part, shape, values) in arrays {
            let file_name = format!("{part}:0");
            group.group(name).array(&file_name, shape, values);
            names.push(format!("{name}/{file_name}"));
        }
        group.texts("weight_names", names);
        self.layers.push(name.to_string());
    }

    /// Writes the file.
    ///
    /// # Errors
    /// What the writer reports; kind `InvalidInput` for layers of one name and for names, shapes and numbers of layers that no file
    /// can hold.
    pub fn write(mut self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        if self.layers.iter().collect::<BTreeSet<_>>().len() != self.layers.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "two layers of one name"));
        }
        self.root.texts("layer_names", self.layers);
        self.root.text("backend", "tensorflow");
        self.root.text("keras_version", KERAS_VERSION);
        self.root.write(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::formats::keras::decode_keras;

    #[test]
    fn what_is_written_is_read_to_the_bit() {
        let values: Vec<f32> = (0..36).map(|value| f32::from_bits(0x3f80_0001 + value)).collect();
        let mut weights = KerasWeights::default();
        weights.layer("prob", [("kernel", &[3, 3, 2, 2][..], &values[..]), ("bias", &[2], &values[5..7])]);
        weights.layer("conv2d", [("kernel", &[1, 1, 1, 36][..], &values[..])]);
        let mut bytes = Vec::new();
        weights.write(&mut bytes).unwrap();
        let found = decode_keras(bytes, Path::new("x.h5")).unwrap().into_named_arrays();
        assert_eq!(found.len(), 3);
        assert_eq!(found["prob/kernel"], (vec![3, 3, 2, 2], values.clone()));
        assert_eq!(found["prob/bias"], (vec![2], values[5..7].to_vec()));
        assert_eq!(found["conv2d/kernel"], (vec![1, 1, 1, 36], values.clone()));
        let mut twice = KerasWeights::default();
        (0..2).for_each(|_| twice.layer("a", [("bias", &[1][..], &values[..1])]));
        assert!(twice.write(&mut Vec::new()).is_err());
    }
}
