//! The rooms of the library import each other only as the table in `docs/architecture.md` says.
//!
//! The table is read from the document, so that the picture and the code cannot drift apart. Code that is compiled for
//! tests only may import anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A room of the table: its number, and the numbers of the rooms that it may import.
#[derive(Debug, Clone, PartialEq)]
struct Room {
    number: usize,
    may_import: BTreeSet<usize>,
}

/// Rows `| number | rooms | holds | may import |` between the two markers, by the name of the room.
fn rooms(document: &str) -> BTreeMap<String, Room> {
    let table = between(document, "<!-- rooms -->", "<!-- end of rooms -->");
    let mut rooms = BTreeMap::new();
    for row in table.lines().filter(|row| row.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "a row of the table of rooms has four cells: {row}");
        let Ok(number) = cells[0].parse() else { continue };
        let room = Room { number, may_import: numbers(cells[3]) };
        assert!(
            room.may_import.iter().all(|other| *other < number),
            "a room imports only rooms with a smaller number: {row}"
        );
        let names: Vec<&str> = cells[1].split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "rooms are written in backquotes: {row}");
        for name in names {
            assert!(rooms.insert(name.to_string(), room.clone()).is_none(), "room {name} is in the table twice");
        }
    }
    rooms
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("docs/architecture.md has no line {begin}"));
    rest.split_once(end).unwrap_or_else(|| panic!("docs/architecture.md has no line {end}")).0
}

/// `0-2, 5` as the set of those numbers; `-` as none.
fn numbers(text: &str) -> BTreeSet<usize> {
    let number = |text: &str| text.trim().parse::<usize>().unwrap_or_else(|_| panic!("'{text}' is not a room number"));
    let mut set = BTreeSet::new();
    for part in text.split(',').map(str::trim).filter(|part| *part != "-") {
        match part.split_once('-') {
            Some((first, last)) => set.extend(number(first)..=number(last)),
            None => set.extend([number(part)]),
        }
    }
    set
}

/// The lines of a source without comments and without items for tests, and the test modules kept in other files.
fn without_tests(source: &str) -> (String, Vec<String>) {
    let code: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let mut kept = String::new();
    let mut files = Vec::new();
    let mut lines = code.into_iter();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let mut path = None;
        let mut item = lines.next().unwrap_or_default();
        while let Some(attribute) = item.trim().strip_prefix("#[") {
            path = attribute.strip_prefix("path = \"").and_then(|rest| rest.split('"').next()).or(path);
            item = lines.next().unwrap_or_default();
        }
        let declaration = item.trim().trim_start_matches("pub ");
        if let Some(name) = declaration.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            files.push(path.map_or_else(|| format!("{name}.rs"), str::to_string));
        }
        if !item.trim_end().ends_with([';', '}']) {
            // The item ends at the closing brace of the same indentation, as rustfmt writes it.
            let end = format!("{}}}", &item[..item.len() - item.trim_start().len()]);
            let _ = lines.by_ref().find(|line| line.starts_with(&end));
        }
    }
    (kept, files)
}

/// The first names of all paths from the crate's root, of a file whose module lies `depth` below the root.
fn imports(code: &str, depth: usize) -> Vec<String> {
    names_below(code, "crate::", depth)
}

/// The first names of all paths that begin with `root`, or with as many `super::` as there are in `depth`.
fn names_below(code: &str, root: &str, depth: usize) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(root) {
        if !ends_in_name(&code[..at]) {
            names.extend(first_names(&code[at + root.len()..]));
        }
    }
    for (at, _) in code.match_indices("super::") {
        if ends_in_name(&code[..at]) || code[..at].ends_with("super::") {
            continue;
        }
        let rest = code[at..].trim_start_matches("super::");
        if (code[at..].len() - rest.len()) / "super::".len() == depth {
            names.extend(first_names(rest));
        }
    }
    names
}

fn ends_in_name(text: &str) -> bool {
    text.ends_with(|last: char| last.is_alphanumeric() || last == '_')
}

/// The name at the beginning of a path, or the first names of all paths in a group `{a::b, c}`.
fn first_names(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()];
    };
    let mut names = vec![String::new()];
    let mut depth = 0;
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(String::new()),
            _ if depth == 0 => names.last_mut().into_iter().for_each(|name| name.push(c)),
            _ => {}
        }
    }
    names.retain(|name| !name.trim().is_empty());
    names.iter().flat_map(|name| first_names(name.trim())).collect()
}

