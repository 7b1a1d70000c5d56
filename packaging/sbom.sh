#!/usr/bin/env bash
# Writes a list of what is in each thing that is handed out (CycloneDX) to target/dist, and adds it to the checksums.
# Needs cargo-cyclonedx: cargo install --locked cargo-cyclonedx
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p target/dist
for crate in cellsparse-cli cellsparse-ffi cellsparse-java/native cellsparse-py; do
  name=$(sed -n 's/^name = "\(.*\)"/\1/p' "$crate/Cargo.toml" | head -n 1)
  cargo cyclonedx --quiet --manifest-path "$crate/Cargo.toml" --format json --override-filename "$name.sbom"
  mv "$crate/$name.sbom.json" target/dist/
done
# The lists of crates of this workspace that are a part of another one's.
find . -name '*.sbom.json' -not -path './target/*' -delete
packaging/sums.sh
