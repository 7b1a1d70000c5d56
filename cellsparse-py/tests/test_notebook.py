"""The notebook runs, and is the one that its script makes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_notebook_runs_and_is_up_to_date(monkeypatch):
    spec = importlib.util.spec_from_file_location("make_notebook", EXAMPLES / "make_notebook.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    stored = nbformat.read(EXAMPLES / "cellsparse.ipynb", 4)
    made = maker.cells((EXAMPLES / "cellsparse.py").read_text())
    assert [cell.source for cell in stored.cells] == [cell.source for cell in made], "run examples/make_notebook.py"
    pictures = [
        output
        for cell in stored.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 6
    assert (EXAMPLES / "cellsparse.ipynb").stat().st_size < 1_500_000
    monkeypatch.setenv("CELLSPARSE_NOTEBOOK_STEPS", "3")
    assert all(cell.cell_type == "markdown" or cell.execution_count for cell in maker.make().cells)