/// All Rust files below a folder.
fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a source folder").map(|entry| entry.expect("a file").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn rooms_import_only_what_the_architecture_says() {
    let source = root().join("cellsparse-core/src");
    let document = fs::read_to_string(root().join("docs/architecture.md")).expect("docs/architecture.md");
    let rooms = rooms(&document);
    let mut paths = Vec::new();
    rust_files(&source, &mut paths);
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut for_tests = BTreeSet::new();
    for path in paths {
        let (code, tests) = without_tests(&fs::read_to_string(&path).expect("a source file"));
        for name in tests {
            let folder = path.parent().expect("a folder");
            let own = folder.join(path.file_stem().expect("a name")).join(&name);
            for_tests.extend([folder.join(&name), own]);
        }
        files.insert(path, code);
    }
    let (mut wrong, mut found, mut seen) = (Vec::new(), 0, BTreeSet::new());
    for (path, code) in files.iter().filter(|(path, _)| !for_tests.contains(*path)) {
        let relative = path.strip_prefix(&source).expect("below src");
        let parts: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if parts == ["lib.rs"] {
            continue;
        }
        let name = parts[0].trim_end_matches(".rs");
        let Some(room) = rooms.get(name) else {
            wrong.push(format!("{}: room {name} is not in the table", relative.display()));
            continue;
        };
        seen.insert(name.to_string());
        let depth = parts.len() - usize::from(parts.last().is_some_and(|last| last == "mod.rs"));
        for import in imports(code, depth) {
            found += 1;
            match rooms.get(&import) {
                None => wrong.push(format!("{}: crate::{import} is not a room", relative.display())),
                Some(other) if import != name && import != "error" && !room.may_import.contains(&other.number) => {
                    wrong.push(format!("{}: room {name} may not import {import}", relative.display()));
                }
                Some(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "contradictions to docs/architecture.md:\n{}", wrong.join("\n"));
    assert!(found > 80, "only {found} imports were found; does the test still read the sources?");
    let written: BTreeSet<String> = rooms.into_keys().collect();
    assert_eq!(seen, written, "the rooms of src/ (left) and of docs/architecture.md (right)");
}

/// The folder of the facade.
fn model() -> PathBuf {
    root().join("cellsparse-core/src/model")
}

/// The files of the facade without code for tests, by their path in its folder.
fn model_files() -> BTreeMap<PathBuf, String> {
    let mut paths = Vec::new();
    rust_files(&model(), &mut paths);
    let code = |path: PathBuf| {
        let (code, _) = without_tests(&fs::read_to_string(&path).expect("a source file"));
        (path.strip_prefix(model()).expect("below model").to_path_buf(), code)
    };
    paths.into_iter().map(code).collect()
}

/// The module of the facade that a file belongs to; a folder is one module.
fn module(file: &Path) -> String {
    let first = file.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

/// The names that `mod.rs` hands on, with the modules that they come from.
fn handed_on(code: &str) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for (at, _) in code.match_indices("pub use self::") {
        let path = &code[at + "pub use self::".len()..];
        let (module, rest) = path.split_once("::").expect("a path of two parts");
        names.extend(first_names(rest).into_iter().map(|name| (name, module.to_string())));
    }
    names
}

/// Modules that import each other in a circle, given what each of them imports.
fn in_circles(mut imports: BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    loop {
        let known: BTreeSet<String> = imports.keys().cloned().collect();
        let before = imports.len();
        imports.retain(|_, others| others.iter().any(|other| known.contains(other)));
        if imports.len() == before {
            return known;
        }
    }
}

#[test]
fn the_files_of_the_facade_import_each_other_in_no_circle() {
    let mut files = model_files();
    let handed_on = handed_on(&files.remove(Path::new("mod.rs")).expect("mod.rs"));
    assert!(handed_on.len() > 20, "{handed_on:?}");
    let modules: BTreeSet<String> = files.keys().map(|file| module(file)).collect();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, code) in &files {
        let own = module(file);
        let depth = file.iter().count() - usize::from(file.ends_with("mod.rs"));
        let names = names_below(code, "crate::model::", depth);
        let known = names.into_iter().filter_map(|name| match modules.contains(&name) {
            true => Some(name),
            false => handed_on.get(&name).cloned(),
        });
        imports.entry(own.clone()).or_default().extend(known.filter(|other| *other != own));
    }
    let count: usize = imports.values().map(BTreeSet::len).sum();
    assert!(count > 100, "only {count} imports were found; does the test still read the sources?");
    let circles = in_circles(imports);
    assert!(
        circles.is_empty(),
        "these files of model/ import each other in a circle, or import such files: {circles:?}"
    );
}

/// Paths in a source that name a variant of one of those enums.
fn variants_named(code: &str, enums: &[&str], variants: &[String]) -> Vec<String> {
    let paths = enums.iter().flat_map(|name| variants.iter().map(move |variant| format!("{name}::{variant}")));
    paths.filter(|path| code.contains(path.as_str())).collect()
}

#[test]
fn only_the_files_of_an_algorithm_know_which_one_it_is() {
    let files = model_files();
    let registry = &files[Path::new("registry.rs")];
    let lines =
        registry.split("\nalgorithms! {").nth(1).and_then(|rest| rest.split("\n}").next()).expect("a line each");
    let named = lines.lines().filter_map(|line| line.split_once(": "));
    let (variants, kinds): (Vec<String>, Vec<String>) = named
        .map(|(variant, types)| (variant.trim().to_string(), types.split(',').next().unwrap_or_default().to_string()))
        .unzip();
    assert!(variants.len() >= 3 && variants[0] == "Stardist" && kinds[0] == "StarDist", "{variants:?} {kinds:?}");
    let defines = |code: &str| kinds.iter().any(|kind| code.contains(&format!("impl AlgorithmKind for {kind}<")));
    let own: BTreeSet<String> = files.iter().filter(|(_, code)| defines(code)).map(|(file, _)| module(file)).collect();
    assert_eq!(own.len(), variants.len(), "one file or folder for each algorithm: {own:?}");
    let enums = ["Algorithm", "Architecture", "Thresholds", "AlgorithmOptions", "AnyAlgorithm", "Self"];
    let mut wrong = Vec::new();
    // Outputs for parts of an image are put together for each algorithm in a way of its own.
    let parts = ["large/blended.rs", "large/stars.rs"].map(Path::new);
    let free = |file: &Path| own.contains(&module(file)) || module(file) == "registry" || parts.contains(&file);
    for (file, code) in files.iter().filter(|(file, _)| !free(file)) {
        wrong.extend(
            variants_named(code, &enums, &variants).into_iter().map(|path| format!("{}: {path}", file.display())),
        );
    }
    assert!(wrong.is_empty(), "ask the algorithm for what differs (model/algorithm.rs):\n{}", wrong.join("\n"));
}

#[test]
fn circles_and_variants_are_recognised() {
    let graph = |edges: &[(&str, &[&str])]| -> BTreeMap<String, BTreeSet<String>> {
        edges.iter().map(|(from, to)| (from.to_string(), to.iter().map(|to| to.to_string()).collect())).collect()
    };
    assert!(in_circles(graph(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])).is_empty());
    let found = in_circles(graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b", "d"]), ("d", &[])]));
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    let code = "mod a;\npub use self::a::{A, B};\npub use self::b::C;\n";
    let names: Vec<(String, String)> = handed_on(code).into_iter().collect();
    let name = |name: &str, module: &str| (name.to_string(), module.to_string());
    assert_eq!(names, [name("A", "a"), name("B", "a"), name("C", "b")]);
    let code = "use super::work::Work;\nuse crate::model::{options, network::Network};\nuse crate::models::X;\n";
    assert_eq!(names_below(code, "crate::model::", 1), ["options", "network", "work"]);
    let variants = ["Stardist".to_string()];
    assert_eq!(
        variants_named("match x { Algorithm::Stardist => 1 }", &["Algorithm"], &variants),
        ["Algorithm::Stardist"]
    );
    assert!(variants_named("Model::stardist(); Stardist {}", &["Algorithm"], &variants).is_empty());
}

#[test]
fn the_library_consists_of_the_rooms() {
    let document = fs::read_to_string(root().join("docs/architecture.md")).expect("docs/architecture.md");
    let library = fs::read_to_string(root().join("cellsparse-core/src/lib.rs")).expect("lib.rs");
    let modules: BTreeSet<String> = library
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_string)
        .collect();
    let written: BTreeSet<String> = rooms(&document).into_keys().collect();
    assert_eq!(modules, written, "the modules of lib.rs (left) and the rooms of docs/architecture.md (right)");
}

