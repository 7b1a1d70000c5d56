"""Fields to try the panel on, drawn by the library."""

from __future__ import annotations

from typing import Any

import numpy as np

import cellsparse as cs

from ._layers import BACKGROUND


def nuclei() -> list[tuple[Any, dict[str, Any], str]]:
    """Nuclei, of which six are annotated, and background strokes under label 1; and such a field without annotation."""
    known, new = cs.synthetic.field(seed=4, shape=(256, 256)), cs.synthetic.field(seed=5, shape=(256, 256))
    drawn = np.where(known.annotation < 0, 0, known.annotation + 1)
    return [
        (new.image, {"name": "unseen nuclei", "visible": False}, "image"),
        (known.image, {"name": "nuclei"}, "image"),
        (drawn, {"name": "drawn", "opacity": 0.6, "metadata": {BACKGROUND: 1}}, "labels"),
    ]


def tissue() -> list[tuple[Any, dict[str, Any], str]]:
    """Stained tissue, in colour."""
    image, _ = cs.draw_world(seed=11, size=(256, 256), kinds="tissue", channels="colour")
    return [(image, {"name": "tissue", "rgb": True}, "image")]
