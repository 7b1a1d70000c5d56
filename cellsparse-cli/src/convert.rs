//! `cellsparse convert`: models of other programs in, models out, and back.

use cellsparse_core::{Result, model};

use crate::args::ConvertArgs;
use crate::predict::make_folder;
use crate::{note, print_out};

/// Reads one kind of file and writes another. The folder of the target is made, as every command makes that of its results.
pub fn run(args: &ConvertArgs) -> Result<()> {
    if let Some(folder) = args.to.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        && args.from.exists()
    {
        make_folder(folder)?;
    }
    for sentence in model::convert(&args.from, &args.to, args.config.as_deref())? {
        note(&format!("{}: {sentence}", args.from.display()));
    }
    print_out(&args.to.display().to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use cellsparse_core::formats::pytorch::write_state_dict;
    use cellsparse_core::model::{Model, Normalization};
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
        convert("a.safetensors", "new/folder/a.onnx", None).unwrap();
        assert!(path("new/folder/a.onnx").is_file());
        assert!(format!("{:?}", back.thresholds()).contains("diameter: 25"));
    }

    #[test]
    fn what_cannot_be_converted_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let weights = path("weights.pth");
        write_state_dict(&weights, [("fc.weight".to_string(), &[2][..], &[1.0, 2.0][..])]).unwrap();
        let said = message(&weights, "a.safetensors", None);
        assert!(said.contains("1 array ('fc.weight')"), "{said}");
        assert!(message(&weights, "a.png", None).contains(".safetensors"));
        std::fs::write(path("config.json"), "{").unwrap();
        assert!(message(&weights, "a.safetensors", Some(path("config.json"))).contains("not the settings"));
        assert!(message(&weights, "a.safetensors", Some(path("none.json"))).contains("none.json"));

        let model = path("model.safetensors");
        let config = StarDistConfig { n_filter_base: 2, n_depth: 1, n_rays: 3, ..StarDistConfig::default() };
        Model::stardist(config, 0).unwrap().save(&model).unwrap();
        assert!(message(&model, "a.pth", None).contains(".onnx or .zip"));
        std::fs::write(path("config.json"), r#"{"diameter": 25}"#).unwrap();
        assert!(message(&model, "a.onnx", Some(path("config.json"))).contains("expected package, onnx"));
        std::fs::write(path("config.json"), r#"{"onnx": {"normalization": "in"}}"#).unwrap();
        let said = message(&model, "a.onnx", Some(path("config.json")));
        assert!(said.contains("`onnx`: unknown variant `in`") && said.contains("`metadata` or `inside`"), "{said}");
        std::fs::write(path("config.json"), r#"{"package": []}"#).unwrap();
        let said = message(&model, "a.zip", Some(path("config.json")));
        assert!(said.contains("`package`: an array; expected {"), "{said}");
        assert!(message(&model, "a.safetensors", None).contains("already"));

        let place = |to: &str| model::convert(&model, path(to), None).unwrap_err().to_string();
        assert!(place("none/a.onnx").contains("make it first"), "{}", place("none/a.onnx"));
        assert!(place("none/folder/").contains("make it first"), "{}", place("none/folder/"));
        std::fs::create_dir(path("b.onnx")).unwrap();
        assert!(place("b.onnx").contains("is a folder"), "{}", place("b.onnx"));
        std::fs::write(path("file"), "").unwrap();
        assert!(place("file").contains("is a file"), "{}", place("file"));
        assert!(place("file/").contains("is a file"), "{}", place("file/"));
        assert!(place("file/a.onnx").contains("is no folder"), "{}", place("file/a.onnx"));

        std::fs::write(path("weights.h5"), b"\x89HDF\r\n\x1a\n").unwrap();
        std::fs::remove_file(path("config.json")).unwrap();
        let said = message(&path("weights.h5"), "a.safetensors", None);
        assert!(said.contains("config.json, is neither"), "{said}");
        assert!(message(&path("absent.pth"), "a.safetensors", None).contains("no such file"));
    }
}