/// Budgets, time limits and turns at the server go on evenly when the clock of the computer is set.
#[test]
fn no_code_asks_for_the_time_of_day() {
    let mut files = Vec::new();
    for member in ["core", "kernels", "server", "cli", "ffi", "py"] {
        rust_files(&root().join(format!("cellsparse-{member}/src")), &mut files);
    }
    rust_files(&root().join("cellsparse-java/native/src"), &mut files);
    assert!(files.len() > 100, "{} files", files.len());
    let asks = |file: &PathBuf| {
        let (code, _) = without_tests(&fs::read_to_string(file).expect("a source file"));
        ["SystemTime::now", "UNIX_EPOCH.elapsed", "modified()?.elapsed"].iter().any(|call| code.contains(call))
    };
    files.retain(asks);
    assert!(files.is_empty(), "{files:?} take the time of day, which may be set; take std::time::Instant");
}

/// Signatures and closures in `code` by which a vector would be handed to a closure.
fn vectors_in_closures(code: &str) -> Vec<&str> {
    let signatures = code.split("fn ").skip(1).map(|rest| rest.split('{').next().unwrap_or_default());
    let closures = code.lines().filter(|line| line.contains("= |"));
    let takes_some = |text: &&str| text.contains("Fn(") && text.split("Fn(").skip(1).any(|rest| rest.contains("S::V"));
    let is_one = |line: &&str| line.split('|').nth(1).is_some_and(|parameters| parameters.contains("S::V"));
    signatures.filter(takes_some).chain(closures.filter(is_one)).map(str::trim).collect()
}

