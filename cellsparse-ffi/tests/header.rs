//! The header that is checked in is the one that this crate generates.

use std::path::Path;

#[test]
fn the_header_is_up_to_date() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(crate_folder.join("cbindgen.toml")).expect("cbindgen.toml");
    let mut bytes = Vec::new();
    cbindgen::Builder::new()
        .with_crate(crate_folder)
        .with_config(config)
        .generate()
        .expect("the header of this crate")
        .write(&mut bytes);
    let generated = String::from_utf8(bytes).expect("UTF-8");
    let path = crate_folder.join("../include/cellsparse.h");
    if std::env::var_os("CELLSPARSE_WRITE_HEADER").is_some() {
        std::fs::write(&path, generated).expect("include/cellsparse.h is written");
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == generated, "include/cellsparse.h is stale; `make header` writes it anew");
}
