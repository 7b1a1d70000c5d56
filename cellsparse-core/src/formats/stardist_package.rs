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
}

impl StarDistPackage {
    /// # Errors
    /// [`Error::File`] for packages that the StarDist package did not write.
    pub fn of(description: &Value, path: &Path) -> Result<Self> {
        let Some(stardist) = description.pointer("/config/stardist").filter(|found| found.is_object()) else {
            return Err(not_of_stardist(description, path));
        };
        let name = |value: Option<&Value>| Some(value?.as_str()?.rsplit('/').next()?.to_string());
        Ok(Self {
            config: stardist.get("config").filter(|config| config.is_object()).cloned(),
            thresholds: stardist.get("thresholds").cloned().and_then(|found| serde_json::from_value(found).ok()),
            percentiles: percentiles(description),
            weights: name(stardist.get("weights")).unwrap_or_else(|| "stardist_weights.h5".into()),
            program: name(description.pointer("/weights/tensorflow_saved_model_bundle/source")),
        })
    }
}

fn not_of_stardist(description: &Value, path: &Path) -> Error {
    let kinds = description.get("weights").and_then(Value::as_object);
    let kinds: Vec<String> = kinds.into_iter().flat_map(|map| map.keys().cloned()).collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(" (weights: {})", shortened(&kinds.join(", "))) };
    Error::file(
        path,
        format!(
            "is a package of bioimage.io that the StarDist package did not write{kinds}; of Cellpose and ELEPHANT the PyTorch file \
             is read"
        ),
    )
}

/// The percentiles of the step `scale_range` of the first input, of either generation of the format.
fn percentiles(description: &Value) -> Option<[f64; 2]> {
    let steps = description.pointer("/inputs/0/preprocessing")?.as_array()?;
    let step = steps
        .iter()
        .find(|step| ["name", "id"].iter().any(|key| step.get(key).and_then(Value::as_str) == Some("scale_range")))?;
    let number = |key: &str| step.get("kwargs")?.get(key)?.as_f64();
    Some([number("min_percentile")?, number("max_percentile")?])
}
