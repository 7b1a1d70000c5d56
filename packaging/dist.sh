#!/usr/bin/env bash
# Builds what is handed out for every platform that this machine can build for: program, C library with its header, wheel and the
# native library of the jar. Says at the end what came out and what did not.
#
#   packaging/dist.sh [TARGET ...]      default: all of packaging/targets.txt
#
# Needs Rust with rustup, which installs the standard library of each target, and Python with venv. Zig, as compiler and linker
# for every system without its SDK, cargo-zigbuild and maturin are Python packages, installed into target/dist/tools. Nothing is
# installed elsewhere. Everything comes to rest under target/dist:
#   TARGET/{bin,lib,include}        program, C library; packed as cellsparse-VERSION-TARGET.tar.gz (.zip for Windows)
#   natives/native/PLATFORM/        native libraries of Java, as the jar has them
#   wheels/                         wheels for Python 3.10 and later
#   SHA256SUMS                      of all archives and wheels
# packaging/jars.sh packs the jars.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
repository=$PWD
out=$repository/target/dist
python=${PYTHON:-python3}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
export CARGO_TARGET_DIR=$out/build
# The oldest systems that the libraries start on: glibc of 2014, macOS 11.
glibc=2.17
export MACOSX_DEPLOYMENT_TARGET=11.0
# Messages of panics name source files; without the folders of this machine the same source gives the same files everywhere.
export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$repository=/cellsparse --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"

fail() {
  echo "error: $*" >&2
  exit 1
}

# Pinned: another Zig links another C library.
tools() {
  local wanted="ziglang==0.17.1 cargo-zigbuild==0.24.1 maturin==1.16.0 pefile==2024.8.26"
  if [ "$(cat "$out/tools/installed" 2> /dev/null)" != "$wanted" ]; then
    rm -rf "$out/tools"
    "$python" -m venv "$out/tools"
    # shellcheck disable=SC2086
    "$out/tools/bin/pip" install --quiet --disable-pip-version-check $wanted
    echo "$wanted" > "$out/tools/installed"
  fi
  export PATH=$out/tools/bin:$PATH
}

# A line of targets.txt: triple, name of the platform in the jar, tag of the wheel, first part of a library's file name, its
# ending, ending of programs.
describe() {
  local line
  line=$(grep -E "^$1 " packaging/targets.txt) || fail "unknown target '$1'; packaging/targets.txt lists them"
  read -r target platform compatibility prefix shared program <<< "$line"
  [ "$prefix" != - ] || prefix=
  [ "$program" != - ] || program=
}

# Zig as compiler and linker. cargo-zigbuild and maturin would each bring it in their own way, and all that depends on an object compiled
# by it would be compiled once for each; and for Windows maturin would ask it for the symbol PyInit_cellsparse._native, which cannot be, and
# cargo-zigbuild drop the list of what a library exports, so that it exports all and keeps what nothing calls.
zig_compilers() {
  local kind wrapper flags name=${target^^} triple=${target/-unknown-/-}
  # Zig takes the version of glibc as a part of the target.
  [[ $target != *-linux-gnu ]] || triple+=.$glibc
  triple=${triple/-pc-windows-gnullvm/-windows-gnu}
  for kind in cc c++ ar; do
    wrapper=$out/tools/zig-$kind-$target
    flags="-fno-sanitize=all -target $triple"
    [ $kind != ar ] || flags=
    cat > "$wrapper" << SCRIPT
#!/bin/sh
for argument; do
  shift
  case \$argument in -Wl,*.def) argument=\${argument#-Wl,} ;; esac
  set -- "\$@" "\$argument"
done
export CARGO_ZIGBUILD_ZIG_COMMAND='$out/tools/bin/python3' CARGO_ZIGBUILD_ZIG_COMMAND_ARGS='-m ziglang'
exec '$out/tools/bin/cargo-zigbuild' zig $kind -- $flags "\$@"
SCRIPT
    chmod +x "$wrapper"
  done
  export "CC_${target//-/_}=$out/tools/zig-cc-$target" "CXX_${target//-/_}=$out/tools/zig-c++-$target"
  export "AR_${target//-/_}=$out/tools/zig-ar-$target" "CARGO_TARGET_${name//-/_}_LINKER=$out/tools/zig-cc-$target"
}

