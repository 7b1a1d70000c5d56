"""Writes zip files that depend on nothing but what is in them: entries sorted by name, one date, one kind of rights.

pack.py OUT FOLDER NAME      packs what is in FOLDER, below NAME/
"""

import pathlib
import sys
import zipfile

# The oldest date that the format knows.
DATE = (1980, 1, 1, 0, 0, 0)


def write(out, entries):
    """`entries`: content by name; what ends in .exe or .dll may be run."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        # Readers of jars expect the manifest first.
        for name in sorted(entries, key=lambda name: (name != "META-INF/MANIFEST.MF", name)):
            info = zipfile.ZipInfo(name, DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = (0o755 if name.endswith((".exe", ".dll")) else 0o644) << 16
            archive.writestr(info, entries[name])


def main():
    out, folder, name = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    write(out, {f"{name}/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*") if path.is_file()})


if __name__ == "__main__":
    main()
