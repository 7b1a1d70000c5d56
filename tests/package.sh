#!/usr/bin/env bash
# Makes the archive of every crate that can be published, and looks whether what the crate needs is in it.
#
#   tests/package.sh            the archives, under target/package
#   tests/package.sh --verify   compiles what is in them, too (minutes)
#
# Uncommitted files are packed as well. The crates name each other by version, so they are packed together.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

crates=(cellsparse-kernels cellsparse-core cellsparse-server cellsparse-cli cellsparse-ffi)
arguments=(--quiet --allow-dirty)
case ${1:-} in
  "") arguments+=(--no-verify) ;;
  --verify) ;;
  *) echo "error: unknown argument '$1'" >&2 && exit 2 ;;
esac
for crate in "${crates[@]}"; do arguments+=(-p "$crate"); done
# Examples, benchmarks and tests that lie outside of a crate's folder are left out, which cargo warns of.
cargo package "${arguments[@]}" 2>&1 | { grep -vE "^warning: ignoring (example|benchmark|test) " || true; }

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
status=0
for crate in "${crates[@]}"; do
  archive=${CARGO_TARGET_DIR:-target}/package/$crate-$version.crate
  listing=$(tar -tzf "$archive" | sed "s|^$crate-$version/||")
  wanted=(README.md LICENSE-MIT LICENSE-APACHE Cargo.toml)
  case $crate in
    cellsparse-cli) wanted+=(src/main.rs src/report.css) ;;
    cellsparse-core) wanted+=(src/lib.rs starters/{stardist,cellpose,elephant}.bin) ;;
    *) wanted+=(src/lib.rs) ;;
  esac
  for file in "${wanted[@]}"; do
    grep -qxF "$file" <<< "$listing" || { echo "package: $crate has no $file" >&2 && status=1; }
  done
  printf '%-20s %4d files, %7d bytes packed\n' "$crate" "$(wc -l <<< "$listing")" "$(wc -c < "$archive")"
done
exit "$status"
