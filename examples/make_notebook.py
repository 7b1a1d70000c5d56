"""Makes `cellsparse.ipynb` from `cellsparse.py` and runs it, so that its pictures are in it.

    python examples/make_notebook.py [OUT]

Needs cellsparse, matplotlib, nbclient and ipykernel. Without OUT the notebook beside the script is replaced.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent


def cells(source: str) -> list[nbformat.NotebookNode]:
    """The cells of a script in which `# %%` begins code and `# %% [markdown]` begins commented text."""
    found = []
    for number, part in enumerate(("\n" + source).split("\n# %%")[1:]):
        head, _, body = part.partition("\n")
        body = body.strip("\n")
        if head.strip() == "[markdown]":
            body = "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in body.split("\n"))
            cell = nbformat.v4.new_markdown_cell(body)
        else:
            cell = nbformat.v4.new_code_cell(body)
        cell["id"] = f"cell{number}"
        found.append(cell)
    return found


def make() -> nbformat.NotebookNode:
    """The notebook, run in a folder of its own.

    CELLSPARSE_NOTEBOOK_STEPS shortens its trainings.
    """
    notebook = nbformat.v4.new_notebook(cells=cells((HERE / "cellsparse.py").read_text()))
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        # When a cell ran, and lines on the error stream, differ every time.
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]
        for output in cell.get("outputs", []):
            shrink(output.get("data", {}))
    notebook.metadata.pop("language_info", None)
    return notebook


def shrink(data: dict[str, str]) -> None:
    """Gives a picture a palette: a third of the size, and no difference to the eye."""
    if "image/png" in data:
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
        file = io.BytesIO()
        picture.quantize(192, method=Image.Quantize.MEDIANCUT).save(file, "png", optimize=True)
        data["image/png"] = base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    nbformat.write(make(), sys.argv[1] if len(sys.argv) > 1 else HERE / "cellsparse.ipynb")
