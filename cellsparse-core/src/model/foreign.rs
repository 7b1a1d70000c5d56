//! Models from the PyTorch state dicts of Cellpose and elephant-core, and back.

use std::borrow::Cow;
use std::path::Path;

use super::algorithm::StateEntry;
use super::facade::Model;
use super::registry::Architecture;
use crate::error::{Error, Result, counted};
use crate::formats::pytorch::{MadeArray, write_made_state_dict};
use crate::formats::tensors::NamedArrays;
use crate::networks::{state_dict_entries, to_state_dict};

impl Model {
    /// The model that a state dict of Cellpose (2 or 3) or elephant-core belongs to: names tell the algorithm, shapes the
    /// architecture.
    ///
    /// Images are scaled as the original package does: percentiles 1 and 99 for Cellpose, minimum and maximum for ELEPHANT
    /// as the seed does. `diam_mean` and `diam_labels` become the diameter of the network and of the cells in the images.
    ///
    /// # Errors
    /// [`Error::Weights`] when the names or shapes are not those of a network that this build knows.
    pub fn from_state_dict(arrays: NamedArrays) -> Result<Self> {
        if let Some((architecture, thresholds, normalization)) = Architecture::recognise(&arrays) {
            let mut model = Self::with_state_dict(architecture, arrays)?;
            model.network.normalization = normalization;
            model.set_thresholds(thresholds)?;
            return Ok(model);
        }
        let mut names: Vec<&String> = arrays.keys().collect();
        names.sort();
        let first: Vec<String> = names.iter().take(3).map(|name| format!("'{name}'")).collect();
        Err(Error::Weights(format!(
            "{} ({}{}), not those of a network of Cellpose or elephant-core",
            counted(names.len(), "array"),
            first.join(", "),
            if names.len() > 3 { ", ..." } else { "" }
        )))
    }

    /// The state dict of this model under the names of the original package.
    ///
    /// # Errors
    /// [`Error::Weights`] for StarDist, whose original is not a PyTorch program.
    pub fn to_state_dict(&self) -> Result<Vec<StateEntry>> {
        let mut entries = to_state_dict(&self.network.graph, &self.network.weights);
        let names: Vec<&str> = entries.iter().map(|(name, ..)| name.as_str()).collect();
        let more = self.settings()?.more_state(&names)?;
        entries.extend(more);
        Ok(entries)
    }

    /// Writes the state dict as a PyTorch file, an array at a time.
    #[cfg_attr(not(feature = "keras"), expect(dead_code, reason = "conversion of files needs models of StarDist"))]
    pub(super) fn save_state_dict(&self, path: &Path) -> Result<()> {
        let entries = state_dict_entries(&self.network.graph, &self.network.weights);
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let more = self.settings()?.more_state(&names)?;
        let of_network = entries.into_iter().map(|entry| MadeArray {
            name: entry.name.clone(),
            shape: entry.shape.clone(),
            count: entry.shape.iter().product(),
            make: Box::new(move || entry.values()),
        });
        let others = more.iter().map(|(name, shape, values)| MadeArray {
            name: name.clone(),
            shape: shape.clone(),
            count: values.len(),
            make: Box::new(move || Cow::Borrowed(&values[..])),
        });
        write_made_state_dict(path, of_network.chain(others).collect())
    }
}
