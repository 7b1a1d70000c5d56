"""The types that the package states are those of the built module."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("mypy")


@pytest.mark.parametrize("command", ["mypy.stubtest cellsparse", "mypy --strict -p cellsparse"])
def test_types(command, tmp_path):
    arguments = [sys.executable, "-m", *command.split()]
    run = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
