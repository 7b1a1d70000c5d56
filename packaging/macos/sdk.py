"""Writes the little of macOS's SDK that linking takes: what Zig ships of the symbols of the system's library.

    sdk.py ZIG OUT

ZIG is the folder of Zig, OUT the folder that is made, for SDKROOT.
"""

import pathlib
import re
import shutil
import sys

# Asked for by Rust's standard library, which takes no symbol of it.
ICONV = """--- !tapi-tbd
tbd-version:     4
targets:         [ x86_64-macos, arm64-macos ]
install-name:    '/usr/lib/libiconv.2.dylib'
current-version: 7
compatibility-version: 7
exports:
  - targets:         [ x86_64-macos, arm64-macos ]
    symbols:         [ _iconv, _iconv_close, _iconv_open ]
...
"""


def main():
    zig, out = map(pathlib.Path, sys.argv[1:])
    source = zig / "lib/libc/darwin"
    library = (source / "libSystem.tbd").read_text()
    # Zig names variants of processors that Rust's linker does not know.
    library = re.sub(r"(targets:\s*\[)[^\]]*\]", r"\1 x86_64-macos, arm64-macos ]", library)
    shutil.rmtree(out, ignore_errors=True)
    (out / "usr/lib").mkdir(parents=True)
    shutil.copy(source / "SDKSettings.json", out)
    for name in ("System", "c", "m"):
        (out / f"usr/lib/lib{name}.tbd").write_text(library)
    (out / "usr/lib/libiconv.tbd").write_text(ICONV)


if __name__ == "__main__":
    main()
