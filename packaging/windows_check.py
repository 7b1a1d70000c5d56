"""Checks what programs and libraries for Windows ask of the system, whatever processor they are for.

    windows_check.py aarch64|x86_64 FILE ...

Of a wheel the libraries in it are looked at. Prints one line; exits with 1 when something is not as it has to be. Needs pefile.
"""

import sys
import zipfile

import pefile

MACHINES = {"x86_64": 0x8664, "aarch64": 0xAA64}
# Libraries of every Windows 10.
SYSTEM = {f"{name}.dll" for name in ("kernel32", "ntdll", "userenv", "ws2_32", "bcrypt", "bcryptprimitives", "advapi32")}
# Whatever Python loads an extension module (abi3).
PYTHON = "python3.dll"


def files(path):
    """Names and bytes of the programs and libraries in a wheel, or of a file."""
    if not path.endswith(".whl"):
        with open(path, "rb") as file:
            return [(path, file.read())]
    with zipfile.ZipFile(path) as wheel:
        return [(name, wheel.read(name)) for name in wheel.namelist() if name.endswith((".pyd", ".dll", ".exe"))]


def check(path, data, machine):
    """What is wrong with a file."""
    file = pefile.PE(data=data, fast_load=True)
    file.parse_data_directories(
        [pefile.DIRECTORY_ENTRY[f"IMAGE_DIRECTORY_ENTRY_{name}"] for name in ("IMPORT", "EXPORT", "DELAY_IMPORT")]
    )
    if file.FILE_HEADER.Machine != machine:
        yield f"{path} is for the machine {file.FILE_HEADER.Machine:#x}"
    imports = getattr(file, "DIRECTORY_ENTRY_IMPORT", []) + getattr(file, "DIRECTORY_ENTRY_DELAY_IMPORT", [])
    names = {entry.dll.decode().lower() for entry in imports}
    for name in sorted(names - SYSTEM - ({PYTHON} if path.endswith(".pyd") else set())):
        if not name.startswith("api-ms-win-"):
            yield f"{path} needs {name}"
    exports = getattr(file, "DIRECTORY_ENTRY_EXPORT", None)
    if not path.endswith(".exe") and not (exports and exports.symbols):
        yield f"{path} exports nothing"


def main(processor, *paths):
    found = [file for path in paths for file in files(path)]
    wrong = [fault for file in found for fault in check(*file, MACHINES[processor])]
    print("; ".join(wrong) if wrong else f"{len(found)} files for {processor} need libraries of Windows alone")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
