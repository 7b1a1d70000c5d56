//! The documents say what the code does: the snippet compiles, every option and every kind of error is described.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text between the first `begin` and the next `end`.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no '{begin}'"));
    rest.split_once(end).unwrap_or_else(|| panic!("no '{end}' after '{begin}'")).0
}

#[test]
fn the_snippet_of_the_readme_is_the_example() {
    let readme = read("README.md");
    let snippet = between(&readme, "```rust\n", "```");
    let example = read("examples/train_and_predict.rs");
    let code: Vec<&str> = example.lines().skip_while(|line| line.starts_with("//!") || line.is_empty()).collect();
    assert_eq!(snippet.trim_end(), code.join("\n").trim_end());
}

#[test]
fn every_option_of_the_command_line_is_in_the_readme_and_the_reverse() {
    let sources = ["args", "large"].map(|name| read(&format!("cellsparse-cli/src/{name}.rs")));
    let mut flags = Vec::new();
    let mut lines = sources.iter().flat_map(|source| source.split("#[cfg(test)]").next().unwrap_or_default().lines());
    while let Some(line) = lines.next() {
        if line.trim().starts_with("#[arg(long")
            && let Some(name) = lines.next().and_then(|field| field.trim().strip_prefix("pub ")?.split(':').next())
        {
            flags.push(format!("--{}", name.replace('_', "-")));
        }
    }
    assert!(flags.len() > 30, "{flags:?}");
    let readme = read("README.md");
    for flag in &flags {
        assert!(readme.contains(flag), "README.md does not mention {flag}");
    }
    let known = ["--release", "--example", "--path", "--features", "--no-deps"];
    for word in readme.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
        let is_flag = word.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
        assert!(
            !is_flag || known.contains(&word) || flags.iter().any(|flag| flag.as_str() == word),
            "README.md mentions {word}, which no command has"
        );
    }
}

/// The variants of an enum in a source text, by name.
fn variants<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
    between(source, &format!("pub enum {name} {{"), "\n}")
        .lines()
        .filter(|line| line.starts_with("    ") && !line.starts_with("     "))
        .filter_map(|line| line.trim().split(['(', '{', ',', ' ']).next())
        .filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
        .collect()
}

#[test]
fn every_kind_of_error_and_every_reason_is_explained() {
    let (errors, reasons) = (read("cellsparse-core/src/error.rs"), read("cellsparse-core/src/error/reason.rs"));
    let (mut kinds, reasons) = (variants(&errors, "Error"), variants(&reasons, "Reason"));
    assert!(kinds.len() >= 12 && reasons.len() >= 10, "{kinds:?} {reasons:?}");
    // One of the other kinds, with a reason.
    kinds.retain(|kind| *kind != "Detailed");
    let document = read("docs/errors.md");
    for name in kinds.into_iter().chain(reasons) {
        assert!(document.contains(&format!("| `{name}` |")), "docs/errors.md does not explain {name}");
    }
}
