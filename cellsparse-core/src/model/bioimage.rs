//! Models as packages of bioimage.io, which its programs (deepImageJ, Ilastik, napari plugins, JDLL) run.

use std::path::Path;

use ndarray::{Array3, ArrayD, Axis};
use serde::Deserialize;
use serde_json::{Value, json};

use super::facade::Model;
use super::network::fill_from;
use super::onnx::OnnxOptions;
use super::options::PredictOptions;
use super::pixel_size;
use super::work::Work;
use crate::budget::Budget;
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::formats::bioimage::{OWN_MODEL, Package};
use crate::formats::onnx::OPERATOR_SET;
use crate::formats::overlay;
use crate::networks::Device;
use crate::random::Random;
use crate::raster::Image;

/// Version of the model description that is written.
const FORMAT_VERSION: &str = "0.5.4";
/// Least side of the image to test with, in pixels.
const SIDE: usize = 128;

/// What a package says about a model that the model does not know.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
#[non_exhaustive]
pub struct PackageDescription {
    /// Its name, of letters, digits, spaces, `_`, `-` and parentheses.
    pub name: Option<String>,
    /// One sentence.
    pub description: Option<String>,
    /// Names of people.
    pub authors: Vec<String>,
    /// Identifier of SPDX, like `CC-BY-4.0`. Without one the package states none, and nobody may use it without asking.
    pub license: Option<String>,
    /// What it was trained on, a paragraph for the documentation.
    pub training_data: Option<String>,
}

impl Model {
    /// Writes a package of bioimage.io (a zip archive, model description 0.5), atomically: the network as ONNX with its scaling
    /// of intensities, an image and the network's answers to test it with, documentation, a picture, and the model itself, which
    /// [`import`](Self::import) takes out again.
    ///
    /// # Errors
    /// [`Error::Config`] for a name that no package can have, and as [`save_onnx`](Self::save_onnx) and
    /// [`predict`](Self::predict).
    pub fn save_bioimage(&self, path: impl AsRef<Path>, about: &PackageDescription) -> Result<()> {
        let image = self.test_image();
        // One after the other, since they may see the image in tiles of different sizes, each with a network of its own.
        let answers = self.sparing(|work| self.answers(&image, work))?;
        let picture = self.sparing(|work| self.picture(&image, work))?;
        let name = match &about.name {
            Some(name) => name.clone(),
            None => format!("cellsparse {} network", self.algorithm()),
        };
        let fits = |c: char| c.is_alphanumeric() || "_-() ".contains(c);
        if !(5..=128).contains(&name.chars().count()) || !name.chars().all(fits) {
            return Err(Error::Config(format!(
                "the name of a package is '{name:.140}'; it must have 5 to 128 letters, digits, spaces, '_', '-' or parentheses"
            )));
        }
        let mut package = Package::new(&self.description(&name, about, &image, &answers));
        let onnx = self.onnx(&OnnxOptions::default())?;
        package.file("weights.onnx", Box::new(move |writer| onnx.write(writer)));
        package.array("test_input.npy", first(image.clone()));
        for (output, answer) in self.algorithm().facts().outputs.iter().zip(&answers) {
            package.array(&format!("test_{}.npy", output.name), first(answer.clone()));
        }
        package.text("README.md", self.documentation(&name, about));
        package.picture("cover.png", picture.view())?;
        package.file(OWN_MODEL, Box::new(|writer| self.to_writer(writer).map_err(std::io::Error::other)));
        package.save(path.as_ref())
    }

    /// Round spots of varied size and brightness on an uneven ground, `[H, W, C]`, the same each time.
    fn test_image(&self) -> Array3<f32> {
        let sides = self.network.graph.divisor().map(|divisor| SIDE.next_multiple_of(divisor.max(1)));
        let mut random = Random::new(0, 0);
        let spots: Vec<[f64; 4]> = (0..24)
            .map(|_| {
                let [height, width] = sides.map(|side| side as f64);
                let (y, x) = (random.uniform(0.0, height), random.uniform(0.0, width));
                [y, x, random.uniform(5.0, 11.0), random.uniform(80.0, 200.0)]
            })
            .collect();
        Array3::from_shape_fn((sides[0], sides[1], self.architecture.n_channels()), |(y, x, c)| {
            let (y, x) = (y as f64, x as f64);
            let of_spot = |[cy, cx, radius, brightness]: &[f64; 4]| {
                let beyond = ((y - cy).hypot(x - cx) - radius) / 1.5;
                brightness / (1.0 + beyond.exp())
            };
            let lit = spots.iter().map(of_spot).fold(0.0, f64::max);
            (20.0 + 0.1 * x + lit / (1 + c) as f64).round() as f32
        })
    }

