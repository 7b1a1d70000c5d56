//! The metadata of OME-Zarr: the arrays with the resolutions of an image, their axes, and how large a pixel is.
//!
//! Source: the specification of next-generation file formats (NGFF), versions 0.1 to 0.5.

use serde_json::Value;

use super::super::{Decoded, Problem, micrometres};
use super::axes::Axes;
use super::store::inside;

/// Resolutions of an image, at most.
const MOST_LEVELS: usize = 64;

/// What a group says of its image.
#[derive(Debug)]
pub(super) struct Multiscale {
    /// The arrays from the largest on.
    pub(super) arrays: Vec<String>,
    /// As the metadata has them.
    pub(super) axes: Value,
    /// Scales of each of them, an axis each; none where they are not told.
    scales: Vec<Vec<f64>>,
    /// Images that are not read.
    pub(super) others: usize,
}

impl Multiscale {
    /// The first image that the attributes of the group `node` describe; `None` for a group that is none.
    pub(super) fn find(node: &str, ome: &Value) -> Decoded<Option<Self>> {
        let Some(list) = ome["multiscales"].as_array() else { return Ok(None) };
        let Some(first) = list.first() else {
            return Err(Problem::unusable("the multiscales metadata is empty; the image was not written to its end"));
        };
        let datasets = first["datasets"].as_array().map(Vec::as_slice).unwrap_or_default();
        if datasets.is_empty() || datasets.len() > MOST_LEVELS {
            return Err(Problem::unusable(format!(
                "the multiscales metadata names {} arrays; 1 to {MOST_LEVELS} are read",
                datasets.len()
            )));
        }
        let path = |dataset: &Value| match dataset["path"].as_str() {
            Some(path) => inside(node, path),
            None => Err(Problem::unusable("the multiscales metadata has an array without a path")),
        };
        let of_all = scale(&first["coordinateTransformations"]);
        let scales = datasets.iter().map(|dataset| match (scale(&dataset["coordinateTransformations"]), &of_all) {
            (Some(one), Some(all)) if one.len() == all.len() => {
                one.iter().zip(all).map(|(one, all)| one * all).collect()
            }
            (Some(one), _) => one,
            (None, all) => all.clone().unwrap_or_default(),
        });
        Ok(Some(Self {
            arrays: datasets.iter().map(path).collect::<Decoded<_>>()?,
            axes: first["axes"].clone(),
            scales: scales.collect(),
            others: list.len() - 1,
        }))
    }

    /// Micrometres per pixel `[y, x]` of a level, where scales and units are told. A scale without a unit is none of length.
    pub(super) fn pixel_size(&self, axes: &Axes, level: usize) -> Option<[f64; 2]> {
        let scale = self.scales.get(level)?;
        let size = |axis: usize| micrometres(*scale.get(axis)?, self.axes[axis]["unit"].as_str()?);
        Some([size(axes.plane[0])?, size(axes.plane[1])?])
    }
}

/// The scale among transformations.
fn scale(transformations: &Value) -> Option<Vec<f64>> {
    let all = transformations.as_array()?;
    let scale = all.iter().find(|one| one["type"].as_str() == Some("scale"))?;
    scale["scale"].as_array()?.iter().map(Value::as_f64).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scales_multiply_and_need_units() {
        let axes = json!([{"name": "y", "unit": "micrometer"}, {"name": "x", "unit": "nanometer"}]);
        let ome = |unit: bool| {
            let axes = if unit { axes.clone() } else { json!(["y", "x"]) };
            json!({"multiscales": [{
                "axes": axes,
                "datasets": [{"path": "0", "coordinateTransformations": [
                    {"type": "scale", "scale": [0.25, 250]}, {"type": "translation", "translation": [1, 1]}]}, {"path": "s/1"}],
                "coordinateTransformations": [{"type": "scale", "scale": [2, 2]}],
            }]})
        };
        let found = Multiscale::find("a", &ome(true)).unwrap().unwrap();
        let axes = Axes::of_multiscale(&found.axes, &[5, 6]).unwrap();
        assert_eq!(
            (found.arrays.as_slice(), found.pixel_size(&axes, 0)),
            (&["a/0".to_string(), "a/s/1".into()][..], Some([0.5, 0.5]))
        );
        assert_eq!(Multiscale::find("", &ome(false)).unwrap().unwrap().pixel_size(&axes, 0), None);
        assert!(Multiscale::find("", &json!({})).unwrap().is_none());
        for wrong in [
            json!([]),
            json!([{}]),
            json!([{"datasets": []}]),
            json!([{"datasets": [{}]}]),
            json!([{"datasets": [{"path": "../other"}]}]),
        ] {
            assert!(Multiscale::find("", &json!({"multiscales": wrong})).is_err(), "{wrong}");
        }
    }
}
