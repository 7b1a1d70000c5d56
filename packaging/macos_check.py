"""Checks what programs and libraries for macOS ask of the system, where none can be run.

    macos_check.py FOLDER ...

Prints one line; exits with 1 when something is not as it has to be. Reads the Mach-O files themselves. Source of the layout:
<mach-o/loader.h>, <mach-o/nlist.h>.
"""

import pathlib
import struct
import sys

MAGIC = 0xFEEDFACF
LC_SYMTAB, LC_LOAD_DYLIB, LC_ID_DYLIB, LC_CODE_SIGNATURE, LC_BUILD_VERSION, LC_VERSION_MIN = 0x2, 0xC, 0xD, 0x1D, 0x32, 0x24
EXECUTABLE, DYNAMIC_LIBRARY, BUNDLE = 2, 6, 8
# Libraries of every macOS.
SYSTEM = ("/usr/lib/libSystem.B.dylib", "/usr/lib/libiconv.2.dylib", "/usr/lib/libobjc.A.dylib", "/System/Library/Frameworks/")
NEWEST_MINIMUM = (11, 0)


def commands(data):
    """The load commands of a Mach-O file: kind and bytes."""
    magic, _, _, kind, count, _, _, _ = struct.unpack_from("<8I", data)
    if magic != MAGIC:
        raise ValueError("no 64-bit Mach-O file")
    at, found = 32, []
    for _ in range(count):
        command, size = struct.unpack_from("<2I", data, at)
        found.append((command & 0x7FFFFFFF, data[at : at + size]))
        at += size
    return kind, found


def text(data, at):
    return data[at : data.index(b"\0", at)].decode()


def undefined(data, command):
    """Names of the symbols that other libraries have to give."""
    symbols, count, strings, _ = struct.unpack_from("<4I", command, 8)
    names = []
    for index in range(count):
        name, kind, section, _, _ = struct.unpack_from("<IBBHQ", data, symbols + 16 * index)
        if kind & 0xE0 == 0 and kind & 0x0E == 0 and kind & 1 and section == 0:
            names.append(text(data, strings + name))
    return names


def check(path):
    """What is wrong with a file, and what is known of it."""
    data = path.read_bytes()
    kind, found = commands(data)
    wrong, minimum, signed, libraries, names = [], None, False, [], []
    for command, body in found:
        if command == LC_BUILD_VERSION:
            version = struct.unpack_from("<I", body, 12)[0]
            minimum = (version >> 16, version >> 8 & 255)
        elif command == LC_VERSION_MIN:
            version = struct.unpack_from("<I", body, 8)[0]
            minimum = (version >> 16, version >> 8 & 255)
        elif command == LC_LOAD_DYLIB:
            libraries.append(text(body, struct.unpack_from("<I", body, 8)[0]))
        elif command == LC_CODE_SIGNATURE:
            signed = True
        elif command == LC_SYMTAB:
            names = undefined(data, body)
    foreign = [name for name in libraries if not name.startswith(SYSTEM)]
    if foreign:
        wrong.append(f"{path.name} needs {', '.join(foreign)}")
    if minimum is None or minimum > NEWEST_MINIMUM:
        wrong.append(f"{path.name} needs macOS {minimum}")
    return wrong, (path.name, kind, minimum, signed, len(names), [name for name in names if name.startswith("_Py")])


def main():
    files = [
        path for folder in sys.argv[1:] for path in sorted(pathlib.Path(folder).rglob("*"))
        if path.is_file() and path.read_bytes()[:4] == struct.pack("<I", MAGIC)
    ]
    wrong, told = ([] if files else ["there is no Mach-O file"]), []
    for path in files:
        faults, (name, _, minimum, signed, undefined_names, python) = check(path)
        wrong += faults
        if python and not name.endswith(".so"):
            wrong.append(f"{name} needs Python")
        version = "?" if minimum is None else ".".join(map(str, minimum))
        told.append(f"{name}: macOS {version}, {undefined_names} symbols of the system, {'signed' if signed else 'not signed'}")
    print("; ".join(wrong or told))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
