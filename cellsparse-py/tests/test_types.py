"""The types that the package states are those of the built module."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cellsparse import _native

pytest.importorskip("mypy")


# The plugin, which is its own stub, cannot be imported without napari.
ALLOWED = r"cellsparse\._napari\._(clicks|curve|form|jobs|widget)"
# With NumPy 2.5, `NDArray[Any]` is no type when it is asked for one.
ALLOWED += "\n" + r"cellsparse\._arrays\.Array"
if not hasattr(_native, "Sam"):
    ALLOWED += "\n" + r"cellsparse\._native\.Sam.*"


@pytest.mark.parametrize(
    "command",
    ["mypy.stubtest cellsparse --allowlist allowed --ignore-unused-allowlist", "mypy --strict -p cellsparse"],
)
def test_types(command, tmp_path):
    (tmp_path / "allowed").write_text(ALLOWED + "\n")
    arguments = [sys.executable, "-m", *command.split()]
    run = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
