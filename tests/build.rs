//! Tells the tests whether the folder with real images is there, so that a test without its data says "ignored".

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(real_images)");
    println!("cargo::rerun-if-env-changed=CELLSPARSE_SHARED");
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("CELLSPARSE_SHARED").map_or(beside, PathBuf::from);
    let real = shared.join("fixtures/real");
    println!("cargo::rerun-if-changed={}", real.display());
    if real.is_dir() {
        println!("cargo::rustc-cfg=real_images");
    }
}
