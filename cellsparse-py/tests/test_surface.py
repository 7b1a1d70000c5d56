"""Names and parameters that programs use stay: those of the first release are written down in surface.txt, and none goes or
changes. With CELLSPARSE_WRITE_SURFACE=1 the test writes down what was added."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import os
import pathlib
import pkgutil

import cellsparse

FILE = pathlib.Path(__file__).with_name("surface.txt")


def parameters(function) -> str:
    """Names, kinds and whether there is a default: values of defaults are in the documentation."""
    told = []
    for parameter in inspect.signature(function).parameters.values():
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        told.append(star + parameter.name + ("" if parameter.default is parameter.empty else "=..."))
        if parameter.kind is parameter.KEYWORD_ONLY and not any(name.startswith("*") for name in told[:-1]):
            told.insert(-1, "*")
    return f"({', '.join(told)})"


def members(path: str, thing) -> list[str]:
    if inspect.isclass(thing):
        lines = [f"{path}: class"]
        if not issubclass(thing, BaseException):
            for name in sorted(name for name in dir(thing) if not name.startswith("_")):
                member = inspect.getattr_static(thing, name)
                if isinstance(member, (staticmethod, classmethod)):
                    member = member.__func__
                lines.append(f"{path}.{name}{parameters(member) if inspect.isroutine(member) else ''}")
        return lines
    return [path + (parameters(thing) if inspect.isroutine(thing) else "")]


def surface() -> list[str]:
    lines = []
    modules = ["cellsparse", *(f"cellsparse.{module.name}" for module in pkgutil.iter_modules(cellsparse.__path__))]
    for name in modules:
        if any(part.startswith("_") for part in name.split(".")):
            continue
        module = importlib.import_module(name)
        for public in module.__all__:
            thing = getattr(module, public)
            lines += [f"{name}.{public}: module"] if inspect.ismodule(thing) else members(f"{name}.{public}", thing)
    return sorted(set(lines))


def test_surface():
    now = surface()
    recorded = FILE.read_text().splitlines() if FILE.exists() else []
    assert sorted(set(recorded) - set(now)) == [], "programs use these"
    if os.environ.get("CELLSPARSE_WRITE_SURFACE"):
        FILE.write_text("".join(f"{line}\n" for line in now))
    else:
        assert sorted(set(now) - set(recorded)) == [], "write these down with CELLSPARSE_WRITE_SURFACE=1"


def test_licences_are_installed():
    texts = {path.name: path for path in importlib.metadata.files("cellsparse") or [] if path.parent.name == "licenses"}
    assert sorted(texts) == ["LICENSE-APACHE", "LICENSE-MIT", "THIRD_PARTY.txt"]
    assert "pyo3" in texts["THIRD_PARTY.txt"].read_text(encoding="utf-8")
