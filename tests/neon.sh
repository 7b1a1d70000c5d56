#!/bin/bash
# Compiles the kernels for AArch64 and runs their tests (NEON against plain Rust) on an emulated processor.
#
# What the machine already has is used: `rustup target add aarch64-unknown-linux-gnu`, `aarch64-linux-gnu-gcc`,
# `qemu-aarch64`. On Debian 12 (x86-64) what is missing is fetched as Debian packages and unpacked under target/neon;
# nothing is installed and no rights are needed. On an AArch64 machine the tests run without an emulator.
#
#   tests/neon.sh [ARGUMENTS OF THE TEST PROGRAM]     e.g. tests/neon.sh --nocapture levels
#   tests/neon.sh --objdump > kernels.s               the machine code instead of the tests
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$PWD/target/neon
root=$work/root
host=$(rustc -vV | sed -n 's/^host: //p')
case $host in
    aarch64-*) target=$host ;;
    *) target=aarch64-unknown-linux-gnu ;;
esac
mkdir -p "$work"
# Of the unpacked programs; empty where nothing is unpacked.
export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

fail() {
    printf 'neon: %s\n' "$@" >&2
    exit 1
}

# Fetches Debian packages (`NAME` or `NAME:arm64`) and unpacks them under $root. The package lists lie under $work too, so
# that the arm64 ones can be read without `dpkg --add-architecture`.
unpack() {
    command -v apt-get > /dev/null && command -v dpkg > /dev/null || return 1
    local apt=(-qq -o APT::Sandbox::User=root -o APT::Architectures=amd64,arm64 -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache")
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/deb" "$work/unpacked" "$root"
    if [ ! -e "$work/lists/done" ]; then
        apt-get "${apt[@]}" update && touch "$work/lists/done" || return 1
    fi
    local name
    for name in "$@"; do
        [ ! -e "$work/unpacked/$name" ] || continue
        echo "neon: unpacking $name" >&2
        rm -rf "$work/deb" && mkdir "$work/deb"
        (cd "$work/deb" && apt-get "${apt[@]}" download "$name" >&2) || return 1
        dpkg -x "$work"/deb/*.deb "$root" && touch "$work/unpacked/$name" || return 1
    done
    rm -rf "$work/deb"
}

# The packages named in the `Depends` of a package that match a pattern.
needs() {
    apt-cache -o APT::Architectures=amd64,arm64 -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" \
        show --no-all-versions "$1" | awk '/^Depends:/' | grep -oE "$2" | head -n 1
}

# A compiler with the standard library of the target: that of the machine, or Debian's newest.
compiler() {
    [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || return 0
    if [ ! -e "$work/unpacked/compiler" ]; then
        unpack rustc-web libstd-rust-web-dev:amd64 libstd-rust-web-dev:arm64 || return 1
        local std llvm
        std=$(needs libstd-rust-web-dev:amd64 'libstd-rust-web-[0-9.]+[0-9]') && unpack "$std" || return 1
        llvm=$(needs "$std" 'libllvm[0-9]+') && unpack "$llvm" || return 1
        touch "$work/unpacked/compiler"
    fi
    export RUSTC=$root/usr/bin/rustc
    "$RUSTC" --version > /dev/null || fail \
        "the unpacked compiler does not start; install the libraries it lacks (usually libedit2 libxml2 libz3-4)"
}

linker() {
    linker=$(command -v aarch64-linux-gnu-gcc) && return 0
    unpack gcc-12-aarch64-linux-gnu binutils-aarch64-linux-gnu libgcc-12-dev-arm64-cross libc6-arm64-cross \
        libc6-dev-arm64-cross libgcc-s1-arm64-cross || return 1
    linker=$root/usr/bin/aarch64-linux-gnu-gcc-12
    flags=(-C "link-arg=--sysroot=$root")
}

emulator() {
    runner=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) && return 0
    unpack qemu-user-static || return 1
    runner=$root/usr/bin/qemu-aarch64-static
}

flags=()
if [ "$host" != "$target" ]; then
    compiler || fail "there is no Rust standard library for $target and no Debian 12 package could be fetched." \
        "Run: rustup target add $target"
    linker || fail "there is no aarch64-linux-gnu-gcc and no Debian 12 package could be fetched." \
        "Install the cross compiler of your system (Debian and Ubuntu: gcc-aarch64-linux-gnu)."
    emulator || fail "there is no qemu-aarch64 and no Debian 12 package could be fetched." \
        "Install the user-mode emulator of your system (Debian and Ubuntu: qemu-user)."
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$linker
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$runner
    # Static, so that the emulator needs no libraries of the other architecture.
    flags+=(-C target-feature=+crt-static)
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="${flags[*]}"
fi

export CARGO_TARGET_DIR=$work/build

if [ "${1:-}" = --objdump ]; then
    # Without checks, as in a release build, but with the names of the functions.
    export CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_LTO=off
    rm -f "$work/build/$target/release/deps"/cellsparse_kernels-*
    cargo test -p cellsparse-kernels --target "$target" --release --lib --no-run
    program=$(find "$work/build/$target/release/deps" -name 'cellsparse_kernels-*' ! -name '*.*' -type f)
    PATH=$PATH:$root/usr/bin
    objdump=$(command -v aarch64-linux-gnu-objdump || command -v objdump) ||
        fail "there is no objdump; install the binutils of your system."
    exec "$objdump" -dC --no-show-raw-insn "$program"
fi
cargo test -p cellsparse-kernels --target "$target" -- "$@"
