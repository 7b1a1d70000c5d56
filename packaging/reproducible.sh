#!/usr/bin/env bash
# Builds what is handed out for this machine from the newest commit in two folders of different names, with packaging/dist.sh and
# packaging/jars.sh, and compares the hashes of program, shared libraries, wheel and jars. Of the static library it says whether it is the
# same: its objects refer to each other by names with a hash of the compiler, which is not always equal where the code is.
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

# sums FOLDER: of the files that were built there, but for the archive and the static library in it.
sums() {
  (cd "$1/target/dist" && find "$target/bin" "$target/lib" natives wheels jars -type f ! -name '*.a' -print0 | sort -z | xargs -0 sha256sum)
}
sums "${folders[0]}" | tee "$work/one.sums"
sums "${folders[1]}" > "$work/another.sums"
static=("${folders[@]/%//target/dist/$target/lib/libcellsparse.a}")
if cmp -s "${static[@]}"; then echo "the static library is the same, too"; else echo "the static library differs"; fi
if diff "$work/one.sums" "$work/another.sums"; then
  echo "reproducible: $(wc -l < "$work/one.sums") files are the same from two folders"
else
  echo "reproducible: the files named above differ" >&2
  exit 1
fi
