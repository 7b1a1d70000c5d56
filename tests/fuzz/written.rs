//! Weights of Keras that are written and read again.

use std::path::Path;

use cellsparse_core::formats::keras::decode_keras;
use cellsparse_core::formats::keras_writer::KerasWeights;

use crate::fuzz;

#[test]
fn weights_of_keras_are_written_and_read_again() {
    fuzz("written weights of Keras", 50, |random| {
        let count = random.below(80);
        let mut layers: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
        for number in 0..=count {
            let shape: Vec<usize> = (0..random.below(5)).map(|_| 1 + random.below(5)).collect();
            let values = (0..shape.iter().product()).map(|_| f32::from_bits(random.below(1 << 31) as u32)).collect();
            layers.push((format!("{}layer_{number}", "x".repeat(random.below(40))), shape, values));
        }
        let mut weights = KerasWeights::default();
        for (name, shape, values) in &layers {
            weights.layer(name, [("kernel", &shape[..], &values[..])]);
        }
        let mut bytes = Vec::new();
        weights.write(&mut bytes).map_err(|error| error.to_string())?;
        let found = decode_keras(bytes, Path::new("a.h5")).map_err(|error| error.to_string())?.into_named_arrays();
        let same = |(name, shape, values): &(String, Vec<usize>, Vec<f32>)| {
            found.get(&format!("{name}/kernel")).is_some_and(|(other, read)| {
                other == shape
                    && read.iter().map(|value| value.to_bits()).eq(values.iter().map(|value| value.to_bits()))
            })
        };
        if found.len() == layers.len() && layers.iter().all(same) { Ok(true) } else { Err("other arrays".into()) }
    });
}
