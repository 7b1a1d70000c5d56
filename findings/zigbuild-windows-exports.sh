#!/usr/bin/env bash
# A library for Windows that cargo-zigbuild links exports everything in it instead of what Rust says.
#
# cargo-zigbuild 0.24.1 with Zig 0.17.1, target x86_64-pc-windows-gnu: rustc tells the linker the exports of a `cdylib` by a file (list.def),
# which cargo-zigbuild takes out of the arguments. Zig's linker then exports every symbol, so a library with one `extern "C"` function has
# hundreds of exports. Given to Zig as a file of its own (without `-Wl,`), the list is heeded.
#
# Seen with Rust 1.95: "cargo-zigbuild: 1651 exports, only_this among them: True", "with the list: 1 export, only_this among them: True".
# Needs rustup. Exit status 0: as described. 1: something else was seen.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "cargo-zigbuild==0.24.1" "ziglang==0.17.1" "pefile==2024.8.26"
PATH=$folder/venv/bin:$PATH
export CARGO_TARGET_DIR=$folder/target
target=x86_64-pc-windows-gnu
rustup target add $target > /dev/null 2>&1
mkdir -p "$folder/small/src"
cat > "$folder/small/Cargo.toml" << 'TOML'
[package]
name = "small"
version = "0.1.0"
edition = "2021"

[lib]
crate-type = ["cdylib"]
TOML
cat > "$folder/small/src/lib.rs" << 'RUST'
#[no_mangle]
pub extern "C" fn only_this(x: i32) -> i32 {
    println!("{x}");
    x + 1
}
RUST
cat > "$folder/linker" << SCRIPT
#!/bin/sh
for argument; do
  shift
  case \$argument in -Wl,*.def) argument=\${argument#-Wl,} ;; esac
  set -- "\$@" "\$argument"
done
export CARGO_ZIGBUILD_ZIG_COMMAND='$folder/venv/bin/python3' CARGO_ZIGBUILD_ZIG_COMMAND_ARGS='-m ziglang'
exec cargo-zigbuild zig cc -- -target x86_64-windows-gnu "\$@"
SCRIPT
chmod +x "$folder/linker"
exports() {
  python3 - "$folder/target/$target/release/small.dll" << 'PY'
import sys
import pefile
names = [one.name for one in pefile.PE(sys.argv[1]).DIRECTORY_ENTRY_EXPORT.symbols]
print(len(names), b"only_this" in names)
PY
}
cd "$folder/small"
cargo zigbuild --quiet --release --target $target
read -r count there <<< "$(exports)"
echo "cargo-zigbuild: $count exports, only_this among them: $there"
rm -r "$folder/target"
CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=$folder/linker cargo build --quiet --release --target $target
read -r few there_too <<< "$(exports)"
echo "with the list: $few export, only_this among them: $there_too"
[ "$((count > 100)) $there $few $there_too" = "1 True 1 True" ] || { echo "not as described" >&2; exit 1; }
