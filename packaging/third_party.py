#!/usr/bin/env python3
"""Writes THIRD_PARTY.txt: the licences of all that is compiled into programs, libraries, wheels and jars.

    third_party.py            writes the file anew
    third_party.py --check    exits with 1 when the file is not what would be written, and says which crates are missing

The crates are those that Cargo links for any target of targets.txt. Where a crate may be used under one of several licences, MIT is
taken if it is among them; every other text that the crate's folder has is written down. Needs what `cargo fetch` brings.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "THIRD_PARTY.txt"
PACKAGES = ("cellsparse-cli", "cellsparse-ffi", "cellsparse-jni", "cellsparse-py")
TEXTS = ("license", "licence", "copying", "copyright", "unlicense", "notice")
RULE = "-" * 100

HEAD = """Programs, libraries, wheels and jars of cellsparse hold the code below, compiled. cellsparse itself may be used under the MIT
licence or the Apache License 2.0, see LICENSE-MIT and LICENSE-APACHE. The names of the crates are those of https://crates.io.
"""

# What linkers and compilers add. The holders stand in the toolchains' own files.
TOOLCHAIN = """The standard library of Rust, MIT OR Apache-2.0: The Rust Project contributors, and the authors of the crates that it is built from
(https://www.rust-lang.org/policies/licenses).

In programs for Linux with musl: musl, MIT, Copyright (c) 2005-2020 Rich Felker and others (https://musl.libc.org).

In programs and libraries for Windows: start-up code of mingw-w64, in the public domain and under the Zope Public License 2.1
(https://www.mingw-w64.org).

In jars: classes of XZ for Java 1.10, 0BSD, Copyright (C) The XZ for Java authors and contributors (https://tukaani.org/xz/java.html).

In what Zig links: its routines of the compiler, MIT, Copyright (c) Zig contributors (https://ziglang.org), and LLVM's libunwind, Apache-2.0
WITH LLVM-exception (https://llvm.org).
"""

MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files
(the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge,
publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do
so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE
FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION
WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def linked():
    """Name and version of every crate of another project that is linked for a target."""
    targets = [
        line.split()[0] for line in (ROOT / "packaging/targets.txt").read_text().splitlines() if line and not line.startswith("#")
    ]
    chosen = [argument for package in PACKAGES for argument in ("-p", package)]
    # As packaging/dist.sh builds them.
    chosen += ["--features", ",".join(f"{package}/sam" for package in PACKAGES)]
    found = set()
    for target in targets:
        edges = ("-e", "normal,no-proc-macro", "--prefix", "none", "-f", "{p}")
        tree = cargo("tree", "--quiet", "--locked", "--target", target, *edges, *chosen)
        for line in tree.splitlines():
            words = line.split()
            if words and not words[0].startswith("cellsparse"):
                found.add((words[0], words[1].removeprefix("v")))
    return found


def taken(licence):
    """Whether MIT alone is enough."""
    return " AND " not in licence and "MIT" in re.split(r" OR |/", licence)


def texts(package):
    """The licence texts of a crate that are to be kept."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name.lower().startswith(TEXTS))
    contents = {path: path.read_text(encoding="utf-8", errors="replace") for path in files}
    if taken(package["license"]):
        mit = [text for text in contents.values() if "ermission is hereby granted, free of charge" in text]
        return mit or [f"Copyright (c) {', '.join(package['authors']) or 'the authors of ' + package['name']}\n\n{MIT}"]
    if not contents:
        raise SystemExit(f"third_party: {package['name']} is under {package['license']} and has no text of it")
    return list(contents.values())


def document():
    metadata = json.loads(cargo("metadata", "--quiet", "--locked", "--format-version", "1"))
    packages = {(package["name"], package["version"]): package for package in metadata["packages"]}
    by_text = {}
    for key in sorted(linked()):
        package = packages[key]
        if not package["license"]:
            raise SystemExit(f"third_party: {package['name']} states no licence")
        for text in texts(package):
            clean = "\n".join(line.rstrip() for line in text.strip().splitlines())
            names = by_text.setdefault(" ".join(clean.split()), (clean, []))[1]
            names.append(f"{package['name']} {package['version']} ({package['license']})")
    parts = [HEAD, TOOLCHAIN]
    for clean, names in sorted(by_text.values(), key=lambda entry: entry[1]):
        parts.append("\n".join(dict.fromkeys(names)) + "\n\n" + clean + "\n")
    return f"\n{RULE}\n\n".join(parts)


def main():
    wanted = document()
    if sys.argv[1:] != ["--check"]:
        OUT.write_text(wanted, encoding="utf-8", newline="\n")
        return 0
    present = OUT.read_text(encoding="utf-8") if OUT.exists() else ""
    if present == wanted:
        print(f"notices: {OUT.name} has every crate that is linked")
        return 0
    named = set(re.findall(r"^(\S+ \d\S*) \(", wanted, re.M))
    known = set(re.findall(r"^(\S+ \d\S*) \(", present, re.M))
    print(f"notices: {OUT.name} is not up to date; write it anew with packaging/third_party.py", file=sys.stderr)
    for what, crates in (("missing", named - known), ("no longer linked", known - named)):
        if crates:
            print(f"notices: {what}: {', '.join(sorted(crates))}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