    /// What the network answers, as the file of the network gives it: `[h, w, channels]` for each output.
    fn answers(&self, image: &Array3<f32>, work: &Work<'_>) -> Result<Vec<Array3<f32>>> {
        let (height, width, _) = image.dim();
        let input = self.network.input(&Image::F32(image.clone()), false, &CancelToken::new())?;
        let mut found = self.network.run(work, [1, height, width], fill_from(input.view()))?;
        let found = found.pop().unwrap_or_default();
        Ok(self.algorithm().facts().outputs.iter().zip(found).map(|(output, values)| output.of(values)).collect())
    }

    /// The image with the outlines of the objects that the model finds in it.
    fn picture(&self, image: &Array3<f32>, work: &Work<'_>) -> Result<Array3<u8>> {
        let shown = Image::F32(image.clone());
        let input = self.network.input(&shown, false, &CancelToken::new())?;
        let options = PredictOptions::default();
        let found = self.settings()?.segment(&self.network, input.view(), &options, work)?;
        overlay(&shown, &found.segmentation.labels, None)
    }

    /// Works with a network that takes memory for the weights of one layer at a time, and does not keep it: weights of a hundred
    /// megabytes are prepared for speed in half a gigabyte.
    fn sparing<T: Send>(&self, compute: impl FnOnce(&Work<'_>) -> Result<T> + Send) -> Result<T> {
        let device = Device::sparing_cpu();
        self.network.engines.clear();
        let done = self
            .network
            .engines
            .install(None, || compute(&Work::plain(&device, &CancelToken::new(), Budget::of_free_memory())));
        self.network.engines.clear();
        done
    }

    fn description(
        &self,
        name: &str,
        about: &PackageDescription,
        image: &Array3<f32>,
        answers: &[Array3<f32>],
    ) -> Value {
        let algorithm = self.algorithm();
        let (_, _, channels) = image.dim();
        let divisor = self.network.graph.divisor();
        let pixel = self.pixel_size;
        let side = |axis: usize, name: &str, size: Value, scale: f64| {
            let mut described = json!({"type": "space", "id": name, "size": size});
            match pixel {
                Some(pixel) => {
                    described["unit"] = json!("micrometer");
                    described["scale"] = json!(pixel[axis] * scale);
                }
                None => described["scale"] = json!(scale),
            }
            described
        };
        let channel = |count: usize, prefix: &str| {
            let names: Vec<String> = (0..count).map(|channel| format!("{prefix}{channel}")).collect();
            json!({"type": "channel", "channel_names": names})
        };
        let mut sides = Vec::new();
        for (axis, name) in ["y", "x"].into_iter().enumerate() {
            sides.push(side(axis, name, json!({"min": divisor[axis], "step": divisor[axis]}), 1.0));
        }
        let scaling = json!({"id": "scale_range", "kwargs": {
            "axes": ["y", "x"], "min_percentile": self.network.normalization.pmin, "max_percentile": self.network.normalization.pmax, "eps": 1e-20,
        }});
        let input = json!({
            "id": "input", "description": "the image, as measured",
            "axes": [{"type": "batch"}, channel(channels, "channel"), sides[0], sides[1]],
            "test_tensor": {"source": "test_input.npy"},
            "data": {"type": "float32"},
            "preprocessing": [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}, scaling],
        });
        let mut results = Vec::new();
        for ((output, answer), &id) in
            self.algorithm().facts().outputs.iter().zip(answers).zip(self.network.graph.outputs())
        {
            let scale = self.network.graph.nodes()[id].scale;
            let size = |axis: usize, name: &str| match scale[axis] {
                0 => json!({"type": "space", "id": name, "size": 1}),
                by => side(axis, name, json!({"tensor_id": "input", "axis_id": name}), by as f64),
            };
            results.push(json!({
                "id": output.name, "description": output.meaning,
                "axes": [{"type": "batch"}, channel(answer.dim().2, output.name), size(0, "y"), size(1, "x")],
                "test_tensor": {"source": format!("test_{}.npy", output.name)},
                "data": {"type": "float32"},
            }));
        }
        let citation = self.algorithm().facts().citation;
        let mut description = json!({
            "type": "model",
            "format_version": FORMAT_VERSION,
            "name": name,
            "description": about.description.clone().unwrap_or_else(|| format!(
                "A network of {algorithm} for the segmentation of cells, trained with cellsparse."
            )),
            "authors": about.authors.iter().map(|name| json!({"name": name})).collect::<Vec<Value>>(),
            "cite": [json!({"text": citation[0], "doi": citation[1]})],
            "documentation": "README.md",
            "covers": ["cover.png"],
            "attachments": [{"source": OWN_MODEL}],
            "tags": ["cellsparse", algorithm.name(), "2d", "cells", "instance-segmentation", "onnx"],
            "inputs": [input],
            "outputs": results,
            "weights": {"onnx": {"source": "weights.onnx", "opset_version": OPERATOR_SET}},
            "config": {"cellsparse": self.facts()},
        });
        if let Some(license) = &about.license {
            description["license"] = json!(license);
        }
        description
    }

