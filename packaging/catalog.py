#!/usr/bin/env python3
"""Keeps catalog.json, from which QuPath's extension manager (0.6 and later) takes the extension.

    catalog.py           adds the release of the version that Cargo.toml states, unless it is there
    catalog.py --check   exits with 1 when QuPath would not accept the file, or the version of Cargo.toml is not in it

Users give QuPath the address of the repository; it reads the file of this name in the repository's main folder. What it accepts:
https://github.com/qupath/extension-catalog-model.
"""

import json
import pathlib
import re
import sys
from urllib.parse import urlsplit

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE = ROOT / "catalog.json"
REPOSITORY = "https://github.com/cellsparse/cellsparse"
# The first QuPath with an extension manager.
OLDEST_QUPATH = "v0.6.0"
VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)(?:-rc(\d+))?")
HOSTS = ("github.com", "maven.scijava.org", "repo1.maven.org")
# Name, type, whether it has to be there.
CATALOG = (("name", str, True), ("description", str, True), ("extensions", list, True))
EXTENSION = (
    ("name", str, True), ("description", str, True), ("author", str, True), ("homepage", str, True), ("starred", bool, False),
    ("releases", list, True),
)
RELEASE = (
    ("name", str, True), ("main_url", str, True), ("version_range", dict, True), ("required_dependency_urls", list, False),
    ("optional_dependency_urls", list, False), ("javadoc_urls", list, False),
)
RANGE = (("min", str, True), ("max", str, False), ("excludes", list, False))


def version():
    return "v" + re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.M).group(1)


def release(name):
    """The entry of a release. The jar for all systems: QuPath takes one file, whatever it runs on."""
    jar = f"qupath-extension-cellsparse-{name.removeprefix('v')}.jar"
    return {
        "name": name,
        "main_url": f"{REPOSITORY}/releases/download/{name}/{jar}",
        "version_range": {"min": OLDEST_QUPATH},
    }


def order(name):
    """For comparison: a candidate comes before its release."""
    *numbers, candidate = VERSION.fullmatch(name).groups()
    return (*map(int, numbers), int(candidate) if candidate else sys.maxsize)


def fields(what, found, known):
    """What is wrong with the fields of an object."""
    if not isinstance(found, dict):
        return [f"{what} is no object"]
    names = {name for name, _, _ in known}
    wrong = [f"{what} has the unknown field {name}" for name in found if name not in names]
    for name, kind, needed in known:
        if name not in found:
            wrong += [f"{what} has no {name}"] if needed else []
        elif not isinstance(found[name], kind):
            wrong.append(f"{name} of {what} is no {kind.__name__}")
    return wrong


def on_github(url):
    parts = urlsplit(url)
    return parts.scheme == "https" and parts.netloc == "github.com" and re.match(r"/[0-9A-Za-z]+/[0-9A-Za-z]+", parts.path)


def check_range(what, found):
    wrong = fields(f"the version range of {what}", found, RANGE)
    if wrong:
        return wrong
    bounds = [found["min"], *found.get("excludes", []), *([found["max"]] if "max" in found else [])]
    unknown = [str(bound) for bound in bounds if not isinstance(bound, str) or not VERSION.fullmatch(bound)]
    if unknown:
        return [f"{what} names the version {', '.join(unknown)}, not one such as v0.6.0"]
    if any(not order(found["min"]) <= order(bound) <= order(found.get("max", bound)) for bound in bounds):
        return [f"{what} has versions outside of its range"]
    return []


def check_release(found):
    wrong = fields("a release", found, RELEASE)
    if wrong:
        return wrong
    what = found["name"]
    if not VERSION.fullmatch(what):
        wrong.append(f"the release {what} is not named such as v0.1.0")
    if not on_github(found["main_url"]):
        wrong.append(f"main_url of {what} is not on https://github.com")
    for name in ("required_dependency_urls", "optional_dependency_urls", "javadoc_urls"):
        for url in found.get(name, []):
            if urlsplit(url).scheme != "https" or urlsplit(url).netloc not in HOSTS:
                wrong.append(f"{name} of {what}: {url} is not on {', '.join(HOSTS)}")
    return wrong + check_range(what, found["version_range"])


def check(catalog):
    """What QuPath would not accept."""
    wrong = fields("the catalog", catalog, CATALOG)
    if wrong:
        return wrong
    for extension in catalog["extensions"]:
        faults = fields("an extension", extension, EXTENSION)
        if not faults and not on_github(extension["homepage"]):
            faults.append("the homepage is not on https://github.com")
        wrong += faults or [fault for entry in extension["releases"] for fault in check_release(entry)]
    if wrong:
        return wrong
    for what, names in (
        ("extensions", [extension["name"] for extension in catalog["extensions"]]),
        *(("releases", [entry["name"] for entry in extension["releases"]]) for extension in catalog["extensions"]),
    ):
        if len(set(names)) < len(names):
            wrong.append(f"two {what} have one name")
    return wrong


def self_test(catalog):
    """The check finds what it has to find."""
    def changed(change):
        other = json.loads(json.dumps(catalog))
        change(other, other["extensions"][0], other["extensions"][0]["releases"][0])
        return check(other)

    for change in (
        lambda c, e, r: c.pop("description"),
        lambda c, e, r: c["extensions"].append(e),
        lambda c, e, r: e.update(homepage="http://github.com/a/b"),
        lambda c, e, r: e.update(version="1"),
        lambda c, e, r: e["releases"].append(r),
        lambda c, e, r: r.update(name="0.1.0"),
        lambda c, e, r: r.update(main_url="https://example.org/a/b.jar"),
        lambda c, e, r: r.update(javadoc_urls=["https://example.org/a.jar"]),
        lambda c, e, r: r.pop("version_range"),
        lambda c, e, r: r.update(version_range={"min": "0.6"}),
        lambda c, e, r: r.update(version_range={"min": "v0.6.0", "max": "v0.6.0-rc2"}),
        lambda c, e, r: r.update(version_range={"min": "v0.6.0", "excludes": ["v0.5.0"]}),
    ):
        assert changed(change), "a fault was not found"
    assert not changed(lambda c, e, r: r.update(version_range={"min": "v0.6.0-rc1", "max": "v0.7.0", "excludes": ["v0.6.0"]}))


def main():
    catalog = json.loads(FILE.read_text(encoding="utf-8"))
    if sys.argv[1:] != ["--check"]:
        releases = catalog["extensions"][0]["releases"]
        if version() not in [entry["name"] for entry in releases]:
            releases.insert(0, release(version()))
            FILE.write_text(json.dumps(catalog, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        return 0
    wrong = check(catalog)
    if not wrong:
        self_test(catalog)
        if release(version()) not in catalog["extensions"][0]["releases"]:
            wrong = [f"{version()} of Cargo.toml is not in it; add it with packaging/catalog.py"]
    if not wrong:
        print(f"catalog: {FILE.name} is what QuPath reads")
        return 0
    print("\n".join(f"catalog: {line}" for line in wrong), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