/// A closure may be compiled by itself, without the instruction set: a training step with AVX2 took twice as long.
#[test]
fn kernels_hand_no_vector_to_a_closure() {
    let mut files = Vec::new();
    rust_files(&root().join("cellsparse-kernels/src"), &mut files);
    assert!(files.len() > 15, "{} files", files.len());
    for file in files {
        let (code, _) = without_tests(&fs::read_to_string(&file).expect("a source file"));
        let found = vectors_in_closures(&code);
        assert!(found.is_empty(), "{file:?}: {found:?}; take a function with #[inline(always)]");
    }
    let handed = "unsafe fn tiles<S: Simd>(from: usize, store: impl Fn(usize, S::V)) {\n    let low = |v: S::V| v;\n}";
    assert_eq!(vectors_in_closures(handed).len(), 2);
    assert!(vectors_in_closures("fn add<S: Simd>(a: S::V) {\n    let at = |x: usize| x;\n}").is_empty());
}

#[test]
fn imports_are_recognised() {
    let code = "use crate::error::{Error, Result};\nuse crate::{raster::Image, model};\nfn f() { crate::random::g() }\n\
                use super::super::kernels::Map;\nuse super::near;\npub(crate) fn h() { my_crate::x() }\n";
    assert_eq!(imports(code, 2), ["error", "raster", "model", "random", "kernels"]);
    assert_eq!(imports("use super::error;", 1), ["error"]);
}

#[test]
fn comments_and_tests_are_left_out() {
    let source = "// use crate::a;\nuse crate::b; // crate::c\n#[cfg(test)]\nmod tests {\n    use crate::d;\n    fn f() {\n    }\n}\n\
                  #[cfg(test)]\n#[path = \"more_tests.rs\"]\nmod more;\n#[cfg(test)]\nuse crate::e;\nuse crate::f;\n";
    let (code, files) = without_tests(source);
    assert_eq!(imports(&code, 1), ["b", "f"]);
    assert_eq!(files, ["more_tests.rs"]);
}

#[test]
fn the_table_is_read() {
    let rooms = rooms(
        "<!-- rooms -->\n| # | Room | Holds | May import |\n|---|---|---|---|\n| 0 | `a`, `b` | x | - |\n\
         | 3 | `c` | x | 0-1, 2 |\n<!-- end of rooms -->\n| 9 | `d` | x | - |\n",
    );
    assert_eq!(rooms.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(rooms["a"].may_import.is_empty());
    assert_eq!(rooms["c"].may_import, BTreeSet::from([0, 1, 2]));
}

/// Whether a line of code names an option such as --device; comments may.
fn names_an_option(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.split("--").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
}

#[test]
fn the_library_names_no_option_of_the_command_line() {
    assert!(names_an_option("pass --device cpu") && !names_an_option("a -- b // --device"));
    let mut files = Vec::new();
    rust_files(&root().join("cellsparse-core/src"), &mut files);
    let mut named = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().enumerate().filter(|(_, line)| names_an_option(line));
        named.extend(lines.map(|(number, line)| format!("{}:{}: {}", file.display(), number + 1, line.trim())));
    }
    assert!(
        named.is_empty(),
        "a front end says it in its own words, from the reason of the error:
{}",
        named.join(
            "
"
        )
    );
}
