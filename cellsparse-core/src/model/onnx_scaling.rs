//! The scaling of intensities as a part of an ONNX file: what [`Normalization::apply`] does, in operators.

use serde::{Deserialize, Serialize};

use super::normalization::{FARTHEST, Normalization};
use crate::formats::onnx::{Attribute, DOUBLE, FLOAT, INTEGER, OnnxFile, Values};
use crate::raster::RANGE_EPSILON;

/// Where an ONNX file has the scaling of intensities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnnxNormalization {
    /// In the metadata alone: the input is a scaled image. Every runtime takes the file, and tiles can be scaled as their image is.
    #[default]
    Metadata,
    /// In the network: the input is the image as measured, each channel of each image of which is scaled by its own percentiles.
    Inside,
}

/// The result of [`add_scaling`].
pub(super) const SCALED: &str = "scaled";

/// Adds the nodes that scale `input`, `[batch, channels, height, width]`, to [`SCALED`].
///
/// Percentiles are found by the definition of [`Percentiles::measure`](crate::raster::Percentiles::measure), positions and
/// interpolation in 64 bits, the scaling in 32. Samples that are not finite, which the library refuses, give anything.
pub(super) fn add_scaling(file: &mut OnnxFile<'_>, input: &str, normalization: Normalization) {
    let Normalization { pmin, pmax } = normalization;
    if [pmin, pmax].into_iter().any(is_between) {
        add_counts(file, input);
    }
    let (low, high) = ("scaling/low", "scaling/high");
    add_percentile(file, input, pmin, low);
    add_percentile(file, input, pmax, high);
    for (name, value) in [("scaling/epsilon", RANGE_EPSILON), ("scaling/least", -FARTHEST), ("scaling/most", FARTHEST)]
    {
        file.constant(name, &[], Values::Own(vec![value]));
    }
    file.node("Sub", &[high, low], "scaling/distance", &[]);
    file.node("Add", &["scaling/distance", "scaling/epsilon"], "scaling/range", &[]);
    file.node("Sub", &[input, low], "scaling/above", &[]);
    file.node("Div", &["scaling/above", "scaling/range"], "scaling/quotient", &[]);
    file.node("Clip", &["scaling/quotient", "scaling/least", "scaling/most"], SCALED, &[]);
}

/// Whether a percentile is neither the minimum nor the maximum.
fn is_between(percentile: f64) -> bool {
    percentile > 0.0 && percentile < 100.0
}

/// Adds the pixels of each channel in a row, their number, and that of the last from 0 as thousands and rest.
fn add_counts(file: &mut OnnxFile<'_>, input: &str) {
    for (name, values) in [
        ("scaling/in_rows", vec![0, 0, -1]),
        ("scaling/side", vec![2]),
        ("scaling/one", vec![1]),
        ("scaling/thousand", vec![1000]),
        ("scaling/last_side", vec![3]),
    ] {
        file.constant(name, &[values.len()], Values::Integers(values));
    }
    file.node("Reshape", &[input, "scaling/in_rows"], "scaling/pixels", &[]);
    file.node("Shape", &["scaling/pixels"], "scaling/shape", &[]);
    file.node("Gather", &["scaling/shape", "scaling/side"], "scaling/count", &[]);
    file.node("Sub", &["scaling/count", "scaling/one"], "scaling/last", &[]);
    file.node("Div", &["scaling/last", "scaling/thousand"], "scaling/thousands", &[]);
    file.node("Mul", &["scaling/thousands", "scaling/thousand"], "scaling/whole", &[]);
    file.node("Sub", &["scaling/last", "scaling/whole"], "scaling/rest", &[]);
    let to_double = [("to", Attribute::Integer(DOUBLE))];
    file.node("Cast", &["scaling/thousands"], "scaling/thousands_wide", &to_double);
    file.node("Cast", &["scaling/rest"], "scaling/rest_wide", &to_double);
}

/// Adds what computes a percentile of every channel, `[batch, channels, 1, 1]`.
fn add_percentile(file: &mut OnnxFile<'_>, input: &str, percentile: f64, result: &str) {
    if !is_between(percentile) {
        let operator = if percentile <= 0.0 { "ReduceMin" } else { "ReduceMax" };
        let sides = [("axes", Attribute::Integers(vec![2, 3])), ("keepdims", Attribute::Integer(1))];
        file.node(operator, &[input], result, &sides);
        return;
    }
    let of = |part: &str| format!("{result}/{part}");
    add_place(file, percentile, &of);
    // Sorted from the nearer end, only as far as the two samples that the percentile lies between.
    let from_above = percentile > 50.0;
    let (first, second, count) = (of("first"), of("second"), of("sorted_count"));
    if from_above {
        file.node("Sub", &["scaling/last", &of("below")], &first, &[]);
        file.node("Sub", &["scaling/last", &of("next")], &second, &[]);
        file.node("Add", &[&first, "scaling/one"], &count, &[]);
    } else {
        file.node("Identity", &[&of("below")], &first, &[]);
        file.node("Identity", &[&of("next")], &second, &[]);
        file.node("Add", &[&second, "scaling/one"], &count, &[]);
    }
    let sorting = [
        ("axis", Attribute::Integer(2)),
        ("largest", Attribute::Integer(from_above.into())),
        ("sorted", Attribute::Integer(1)),
    ];
    file.node_of_several("TopK", &["scaling/pixels", &count], &[&of("sorted"), &of("places")], &sorting);
    let to_double = [("to", Attribute::Integer(DOUBLE))];
    for (index, sample) in [(&first, "lower"), (&second, "upper")] {
        let narrow = of(&format!("{sample}_narrow"));
        file.node("Gather", &[&of("sorted"), index], &narrow, &[("axis", Attribute::Integer(2))]);
        file.node("Cast", &[&narrow], &of(sample), &to_double);
    }
    file.node("Sub", &[&of("upper"), &of("lower")], &of("gap"), &[]);
    file.node("Mul", &[&of("gap"), &of("fraction")], &of("part"), &[]);
    file.node("Add", &[&of("lower"), &of("part")], &of("wide"), &[]);
    file.node("Cast", &[&of("wide")], &of("narrow"), &[("to", Attribute::Integer(FLOAT))]);
    file.node("Unsqueeze", &[&of("narrow"), "scaling/last_side"], result, &[]);
}

