#!/usr/bin/env bash
# Builds what is handed out for this machine from the newest commit in two folders of different names, with packaging/dist.sh and
# packaging/jars.sh, and compares the hashes of archive (program and C library), wheel and jars.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=$(rustc -vV | sed -n 's/^host: //p')
work=$PWD/target/reproducible
folders=("$work/one" "$work/another/deeper")
# Of both, whatever is committed meanwhile.
commit=$(git rev-parse HEAD)

for folder in "${folders[@]}"; do
  rm -rf "$folder" && mkdir -p "$folder"
  git archive "$commit" | tar -x -C "$folder"
  # The same tools: another Zig or maturin may well write other files.
  mkdir -p target/dist/tools "$folder/target/dist"
  ln -s "$PWD/target/dist/tools" "$folder/target/dist/tools"
  "$folder/packaging/dist.sh" "$target"
  "$folder/packaging/jars.sh"
  rm -rf "$folder/target/dist/build"
done
sums=("${folders[@]/%//target/dist/SHA256SUMS}")
cat "${sums[0]}"
if diff "${sums[@]}"; then
  echo "reproducible: $(wc -l < "${sums[0]}") files are the same from two folders"
else
  echo "reproducible: the files named above differ" >&2
  exit 1
fi
