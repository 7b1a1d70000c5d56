#!/usr/bin/env bash
# maturin writes the folder of a build into every wheel, so that builds in two folders differ whatever is done about time.
#
# maturin 1.16.0 puts a list of the Rust packages in a wheel (`sboms/NAME.cyclonedx.json`) by default. With SOURCE_DATE_EPOCH set its
# time and its serial number are the same in every build, but packages of the workspace are named by `path+file://` and the absolute path of
# their folder: the builder's name and folders are handed out with the wheel. `[tool.maturin.sbom] rust = false` leaves it out, and the
# wheels are equal. RUSTFLAGS with --remap-path-prefix, which keeps folders out of the code, does nothing about it.
#
# Seen with Rust 1.95: "with the list: differ in RECORD sboms/small.cyclonedx.json, names its folder: True", "without: the same".
# Exit status 0: as described. 1: something else was seen.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "maturin==1.16.0"
export SOURCE_DATE_EPOCH=1700000000

# build PLACE LIST: the wheel of the same program built in that folder, unpacked to PLACE/LIST.
build() {
  mkdir -p "$folder/$1/src"
  echo 'fn main() {}' > "$folder/$1/src/main.rs"
  printf '[package]\nname = "small"\nversion = "0.1.0"\nedition = "2021"\n' > "$folder/$1/Cargo.toml"
  {
    printf '[build-system]\nrequires = ["maturin"]\nbuild-backend = "maturin"\n[project]\nname = "small"\nversion = "0.1.0"\n'
    printf '[tool.maturin]\nbindings = "bin"\n[tool.maturin.sbom]\nrust = %s\n' "$2"
  } > "$folder/$1/pyproject.toml"
  (
    cd "$folder/$1"
    export RUSTFLAGS="--remap-path-prefix=$PWD=/small"
    "$folder/venv/bin/maturin" build --quiet --release --out "$2" > log 2>&1 || { cat log >&2; exit 1; }
    "$folder/venv/bin/python" -m zipfile -e "$2"/*.whl "$2/unpacked"
  )
}

for place in one two; do
  build $place true
  build $place false
done
differ=$({ diff -rq "$folder"/{one,two}/true/unpacked || true; } | sed 's/.*dist-info\/\([^ ]*\) and .*/\1/; s/.*dist-info\/\([^ ]*\) differ/\1/' | sort | paste -sd ' ')
named=False
grep -q "path+file://$folder/one" "$folder"/one/true/unpacked/*.dist-info/sboms/small.cyclonedx.json && named=True
echo "with the list: differ in $differ, names its folder: $named"
without=differ
cmp -s "$folder"/one/false/*.whl "$folder"/two/false/*.whl && without="the same"
echo "without: $without"
[ "$differ $named $without" = "RECORD sboms/small.cyclonedx.json True the same" ] || { echo "not as described" >&2; exit 1; }
