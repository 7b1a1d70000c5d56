//! Models from the PyTorch state dicts of Cellpose and elephant-core, and back.

use super::{Architecture, Model, Normalization, Thresholds};
use crate::error::{Error, Result};
use crate::formats::tensors::NamedArrays;
use crate::networks::{CellposeConfig, ElephantConfig, to_state_dict};

/// One entry of a state dict: name, shape, values.
pub type StateEntry = (String, Vec<usize>, Vec<f32>);

impl Model {
    /// The model that a state dict of Cellpose (2 or 3) or elephant-core belongs to: names tell the algorithm, shapes the
    /// architecture.
    ///
    /// Images are scaled as the original package does: percentiles 1 and 99 for Cellpose, minimum and maximum for ELEPHANT
    /// as the seed does. `diam_mean` and `diam_labels` become the diameter of the network and of the cells in the images.
    ///
    /// # Errors
    /// [`Error::Weights`] when the names or shapes are not those of a network that this build knows.
    pub fn from_state_dict(mut arrays: NamedArrays) -> Result<Self> {
        let single = |arrays: &NamedArrays, name: &str| {
            arrays.get(name).and_then(|(_, values)| values.first().copied()).filter(|v| v.is_finite() && *v > 0.0)
        };
        let (diam_mean, diam_labels) = (single(&arrays, "diam_mean"), single(&arrays, "diam_labels"));
        if let Some(mut config) = cellpose_config(&arrays) {
            config.diam_mean = diam_mean.unwrap_or(config.diam_mean);
            let mut model = Self::with_state_dict(config, std::mem::take(&mut arrays))?;
            model.normalization = Normalization { pmin: 1.0, pmax: 99.0 };
            let mut thresholds = model.thresholds.cellpose()?;
            thresholds.diameter = diam_labels.or(diam_mean).unwrap_or(thresholds.diameter);
            model.set_thresholds(Thresholds::Cellpose(thresholds))?;
            return Ok(model);
        }
        if let Some(config) = elephant_config(&arrays) {
            let mut model = Self::with_state_dict(config, arrays)?;
            model.normalization = Normalization::MIN_MAX;
            return Ok(model);
        }
        let mut names: Vec<&String> = arrays.keys().collect();
        names.sort();
        let first: Vec<String> = names.iter().take(3).map(|name| format!("'{name}'")).collect();
        Err(Error::Weights(format!(
            "{} arrays ({}{}) that are not those of a network of Cellpose or elephant-core",
            names.len(),
            first.join(", "),
            if names.len() > 3 { ", ..." } else { "" }
        )))
    }

    /// The state dict of this model under the names of the original package.
    ///
    /// # Errors
    /// [`Error::Weights`] for StarDist, whose original is not a PyTorch program.
    pub fn to_state_dict(&self) -> Result<Vec<StateEntry>> {
        let mut entries = to_state_dict(&self.graph, &self.weights);
        match &self.architecture {
            Architecture::Stardist(_) => Err(Error::Weights(
                "a model of stardist has no PyTorch form; only networks that come from PyTorch programs have one"
                    .into(),
            )),
            Architecture::Cellpose(config) => {
                let diameter = self.thresholds.cellpose()?.diameter;
                let counters: Vec<StateEntry> = entries
                    .iter()
                    .filter_map(|(name, ..)| name.strip_suffix("running_var"))
                    .map(|layer| (format!("{layer}num_batches_tracked"), Vec::new(), vec![0.0]))
                    .collect();
                entries.push(("diam_mean".into(), vec![1], vec![config.diam_mean]));
                entries.push(("diam_labels".into(), vec![1], vec![diameter]));
                entries.extend(counters);
                Ok(entries)
            }
            Architecture::Elephant(_) => Ok(entries),
        }
    }
}

fn shape<'a>(arrays: &'a NamedArrays, name: &str) -> Option<&'a [usize]> {
    arrays.get(name).map(|(shape, _)| shape.as_slice())
}

fn cellpose_config(arrays: &NamedArrays) -> Option<CellposeConfig> {
    let kernel = |level: usize| shape(arrays, &format!("downsample.down.res_down_{level}.conv.conv_0.2.weight"));
    let n_channels = *kernel(0)?.get(1)?;
    let widths = (0..).map_while(|level| kernel(level)?.first().copied()).collect();
    Some(CellposeConfig { n_channels, widths, ..CellposeConfig::default() })
}

fn elephant_config(arrays: &NamedArrays) -> Option<ElephantConfig> {
    let residual = arrays.contains_key("base.conv1.weight");
    let part = if residual { "conv1" } else { "0" };
    let kernel = |block: &str| shape(arrays, &format!("{block}.{part}.weight"));
    let n_channels = *kernel("encoder.0")?.get(1)?;
    let mut widths: Vec<usize> =
        (0..).map_while(|level| kernel(&format!("encoder.{level}"))?.first().copied()).collect();
    widths.push(*kernel("base")?.first()?);
    Some(ElephantConfig { n_channels, widths, residual })
}