    /// The page that people read.
    fn documentation(&self, name: &str, about: &PackageDescription) -> String {
        let info = self.info();
        let mut text = format!("# {name}\n\n");
        text.push_str(&match &about.description {
            Some(description) => format!("{description}\n\n"),
            None => String::new(),
        });
        text.push_str(&format!(
            "A network of {} with {} parameters, written by cellsparse {}. The file `{OWN_MODEL}` is the whole model: `cellsparse \
             predict` and the Python package `cellsparse` turn images into label images and outlines with it.\n\n## From maps to \
             cells\n\n{}\n\n",
            self.algorithm(),
            info.parameters,
            env!("CARGO_PKG_VERSION"),
            self.algorithm().facts().post_processing
        ));
        text.push_str(&format!(
            "Thresholds chosen for this model: `{}`.\n\n## Training data\n\n",
            json!(self.thresholds)
        ));
        text.push_str(about.training_data.as_deref().unwrap_or("Not described."));
        text.push_str(&format!("\n\nOptimiser steps: {}. ", info.steps));
        if let Some(diameter) = info.cell_diameter {
            text.push_str(&format!("Median diameter of the drawn cells: {diameter:.1} pixels. "));
        }
        match self.pixel_size {
            Some(size) => text.push_str(&format!("Micrometres per pixel: {}.\n", pixel_size::side(size))),
            None => text.push_str("The pixel size of the images is not known.\n"),
        }
        text.push_str("\n## Validation\n\nCompare with drawn cells of your own before you rely on it.\n");
        text
    }
}

/// `[h, w, channels]` as the only image of a batch `[1, channels, h, w]`.
fn first(image: Array3<f32>) -> ArrayD<f32> {
    image.permuted_axes([2, 0, 1]).insert_axis(Axis(0)).into_dyn()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use crate::networks::{CellposeConfig, ElephantConfig, StarDistConfig};

    #[test]
    fn a_package_is_written_for_every_network_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let stardist = StarDistConfig { n_filter_base: 4, n_classes: Some(2), n_channels: 2, ..Default::default() };
        let elephant = ElephantConfig { widths: vec![4, 8], ..Default::default() };
        let cellpose = CellposeConfig { widths: vec![4, 8], ..Default::default() };
        for architecture in [Architecture::from(stardist), elephant.into(), cellpose.into()] {
            let model = Model::new(architecture, 1).unwrap();
            let about = PackageDescription { license: Some("CC0-1.0".into()), ..Default::default() };
            model.save_bioimage(&path, &about).unwrap();
            let again = Model::import(&path, None).unwrap().model;
            assert!(again.weights() == model.weights() && again.architecture() == model.architecture());
        }
        let model = Model::cellpose(CellposeConfig { widths: vec![4, 8], ..Default::default() }, 0).unwrap();
        for name in ["abc", "a/b/c/d", &"x".repeat(129)] {
            let about = PackageDescription { name: Some(name.into()), ..Default::default() };
            assert!(matches!(model.save_bioimage(&path, &about), Err(Error::Config(_))), "{name}");
        }
    }

    #[test]
    fn outputs_are_probabilities() {
        let model = Model::elephant(ElephantConfig { widths: vec![4, 8], ..Default::default() }, 1).unwrap();
        let answers = model.sparing(|work| model.answers(&model.test_image(), work)).unwrap();
        assert!(answers[0].lanes(Axis(2)).into_iter().all(|pixel| (pixel.sum() - 1.0).abs() < 1e-5));
    }
}
