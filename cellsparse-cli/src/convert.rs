//! `cellsparse convert`: weights of other programs in, models out, and back.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use cellsparse_core::formats::foreign::{WeightsKind, read_weights};
use cellsparse_core::formats::pytorch::{StateDict, write_state_dict};
use cellsparse_core::model::Model;
use cellsparse_core::{Error, Result};
use clap::Args;
use serde_json::Value;

use crate::{note, print_out};

/// Largest configuration file that is read: 1 MiB.
const MAX_CONFIG: u64 = 1 << 20;

/// `cellsparse convert`
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// Weights of another program (.pth of PyTorch, .safetensors), or a model of cellsparse
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Model to write (.safetensors), or a PyTorch file (.pth) when --from is a model of cellsparse
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// JSON file with the architecture, where the weights alone do not tell it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

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
        let config = args.config.as_deref().map(read_config).transpose()?;
        let weights = read_weights(&args.from)?;
        for sentence in &weights.notes {
            note(&format!("{}: {sentence}", args.from.display()));
        }
        import(weights, config)?.save(&args.to)?;
    }
    print_out(&args.to.display().to_string());
    Ok(())
}

/// The model that foreign weights belong to: the names of the arrays tell the algorithm, their shapes and `config` the
/// architecture.
fn import(weights: StateDict, _config: Option<Value>) -> Result<Model> {
    Err(Error::Weights(format!(
        "these {} arrays ({}) are not those of a network that this build knows",
        weights.arrays.len(),
        weights.first_names()
    )))
}

/// Writes the weights of a model under the names of the program that its algorithm comes from.
fn export(model: &Model, to: &Path) -> Result<()> {
    let arrays = foreign_names(model)?;
    write_state_dict(to, arrays.iter().map(|(name, shape, values)| (name.clone(), shape.as_slice(), values.as_slice())))
}

/// Name, shape and values of every array of the PyTorch form of a model.
type Arrays = Vec<(String, Vec<usize>, Vec<f32>)>;

fn foreign_names(model: &Model) -> Result<Arrays> {
    Err(Error::Weights(format!(
        "a model of {} has no PyTorch form; only networks that come from PyTorch programs have one",
        model.algorithm()
    )))
}

fn expect_ending(to: &Path, endings: &[&str], rule: &str) -> Result<()> {
    let found = to.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    if endings.contains(&found.as_str()) {
        return Ok(());
    }
    Err(Error::file(to, format!("{rule}, whose name ends in .{}", endings.join(" or ."))))
}

fn read_config(path: &Path) -> Result<Value> {
    let mut text = String::new();
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    file.take(MAX_CONFIG + 1).read_to_string(&mut text).map_err(|source| Error::io(path, source))?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(Error::Limit(format!("{}: a configuration has at most 1 MiB", path.display())));
    }
    serde_json::from_str(&text).map_err(|error| Error::file(path, format!("not a JSON configuration: {error}")))
}

#[cfg(test)]
mod tests {
    use cellsparse_core::networks::StarDistConfig;

    use super::*;

    fn message(from: &Path, to: &str, config: Option<PathBuf>) -> String {
        let to = from.with_file_name(to);
        let error = run(&ConvertArgs { from: from.to_path_buf(), to: to.clone(), config }).unwrap_err();
        assert!(!to.exists());
        error.to_string()
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
        assert!(message(&weights, "a.safetensors", Some(path("config.json"))).contains("not a JSON"));
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
