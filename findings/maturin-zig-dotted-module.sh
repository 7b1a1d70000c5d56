#!/usr/bin/env bash
# maturin cannot link an extension for Windows by Zig when its module lies in a package.
#
# maturin 1.16.0 with Zig 0.17.1, `build --zig --target x86_64-pc-windows-gnu`, and `module-name = "package._native"`, the usual layout
# of a package with code of its own: maturin writes a list of exports with the symbol `PyInit_package._native`. The symbol of a module is
# PyInit_ and its last name alone, so the link fails. With `module-name = "_native"`, and so without a package in Python, the same
# crate is built.
#
# Seen with Rust 1.95: "package._native: failed, asks for PyInit_package._native: True", "_native: built".
# Needs rustup. Exit status 0: as described. 1: something else was seen.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "maturin==1.16.0" "ziglang==0.17.1"
PATH=$folder/venv/bin:$PATH
export CARGO_TARGET_DIR=$folder/target
rustup target add x86_64-pc-windows-gnu > /dev/null 2>&1
mkdir -p "$folder/small/src" "$folder/small/python/package"
touch "$folder/small/python/package/__init__.py"
cat > "$folder/small/Cargo.toml" << 'TOML'
[package]
name = "small"
version = "0.1.0"
edition = "2021"

[lib]
name = "_native"
crate-type = ["cdylib"]

[dependencies]
pyo3 = { version = "=0.26.0", features = ["abi3-py310", "extension-module", "generate-import-lib"] }
TOML
cat > "$folder/small/src/lib.rs" << 'RUST'
#[pyo3::pymodule]
mod _native {}
RUST
# build NAME [python-source]: the last line says whether it was built.
build() {
  {
    echo '[build-system]'
    echo 'requires = ["maturin"]'
    echo 'build-backend = "maturin"'
    echo '[project]'
    echo 'name = "small"'
    echo 'version = "0.1.0"'
    echo '[tool.maturin]'
    echo "module-name = \"$1\""
    [ -z "${2:-}" ] || echo "python-source = \"$2\""
  } > "$folder/small/pyproject.toml"
  (cd "$folder/small" && maturin build --release --zig --target x86_64-pc-windows-gnu --out "$folder/wheels" 2>&1) &&
    echo built || echo failed
}
dotted=$(build package._native python)
asks=False
case $dotted in *PyInit_package._native*) asks=True ;; esac
echo "package._native: $(tail -n 1 <<< "$dotted"), asks for PyInit_package._native: $asks"
plain=$(build _native)
echo "_native: $(tail -n 1 <<< "$plain")"
[ "$(tail -n 1 <<< "$dotted") $asks $(tail -n 1 <<< "$plain")" = "failed True built" ] || { echo "not as described" >&2; exit 1; }
