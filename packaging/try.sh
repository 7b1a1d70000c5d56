#!/usr/bin/env bash
# Runs what packaging/dist.sh built, each platform by what this machine has for it: Wine, QEMU, an empty root folder. Trains and
# predicts on a small drawn field; the label image is compared with that of the plain kernels of this machine's own program.
#
#   packaging/try.sh [TARGET ...]      default: all that are built
#
# On Debian: apt-get install wine qemu-user libc6-arm64-cross libgcc-s1-arm64-cross mingw-w64; a platform whose tool is missing is
# named and left out. Programs for macOS cannot be run here: of them what they ask of the system is checked.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$PWD/target/dist
work=$out/try
python=$out/tools/bin/python
host=$(rustc -vV | sed -n 's/^host: //p')
report=()
failed=0

fail() {
  echo "error: $*" >&2
  exit 1
}

note() {
  report+=("$(printf '%-28s %-24s %s' "$1" "$2" "$3")")
  case $3 in wrong*) failed=1 ;; esac
}

# Small enough for an emulator, with the default networks and the starting weights.
arguments=(--steps 3 --batch-size 1 --patch-size 96 --seed 1 --threads 2 --precision f32)

# round LOGS FOLDER PROGRAM ...: trains each algorithm and predicts with it, into FOLDER as the program sees it.
round() {
  local logs=$1 folder=$2 algorithm
  shift 2
  for algorithm in stardist cellpose elephant; do
    "$@" train --algorithm $algorithm --images "$work/field/images" --labels "$work/field/sparse" --label-encoding wire \
      --model "$folder/$algorithm.safetensors" "${arguments[@]}" > "$logs/$algorithm.log" 2>&1 || return 1
    "$@" predict --model "$folder/$algorithm.safetensors" --images "$work/field/images" --out "$folder/$algorithm" \
      --threads 2 --format labels,geojson,rois,csv,overlay >> "$logs/$algorithm.log" 2>&1 || return 1
  done
}

# compare TARGET HOW FOLDER: with the results of the plain kernels.
compare() {
  local algorithm same=0 text=
  for algorithm in stardist cellpose elephant; do
    if cmp -s "$work/plain/$algorithm/field.png" "$3/$algorithm/field.png"; then
      same=$((same + 1))
    else
      text+=" $algorithm AP at an overlap of 0.5 $("$program" evaluate --pred "$3/$algorithm" --truth "$work/plain/$algorithm" --thresholds 0.5 --json |
        sed -n 's/.*"accuracy": *\([0-9.]*\).*/\1/p' | head -n 1)"
    fi
  done
  note "$1" "$2" "$same of 3 label images equal to the plain kernels'$text"
}