/// Adds where a percentile lies among sorted samples: the samples `below` and `next`, from 0, and the `fraction` behind the first.
///
/// The position is `percentile / 100 * last`, by thousands of pixels and the rest: runtimes that compute in 32 bits find it in large
/// images, too, since most of it is a whole number.
fn add_place(file: &mut OnnxFile<'_>, percentile: f64, of: &impl Fn(&str) -> String) {
    let of_thousand = 10.0 * percentile;
    file.constant(&of("of_thousand"), &[1], Values::Integers(vec![of_thousand as i64]));
    file.constant(&of("more_of_thousand"), &[1], Values::Doubles(vec![of_thousand.fract()]));
    file.constant(&of("of_one"), &[1], Values::Doubles(vec![percentile / 100.0]));
    file.node("Mul", &["scaling/thousands", &of("of_thousand")], &of("whole"), &[]);
    file.node("Mul", &["scaling/thousands_wide", &of("more_of_thousand")], &of("more"), &[]);
    file.node("Mul", &["scaling/rest_wide", &of("of_one")], &of("rest"), &[]);
    file.node("Add", &[&of("more"), &of("rest")], &of("behind"), &[]);
    // To whole numbers is towards 0, and nothing is below it.
    file.node("Cast", &[&of("behind")], &of("steps"), &[("to", Attribute::Integer(INTEGER))]);
    file.node("Cast", &[&of("steps")], &of("steps_wide"), &[("to", Attribute::Integer(DOUBLE))]);
    file.node("Sub", &[&of("behind"), &of("steps_wide")], &of("fraction"), &[]);
    file.node("Add", &[&of("whole"), &of("steps")], &of("position"), &[]);
    file.node("Min", &[&of("position"), "scaling/last"], &of("below"), &[]);
    file.node("Add", &[&of("below"), "scaling/one"], &of("after"), &[]);
    file.node("Min", &[&of("after"), "scaling/last"], &of("next"), &[]);
}

#[cfg(test)]
#[cfg(feature = "keras")]
mod tests {
    use super::*;
    use crate::formats::onnx::written;
    use crate::model::{Architecture, Model, OnnxOptions};
    use crate::networks::{CellposeConfig, ElephantConfig, StarDistConfig};

    /// The operators of a file whose nodes all read what comes before them, with what they read.
    fn operators(model: &Model, normalization: OnnxNormalization) -> Vec<(String, Vec<String>)> {
        let mut bytes = Vec::new();
        model.write_onnx_with(&mut bytes, &OnnxOptions { normalization }).unwrap();
        let (nodes, mut known) = written(&bytes);
        for (operator, inputs, outputs) in &nodes {
            for input in inputs.iter().filter(|input| !input.is_empty()) {
                assert!(known.contains(input), "{operator} reads {input}");
            }
            assert!(outputs.iter().all(|output| !known.contains(output)), "{outputs:?} are there already");
            known.extend(outputs.iter().cloned());
        }
        nodes.into_iter().map(|(operator, inputs, _)| (operator, inputs)).collect()
    }

    #[test]
    fn the_network_sees_what_is_scaled_before_it() {
        let stardist = StarDistConfig { n_filter_base: 4, n_channels: 2, ..Default::default() };
        let elephant = ElephantConfig { widths: vec![4, 8], residual: true, ..Default::default() };
        let cellpose = CellposeConfig { widths: vec![4, 8], ..Default::default() };
        for architecture in [Architecture::from(stardist), elephant.into(), cellpose.into()] {
            let mut model = Model::new(architecture, 1).unwrap();
            for (pmin, pmax, sorts, ends) in [(1.0, 99.8, 2, 0), (0.0, 99.0, 1, 1), (0.0, 100.0, 0, 2)] {
                model.set_normalization(Normalization { pmin, pmax }).unwrap();
                let plain = operators(&model, OnnxNormalization::Metadata);
                let scaling = operators(&model, OnnxNormalization::Inside);
                let count = |nodes: &[(String, Vec<String>)], wanted: &[&str]| {
                    nodes.iter().filter(|(operator, _)| wanted.contains(&operator.as_str())).count()
                };
                assert_eq!([count(&scaling, &["TopK"]), count(&scaling, &["ReduceMin", "ReduceMax"])], [sorts, ends]);
                assert_eq!(count(&plain, &["TopK", "ReduceMin", "ReduceMax", "Clip"]), 0);
                // The rest is the same network, which reads the one or the other.
                let rest = &scaling[scaling.len() - plain.len()..];
                let readers = |nodes: &[(String, Vec<String>)], name: &str| {
                    nodes.iter().filter(|(_, inputs)| inputs.iter().any(|input| input == name)).count()
                };
                assert!(plain.iter().zip(rest).all(|(a, b)| a.0 == b.0));
                assert_eq!((readers(rest, "input"), readers(rest, SCALED)), (0, readers(&plain, "input")));
            }
        }
    }
}
