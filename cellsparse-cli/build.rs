//! Tells the tests what is there, so that one without its data or program says "ignored": the folder with real images
//! (`real_images`) and valgrind (`valgrind`).

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(real_images, valgrind)");
    for variable in ["CELLSPARSE_SHARED", "CI"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("CELLSPARSE_SHARED").map_or(beside, PathBuf::from);
    if shared.join("fixtures/real/cellsparse").is_dir() {
        println!("cargo::rustc-cfg=real_images");
    }
    // Continuous integration has to have it.
    if std::env::var_os("CI").is_some() || Command::new("valgrind").arg("--version").output().is_ok() {
        println!("cargo::rustc-cfg=valgrind");
    }
}