# try TARGET HOW PROGRAM ...
try() {
  local target=$1 how=$2 folder=$work/$1-${2// /-}
  shift 2
  rm -rf "$folder" && mkdir -p "$folder"
  if round "$folder" "$folder" "$@"; then
    compare "$target" "$how" "$folder"
  else
    note "$target" "$how" "wrong: see $folder"
  fi
}

# What programs and libraries for Linux ask of the system: its C library alone, in a version that systems since 2014 have.
linux_needs() {
  command -v readelf > /dev/null || { note "$1" "needs" "left out: no readelf" && return; }
  local platform foreign version files
  platform=$(sed -n "s/^$1 \([^ ]*\) .*/\1/p" packaging/targets.txt)
  files=("$out/$1"/bin/cellsparse "$out/$1"/lib/*.so "$out/natives/native/$platform"/*.so)
  foreign=$(readelf -dW "${files[@]}" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u |
    { grep -vxE 'libc\.so(\.6)?|lib(m|dl|rt|pthread)\.so\.[0-9]|ld-linux.*' || true; } | tr '\n' ' ')
  version=$(readelf -VW "${files[@]}" | { grep -o 'GLIBC_2[0-9.]*' || true; } | sort -uV | tail -n 1)
  if [ -n "$foreign" ]; then
    note "$1" "needs" "wrong: $foreign"
  elif [ "$(printf '%s\nGLIBC_2.17\n' "$version" | sort -V | tail -n 1)" != GLIBC_2.17 ]; then
    note "$1" "needs" "wrong: $version"
  else
    note "$1" "needs" "of ${#files[@]} files the C library alone${version:+, up to $version}"
  fi
}

# This machine's processor without its wide instructions, and one from before they existed.
try_gnu_x86_64() {
  CELLSPARSE_SIMD=scalar try "$1" "plain kernels" "$2"
  try "$1" "as it is" "$2"
  command -v qemu-x86_64 > /dev/null || { note "$1" "qemu Nehalem" "left out: no qemu-x86_64" && return; }
  try "$1" "qemu Nehalem" qemu-x86_64 -cpu Nehalem "$2"
}

try_gnu_aarch64() {
  local root=/usr/aarch64-linux-gnu
  if ! command -v qemu-aarch64 > /dev/null || [ ! -d $root/lib ]; then
    note "$1" qemu "left out: no qemu-aarch64 or no $root" && return
  fi
  try "$1" qemu qemu-aarch64 -L $root "$2"
}

# No C library, no shell, no /tmp: only the program, and the files given to it.
try_musl_x86_64() {
  local root=$work/$1-root
  [ "$(id -u)" = 0 ] || { note "$1" "bare root" "left out: needs root for chroot" && return; }
  rm -rf "$root" && mkdir -p "$root/$work" "$root/bin"
  cp "$2" "$root/bin/cellsparse"
  cp -r "$work/field" "$root/$work/"
  local folder=$work/$1-bare-root
  mkdir -p "$root/$folder"
  if (cd / && round "$root/$folder" "$folder" chroot "$root" /bin/cellsparse); then
    rm -rf "$folder" && mv "$root/$folder" "$work/"
    compare "$1" "bare root" "$folder"
  else
    note "$1" "bare root" "wrong: see $root/$folder"
  fi
}

try_musl_aarch64() {
  command -v qemu-aarch64 > /dev/null || { note "$1" qemu "left out: no qemu-aarch64" && return; }
  try "$1" qemu qemu-aarch64 "$2"
}

# What programs and libraries for Windows ask of the system: nothing that comes with a compiler.
windows_needs() {
  local platform tag=win_amd64 files text
  platform=$(sed -n "s/^$1 \([^ ]*\) .*/\1/p" packaging/targets.txt)
  [[ $1 != aarch64-* ]] || tag=win_arm64
  files=("$out/$1"/bin/cellsparse.exe "$out/$1"/lib/*.dll "$out/natives/native/$platform"/*.dll "$out"/wheels/*-"$tag".whl)
  if text=$("$python" packaging/windows_check.py "${1%%-*}" "${files[@]}"); then
    note "$1" "needs" "$text"
  else
    note "$1" "needs" "wrong: $text"
  fi
}

# Folders with backslashes and drive letters, a name that is not ASCII and one longer than 260 characters, and the C library.
try_windows() {
  local target=$1
  command -v wine > /dev/null || { note "$target" Wine "left out: no wine" && return; }
  export WINEPREFIX=$work/wine WINEDEBUG=-all
  if [ ! -d "$WINEPREFIX/drive_c" ]; then
    wine wineboot --init > "$work/wineboot.log" 2>&1 || true
    wineserver -w || true
  fi
  local system=$WINEPREFIX/drive_c/windows/system32
  if [ ! -e "$system/bcryptprimitives.dll" ]; then
    x86_64-w64-mingw32-gcc -O2 -shared -o "$system/bcryptprimitives.dll" packaging/bcryptprimitives.c -ladvapi32 ||
      { note "$target" Wine "left out: no x86_64-w64-mingw32-gcc for what this Wine lacks" && return; }
  fi
  try "$target" Wine wine "$2"
  windows_names "$target" "$2"
  c_program "$target"
}

windows_names() {
  local long folder="$WINEPREFIX/drive_c/größe 細胞" inside='C:\größe 細胞'
  long=$(printf 'abcdefghij%.0s' {1..20})
  rm -rf "$folder" && mkdir -p "$folder"
  cp "$work/field/images/field.png" "$folder/"
  if wine "$2" predict --model "$(wine winepath -w "$work/$1-Wine/stardist.safetensors")" --images "$inside\\field.png" \
    --out "$inside\\$long\\$long" > "$folder/log" 2>&1 && cmp -s "$folder/$long/$long/field.png" "$work/$1-Wine/stardist/field.png"; then
    note "$1" "Wine, names" "drive letter, backslashes, letters beyond ASCII, 400 characters: as wanted"
  else
    note "$1" "Wine, names" "wrong: see $folder/log"
  fi
}

c_program() {
  local folder=$work/$1-c built=$out/$1
  mkdir -p "$folder"
  cp "$built/lib/cellsparse.dll" "$folder/"
  if x86_64-w64-mingw32-gcc -std=c11 -Iinclude -DRELEASE "-DFIXTURES=\"$PWD/tests/fixtures\"" tests/c/misuse.c \
    -o "$folder/misuse.exe" "$built/lib/libcellsparse.dll.a" > "$folder/log" 2>&1 && (cd "$folder" && wine misuse.exe) >> "$folder/log" 2>&1; then
    note "$1" "Wine, C library" "tests/c/misuse.c passes"
  else
    note "$1" "Wine, C library" "wrong: see $folder/log"
  fi
}

mkdir -p "$work"
program=$out/$host/bin/cellsparse
[ -x "$program" ] || fail "$program is missing; first: packaging/dist.sh $host"
if [ ! -d "$work/field" ]; then
  "$program" demo --steps 1 --out "$work/demo" > /dev/null 2>&1
  mkdir -p "$work/field/images" "$work/field/sparse"
  cp "$work/demo/images/annotated_1.png" "$work/field/images/field.png"
  cp "$work/demo/sparse/annotated_1.png" "$work/field/sparse/field.png"
fi
rm -rf "$work/plain" && mkdir -p "$work/plain"
CELLSPARSE_SIMD=scalar round "$work/plain" "$work/plain" "$program" || fail "the program of this machine failed: see $work/plain"

targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(sed -n 's/^\([a-z0-9_]*-[^ ]*\) .*/\1/p' packaging/targets.txt)
for target in "${targets[@]}"; do
  built=$(ls "$out/$target"/bin/cellsparse* 2> /dev/null || true)
  [ -n "$built" ] || { note "$target" - "left out: not built" && continue; }
  echo "== $target"
  case $target in
    *-linux-*) linux_needs "$target" ;;
    *-windows-*) windows_needs "$target" ;;
  esac
  case $target in
    x86_64-unknown-linux-gnu) try_gnu_x86_64 "$target" "$built" ;;
    aarch64-unknown-linux-gnu) try_gnu_aarch64 "$target" "$built" ;;
    x86_64-unknown-linux-musl) try_musl_x86_64 "$target" "$built" ;;
    aarch64-unknown-linux-musl) try_musl_aarch64 "$target" "$built" ;;
    x86_64-pc-windows-gnullvm) try_windows "$target" "$built" ;;
    *-apple-darwin)
      if text=$("$python" packaging/macos_check.py "$out/$target" "$out/natives/native/macos-${target%%-*}"); then
        note "$target" "checked, not run" "$text"
      else
        note "$target" "checked, not run" "wrong: $text"
      fi ;;
    *) note "$target" - "left out: nothing here runs it" ;;
  esac
done
echo "== tried"
printf '%s\n' "${report[@]}"
exit "$failed"
