//! Options, results and errors of the facade can grow without breaking callers.

use std::fs;
use std::path::{Path, PathBuf};

/// Files of the interface that most programs use.
const FACADE: [&str; 14] = [
    "annotations/encoding_choice.rs",
    "control.rs",
    "error.rs",
    "error/reason.rs",
    "formats/annotation_files/mod.rs",
    "metrics/matching.rs",
    "model/choice.rs",
    "model/facade.rs",
    "model/info.rs",
    "model/options.rs",
    "model/registry.rs",
    "model/segmentation.rs",
    "model/train.rs",
    "raster/read/options.rs",
];

/// An observer goes on or stops: there is no third answer.
const COMPLETE: [&str; 1] = ["ControlFlow"];

/// The public structs and enums of a source that callers can exhaust: neither marked as growing, nor with private fields, nor,
/// for structs, with defaults that callers can begin with.
fn exhaustible(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut attributes = String::new();
    let mut lines = source.lines().take_while(|line| *line != "#[cfg(test)]");
    while let Some(indented) = lines.next() {
        // Items in a macro are indented.
        let line = indented.trim_start();
        let indent = &indented[..indented.len() - line.len()];
        if line.starts_with("#[") {
            attributes.push_str(line);
            continue;
        }
        let item = line.strip_prefix("pub struct ").map(|rest| (rest, true));
        if let Some((rest, is_struct)) = item.or(line.strip_prefix("pub enum ").map(|rest| (rest, false)))
            && line.ends_with('{')
        {
            let name = rest.split([' ', '<']).next().unwrap_or_default();
            let end = format!("{indent}}}");
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
            let is_field = |line: &&str| line.starts_with("    ") && !line.trim_start().starts_with(['/', '#']);
            let has_private = is_struct && body.iter().filter(|line| is_field(line)).any(|line| !line.contains("pub "));
            let has_defaults = is_struct
                && (attributes.contains("Default") || source.contains(&format!("impl Default for {name} {{")));
            if !attributes.contains("#[non_exhaustive]") && !has_private && !has_defaults {
                found.push(name);
            }
        }
        if !line.starts_with("///") {
            attributes.clear();
        }
    }
    found
}

#[test]
fn callers_need_not_know_all_fields_and_variants() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cellsparse-core/src");
    let read = |file: &str| -> (PathBuf, String) {
        let path = source.join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, text)
    };
    for (path, text) in FACADE.map(read) {
        let mut found = exhaustible(&text);
        found.retain(|name| !COMPLETE.contains(name));
        assert!(found.is_empty(), "{}: mark {found:?} as #[non_exhaustive], or give defaults", path.display());
    }
}

#[test]
fn what_callers_can_exhaust_is_recognised() {
    let source = "#[derive(Debug)]\npub struct Open {\n    /// X.\n    pub x: u8,\n}\n#[derive(Default)]\npub struct Options {\n    pub x: u8,\n}\n\
                  #[non_exhaustive]\npub struct Result {\n    pub x: u8,\n}\npub struct Private {\n    pub x: u8,\n    y: u8,\n}\n\
                  pub enum Kind {\n    A,\n}\npub struct Own {\n    pub x: u8,\n}\nimpl Default for Own {\n}\n\
                  macro_rules! m {\n    () => {\n        pub enum Made {\n            B,\n        }\n    };\n}\n#[cfg(test)]\npub enum Late {\n}\n";
    assert_eq!(exhaustible(source), ["Open", "Kind", "Made"]);
}
