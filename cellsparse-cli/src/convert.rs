//! `cellsparse convert`: weights of other programs in, models out, and back.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use cellsparse_core::formats::foreign::{WeightsKind, read_weights};
use cellsparse_core::formats::pytorch::{StateDict, write_state_dict};
use cellsparse_core::model::{Model, Normalization, PredictOptions};
use cellsparse_core::{Error, Result};
use serde::Deserialize;

use crate::args::ConvertArgs;
use crate::{note, print_out};

/// Largest configuration file that is read: 1 MiB.
const MAX_CONFIG: u64 = 1 << 20;

/// Reads one kind of file and writes the other.
pub fn run(args: &ConvertArgs) -> Result<()> {
    let to_pytorch = match WeightsKind::of(&args.from)? {
        WeightsKind::Cellsparse => {
            expect_ending(&args.to, &["pth", "pt"], "a model of cellsparse becomes a PyTorch file")?;
            true
        }
        _ => {
            expect_ending(&args.to, &["safetensors"], "weights of another program become a model of cellsparse")?;
            false
        }
    };
    if to_pytorch {
        if args.config.is_some() {
            return Err(Error::Config("--config is for weights of other programs; a model holds its own".into()));
        }
        export(&Model::load(&args.from)?, &args.to)?;
    } else {
        let settings = args.config.as_deref().map(read_settings).transpose()?.unwrap_or_default();
        let weights = read_weights(&args.from)?;
        for sentence in &weights.notes {
            note(&format!("{}: {sentence}", args.from.display()));
        }
        import(weights, &settings)?.save(&args.to)?;
    }
    print_out(&args.to.display().to_string());
    Ok(())
}

/// What `--config` may hold.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// How images are scaled.
    normalization: Option<Normalization>,
    /// Diameter of the cells in the images, in pixels (Cellpose).
    diameter: Option<f32>,
    /// Micrometres per pixel of the images that the weights were learned on.
    pixel_size: Option<f64>,
}

fn import(weights: StateDict, settings: &Settings) -> Result<Model> {
    let mut model = Model::from_state_dict(weights.into_named_arrays())?;
    if let Some(normalization) = settings.normalization {
        model.set_normalization(normalization)?;
    }
    model.set_pixel_size(settings.pixel_size.map(|side| [side, side]))?;
    if settings.diameter.is_some() {
        let options = PredictOptions { diameter: settings.diameter, ..PredictOptions::default() };
        model.set_thresholds(model.thresholds().with(&options)?)?;
    }
    Ok(model)
}

/// Writes the weights of a model under the names of the program that its algorithm comes from.
fn export(model: &Model, to: &Path) -> Result<()> {
    let arrays = model.to_state_dict()?;
    write_state_dict(to, arrays.iter().map(|(name, shape, values)| (name.clone(), shape.as_slice(), values.as_slice())))
}

fn expect_ending(to: &Path, endings: &[&str], rule: &str) -> Result<()> {
    let found = to.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    if endings.contains(&found.as_str()) {
        return Ok(());
    }
    Err(Error::file(to, format!("{rule}, whose name ends in .{}", endings.join(" or ."))))
}

fn read_settings(path: &Path) -> Result<Settings> {
    let mut text = String::new();
    cellsparse_core::raster::require_regular_file(path)?;
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    file.take(MAX_CONFIG + 1).read_to_string(&mut text).map_err(|source| Error::io(path, source))?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(Error::Limit(format!("{}: a configuration has at most 1 MiB", path.display())));
    }
    serde_json::from_str(&text)
        .map_err(|error| Error::file(path, format!("not the settings that convert reads: {error}")))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use cellsparse_core::networks::{CellposeConfig, StarDistConfig};

    use super::*;

    fn message(from: &Path, to: &str, config: Option<PathBuf>) -> String {
        let to = from.with_file_name(to);
        let error = run(&ConvertArgs { from: from.to_path_buf(), to: to.clone(), config }).unwrap_err();
        assert!(!to.exists());
        error.to_string()
    }

    #[test]
    fn a_network_goes_to_pytorch_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = CellposeConfig { n_channels: 2, widths: vec![4, 8], diam_mean: 17.0 };
        let model = Model::cellpose(config, 3).unwrap();
        model.save(path("a.safetensors")).unwrap();
        let convert = |from: &str, to: &str, config| run(&ConvertArgs { from: path(from), to: path(to), config });
        convert("a.safetensors", "a.pth", None).unwrap();
        std::fs::write(path("set.json"), r#"{"diameter": 25, "normalization": {"pmin": 0, "pmax": 100}}"#).unwrap();
        convert("a.pth", "b.safetensors", Some(path("set.json"))).unwrap();
        let back = Model::load(path("b.safetensors")).unwrap();
        assert_eq!(back.weights(), model.weights());
        assert_eq!(back.architecture(), model.architecture());
        assert_eq!(back.normalization(), Normalization::MIN_MAX);
        assert!(format!("{:?}", back.thresholds()).contains("diameter: 25"));
    }

    #[test]
    fn what_cannot_be_converted_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let weights = path("weights.pth");
        write_state_dict(&weights, [("fc.weight".to_string(), &[2][..], &[1.0, 2.0][..])]).unwrap();
        let said = message(&weights, "a.safetensors", None);
        assert!(said.contains("1 arrays ('fc.weight')"), "{said}");
        assert!(message(&weights, "a.pth", None).contains(".safetensors"));
        std::fs::write(path("config.json"), "{").unwrap();
        assert!(message(&weights, "a.safetensors", Some(path("config.json"))).contains("not the settings"));
        assert!(message(&weights, "a.safetensors", Some(path("none.json"))).contains("none.json"));

        let model = path("model.safetensors");
        let config = StarDistConfig { n_filter_base: 2, n_depth: 1, n_rays: 3, ..StarDistConfig::default() };
        Model::stardist(config, 0).unwrap().save(&model).unwrap();
        assert!(message(&model, "a.pth", None).contains("stardist"));
        assert!(message(&model, "a.pt", Some(path("config.json"))).contains("--config"));
        assert!(message(&model, "a.safetensors", None).contains(".pth or .pt"));

        std::fs::write(path("weights.h5"), b"\x89HDF\r\n\x1a\n").unwrap();
        assert!(message(&path("weights.h5"), "a.safetensors", None).contains("Keras"));
        assert!(message(&path("absent.pth"), "a.safetensors", None).contains("no such file"));
    }
}
