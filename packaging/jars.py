"""Puts native libraries into jars.

    jars.py OUT NATIVES STARTERS JAR ...

Each JAR is a jar without libraries, or whose libraries are dropped; NATIVES has a folder PLATFORM/ with one library for each platform, STARTERS
the starting weights, which every library holds. Writes OUT/NAME.jar with all libraries and OUT/NAME-PLATFORM.jar with one each.

Libraries are packed as LIBRARY.lzma, by which they are a third smaller than by what jars have (XZ for Java unpacks them),
and beside each lies its hash, by which a copy that was unpacked before is found. In the jar with all libraries the starting weights lie
once, in native/starters/: each library is packed without them, with a list of the places where they belong (LIBRARY.parts, which the class
Assembled reads). Exits with 1 when that jar is larger than LIMIT.
"""

import functools
import hashlib
import lzma
import pathlib
import sys
import zipfile

import pack

# What a person waits for when QuPath fetches the extension.
LIMIT = 25_000_000

# Among the jar with all libraries are those of the systems that QuPath comes for. On musl the jar of the platform is taken.
APART = ("-musl",)

# Larger windows save nothing, and the class that unpacks holds one in memory.
# Higher presets take four times as long and save 0.3 %.
FILTER = {"id": lzma.FILTER_LZMA1, "preset": 6, "dict_size": 1 << 24}


def cut(library, starters):
    """The library without the starting weights, and where they belong: position in the whole library and name."""
    found = []
    for name, content in starters.items():
        at = library.find(content)
        if at >= 0:
            found.append((at, name))
    found.sort()
    rest, end = [], 0
    for at, name in found:
        if at < end:
            raise SystemExit(f"jars: {name} overlaps the weights before it")
        rest.append(library[end:at])
        end = at + len(starters[name])
    rest.append(library[end:])
    return b"".join(rest), found


def assemble(rest, found, starters):
    """The whole library again."""
    whole, taken = bytearray(), 0
    for at, name in found:
        step = at - len(whole)
        whole += rest[taken : taken + step]
        taken += step
        whole += starters[name]
    return bytes(whole + rest[taken:])


@functools.cache
def compress(content):
    return lzma.compress(content, format=lzma.FORMAT_ALONE, filters=[FILTER])


def packed(name, library, rest):
    """The entries of a library, of which `rest` is packed."""
    return {
        f"{name}.lzma": compress(rest),
        # What NativeLibrary.hash gives of the whole library.
        f"{name}.hash": hashlib.sha256(library).hexdigest()[:32].encode(),
    }


def pack_jar(jar, out, libraries, starters):
    """The jars of one jar. False when the one with all libraries is too large."""
    with zipfile.ZipFile(jar) as archive:
        common = {
            name: archive.read(name) for name in archive.namelist() if not name.endswith("/") and not name.startswith("native/")
        }
    together, used, held = dict(common), set(), []
    for platform, path in libraries.items():
        library, name = path.read_bytes(), f"native/{platform}/{path.name}"
        thin = out / f"{jar.stem}-{platform}.jar"
        pack.write(thin, {**common, **packed(name, library, library)})
        print(f"{thin.name:<64} {thin.stat().st_size / 1e6:5.1f} MB, library {len(library) / 1e6:5.1f} MB")
        if platform.endswith(APART):
            continue
        rest, found = cut(library, starters)
        if assemble(rest, found, starters) != library:
            raise SystemExit(f"jars: {name} cannot be put together again")
        together.update(packed(name, library, rest))
        together[f"{name}.parts"] = "".join(f"{at} /{part}\n" for at, part in found).encode()
        used.update(part for _, part in found)
        held.append(platform)
    together.update({name: starters[name] for name in used})
    whole = out / jar.name
    pack.write(whole, together)
    size = whole.stat().st_size
    print(f"{whole.name:<64} {size / 1e6:5.1f} MB, for {', '.join(held)}")
    if size > LIMIT:
        print(f"jars: {whole.name} is larger than {LIMIT / 1e6} MB", file=sys.stderr)
    return size <= LIMIT


def main():
    out, natives, folder, *jars = map(pathlib.Path, sys.argv[1:])
    starters = {f"native/starters/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.bin"))}
    libraries = {path.parent.name: path for path in sorted(natives.glob("*/*cellsparse_jni.*"))}
    if not libraries:
        raise SystemExit(f"jars: no library below {natives}; first: make dist")
    out.mkdir(parents=True, exist_ok=True)
    return not all([pack_jar(jar, out, libraries, starters) for jar in jars])


if __name__ == "__main__":
    sys.exit(main())
