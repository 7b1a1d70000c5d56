//! Every native method of the Java class is here, and the reverse.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

// The library is linked so that a test run leaves the file that the tests of Java load.
use cellsparse_jni as _;

/// `model_new` as `modelNew`.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_string();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

#[test]
fn the_methods_of_java_are_all_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let java = folder.join("../cellsparse/src/main/java/io/github/cellsparse/Native.java");
    let java = fs::read_to_string(java).expect("Native.java");
    let declared: BTreeSet<String> = java
        .split("static native ")
        .skip(1)
        .filter_map(|rest| rest.split('(').next()?.split_whitespace().last().map(str::to_string))
        .collect();
    let mut defined = BTreeSet::new();
    for file in fs::read_dir(folder.join("src")).expect("the sources") {
        let source = fs::read_to_string(file.expect("a file").path()).expect("a source");
        let methods = source.split("#[jni_mangle(\"io.github.cellsparse.Native\")]\npub fn ").skip(1);
        defined.extend(methods.filter_map(|rest| rest.split(['<', '(']).next()).map(camel));
    }
    assert!(declared.len() > 30, "{declared:?}");
    assert_eq!(declared, defined);

    // One method for one function of C, but for those that pass texts.
    let header = fs::read_to_string(folder.join("../../include/cellsparse.h")).expect("the header");
    let functions = header.split("\ncellsparse_status cellsparse_").skip(1);
    let functions: BTreeSet<String> = functions.filter_map(|rest| rest.split('(').next()).map(camel).collect();
    assert!(functions.len() > 30, "{functions:?}");
    let missing: Vec<&String> = functions.difference(&declared).filter(|name| *name != "stringFree").collect();
    assert!(missing.is_empty(), "functions of C that Java lacks: {missing:?}");
}
