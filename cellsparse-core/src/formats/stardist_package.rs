//! What the description of a package of bioimage.io that the StarDist package wrote says of a model.

use std::path::Path;

use serde_json::Value;

use super::shortened::shortened;
use super::stardist_model::StoredThresholds;
use crate::error::{Error, Result};

/// What stands under `config: stardist:`, and what else of the description counts.
#[derive(Debug)]
pub(super) struct StarDistPackage {
    /// The configuration, which the first versions of the package leave out.
    pub config: Option<Value>,
    pub thresholds: Option<StoredThresholds>,
    /// Percentiles that become 0 and 1.
    pub percentiles: Option<[f64; 2]>,
    /// The file of the weights of Keras.
    pub weights: String,
    /// The file of the program of TensorFlow.
    pub program: Option<String>,
    /// What a person should know of how the package scales images.
    pub notes: Vec<String>,
}

impl StarDistPackage {
    /// # Errors
    /// [`Error::File`] for packages that the StarDist package did not write.
    pub fn of(description: &Value, path: &Path) -> Result<Self> {
        let Some(stardist) = description.pointer("/config/stardist").filter(|found| found.is_object()) else {
            return Err(not_of_stardist(description, path));
        };
        let config = stardist.get("config").filter(|config| config.is_object()).cloned();
        let single = config.as_ref().and_then(|config| config.get("n_channel_in")).and_then(Value::as_u64) == Some(1);
        let together = !single && scales_together(description);
        let name = |value: Option<&Value>| Some(value?.as_str()?.rsplit('/').next()?.to_string());
        Ok(Self {
            config,
            thresholds: stardist.get("thresholds").cloned().and_then(|found| serde_json::from_value(found).ok()),
            percentiles: percentiles(description),
            weights: name(stardist.get("weights")).unwrap_or_else(|| "stardist_weights.h5".into()),
            program: name(description.pointer("/weights/tensorflow_saved_model_bundle/source")),
            notes: together
                .then(|| {
                    "the package scales all channels of an image by percentiles of them together, and this library each channel by its \
                     own: maps are others where channels differ in brightness"
                        .to_string()
                })
                .into_iter()
                .collect(),
        })
    }
}

fn not_of_stardist(description: &Value, path: &Path) -> Error {
    let text = |key: &str| description.get(key).and_then(Value::as_str).map(shortened);
    let kinds = description.get("weights").and_then(Value::as_object);
    let kinds: Vec<String> = kinds.into_iter().flat_map(|map| map.keys().cloned()).collect();
    let facts: Vec<String> = [
        text("name").map(|name| format!("'{name}'")),
        text("type").filter(|kind| kind != "model").map(|kind| format!("a {kind}")),
        (!kinds.is_empty()).then(|| format!("weights: {}", shortened(&kinds.join(", ")))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
    Error::file(
        path,
        format!(
            "is a package of bioimage.io{facts} that neither the StarDist package nor cellsparse wrote, and no other networks are read \
             from packages; of Cellpose and ELEPHANT the PyTorch file is read"
        ),
    )
}

/// The arguments of the step `scale_range` of the first input, of either generation of the format.
fn scale_range(description: &Value) -> Option<&Value> {
    let steps = description.pointer("/inputs/0/preprocessing")?.as_array()?;
    let step = steps
        .iter()
        .find(|step| ["name", "id"].iter().any(|key| step.get(key).and_then(Value::as_str) == Some("scale_range")))?;
    step.get("kwargs")
}

/// Whether the channels are among the axes of that step: `yxc`, or names of them.
fn scales_together(description: &Value) -> bool {
    match scale_range(description).and_then(|arguments| arguments.get("axes")) {
        Some(Value::String(axes)) => axes.contains('c'),
        Some(Value::Array(axes)) => axes.iter().any(|axis| matches!(axis.as_str(), Some("c" | "channel"))),
        _ => false,
    }
}

/// The percentiles that this step turns into 0 and 1.
fn percentiles(description: &Value) -> Option<[f64; 2]> {
    let arguments = scale_range(description)?;
    let number = |key: &str| arguments.get(key)?.as_f64();
    Some([number("min_percentile")?, number("max_percentile")?])
}