# Rust's own linker, and of the SDK what Zig knows of the system's library.
macos_linker() {
  export SDKROOT=$out/tools/macos-sdk
  "$out/tools/bin/python" packaging/macos/sdk.py "$("$out/tools/bin/python" -c 'import ziglang; print(ziglang.__path__[0])')" "$SDKROOT"
  local name=${target^^}
  export "CARGO_TARGET_${name//-/_}_LINKER=$repository/packaging/macos/rust-lld"
  # maturin gives these to every crate, unless they are there; compiled without them, all would be compiled once more.
  RUSTFLAGS+=" -C link-arg=-undefined -C link-arg=dynamic_lookup"
}

build() {
  describe "$1"
  rustup target add "$target" > /dev/null 2>&1 || return 77
  # Zig's linker keeps, for macOS, all that nothing calls: half as much again.
  case $target in
    *-apple-darwin) macos_linker ;;
    *) zig_compilers ;;
  esac
  local built=$CARGO_TARGET_DIR/$target/release to=$out/$target native=$out/natives/native/$platform
  rm -rf "$to" "$native"
  mkdir -p "$to/bin" "$to/lib" "$to/include" "$native" "$out/wheels"

  # Otherwise the linker writes the time into the files.
  [[ $target != *-windows-* ]] || RUSTFLAGS+=" -C link-arg=-Wl,-Brepro"
  # A program for musl brings its own C library; libraries that are loaded into another program take it from there.
  if [[ $target = *-musl ]]; then
    RUSTFLAGS+=" -C target-feature=-crt-static"
    export RUSTC_WORKSPACE_WRAPPER=$repository/packaging/musl_rustc.sh
  fi
  # With the Python library among them, dependencies have the features that the wheel needs, and are compiled once.
  cargo build --quiet --locked --release --target "$target" -p cellsparse-cli -p cellsparse-ffi -p cellsparse-jni -p cellsparse-py \
    --features cellsparse-cli/sam,cellsparse-ffi/sam,cellsparse-jni/sam,cellsparse-py/sam || return 1
  cp "$built/cellsparse$program" "$to/bin/"
  cp "$built/${prefix}cellsparse.$shared" "$built/libcellsparse.a" "$to/lib/"
  [ ! -e "$built/libcellsparse.dll.a" ] || cp "$built/libcellsparse.dll.a" "$to/lib/"
  cp include/cellsparse.h "$to/include/"
  cp LICENSE-APACHE LICENSE-MIT THIRD_PARTY.txt README.md "$to/"
  cp "$built/${prefix}cellsparse_jni.$shared" "$native/"

  maturin build --quiet --locked --release --strip --target "$target" --compatibility "$compatibility" \
    --manifest-path cellsparse-py/Cargo.toml --features sam --out "$out/wheels" || return 1
  archive
}

archive() {
  local name=cellsparse-$version-$target
  case $target in
    *windows*) "$python" packaging/pack.py "$out/$name.zip" "$out/$target" "$name" ;;
    *) tar -C "$out" --sort=name --owner=0 --group=0 --numeric-owner --mtime='1980-01-01 00:00Z' --mode='u=rwX,go=rX' \
      --transform "s|^$target|$name|" -cf - "$target" | gzip -n9 > "$out/$name.tar.gz" ;;
  esac
}

command -v rustup > /dev/null || fail "rustup is missing; it installs the standard library of each target: https://rustup.rs"
tools
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(sed -n 's/^\([a-z0-9_]*-[^ ]*\) .*/\1/p' packaging/targets.txt)
report=()
failed=0
for name in "${targets[@]}"; do
  echo "== $name"
  began=$SECONDS status=0
  (build "$name") || status=$?
  case $status in
    0) result=built ;;
    77) result="left out: rustup has no standard library for it here" ;;
    *) result=failed failed=1 ;;
  esac
  report+=("$(printf '%-28s %5d s  %s' "$name" $((SECONDS - began)) "$result")")
done
packaging/sums.sh
echo "== built"
printf '%s\n' "${report[@]}"
exit "$failed"
