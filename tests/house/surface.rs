//! What callers compiled against stays: the declarations of the C header of one major version are written down, and none goes or
//! changes. `CELLSPARSE_WRITE_SURFACE=1` writes down what was added.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(relative)
}

/// The declarations of a C header, each on one line: no comments, no directives but the version's.
fn declarations(header: &str) -> BTreeSet<String> {
    let mut code = String::new();
    let mut rest = header;
    while let Some((before, comment)) = rest.split_once("/*") {
        code += before;
        rest = comment.split_once("*/").expect("the end of a comment").1;
    }
    code += rest;
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with('#') && !line.starts_with("extern \"C\""))
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    let mut found = BTreeSet::new();
    let (mut depth, mut start) = (0, 0);
    for (place, character) in code.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ';' if depth == 0 => {
                found.insert(code[start..place].split_whitespace().collect::<Vec<_>>().join(" "));
                start = place + 1;
            }
            _ => {}
        }
    }
    found
}

/// What a later version may add to: the values of an enum, one by one.
fn lines(declarations: BTreeSet<String>) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for declaration in declarations {
        match declaration.strip_prefix("enum ").and_then(|rest| rest.split_once('{')) {
            Some((name, values)) => {
                let name = name.split([' ', ':']).next().unwrap_or_default();
                let values = values.trim_end_matches('}').split(',').map(str::trim).filter(|value| !value.is_empty());
                lines.extend(values.map(|value| format!("enum {name}: {value}")));
            }
            None => {
                lines.insert(declaration);
            }
        }
    }
    lines
}

#[test]
fn declarations_of_the_c_library_stay() {
    let header = fs::read_to_string(path("include/cellsparse.h")).unwrap();
    let version = header.lines().find_map(|line| line.strip_prefix("#define CELLSPARSE_ABI_VERSION ")).unwrap();
    let now = lines(declarations(&header));
    assert!(now.len() > 100 && now.iter().any(|line| line.contains("cellsparse_model_train(")), "{now:?}");

    let file = path(&format!("tests/fixtures/surface/c_{version}.txt"));
    let recorded = fs::read_to_string(&file).unwrap_or_default();
    let recorded: BTreeSet<String> = recorded.lines().map(str::to_string).collect();
    let gone: Vec<&String> = recorded.difference(&now).collect();
    assert!(gone.is_empty(), "programs that were compiled with binary interface {version} need these: {gone:#?}");
    if std::env::var_os("CELLSPARSE_WRITE_SURFACE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, now.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    } else {
        let new: Vec<&String> = now.difference(&recorded).collect();
        assert!(new.is_empty(), "write these down with CELLSPARSE_WRITE_SURFACE=1: {new:#?}");
    }
}

#[test]
fn a_changed_declaration_is_seen() {
    let before =
        "/* a */ typedef struct point { int x; /* b; */ int y; } point;\nenum kind { A = 0, B = 1, };\nint f(int a);";
    let after = "typedef struct point { int x; long y; } point; enum kind { A = 0, B = 1, C = 2, }; int f(int a);";
    let [before, after] = [before, after].map(|text| lines(declarations(text)));
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), ["typedef struct point { int x; int y; } point"]);
    assert_eq!(after.difference(&before).count(), 2);
}
