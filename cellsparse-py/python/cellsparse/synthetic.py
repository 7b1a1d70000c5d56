"""Drawn microscope fields with ground truth, for trying things out and for tests."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _arrays, _native

__all__ = ["Field", "field"]


class Field(NamedTuple):
    """A drawn image and what is in it.

    >>> import cellsparse as cs
    >>> image, truth, annotation = cs.synthetic.field(seed=3, shape=(64, 80))
    >>> image.shape
    (64, 80)
    """

    image: NDArray[np.uint8]
    """`[H, W]`: fluorescent nuclei of varied size and brightness, touching pairs, debris, uneven light, shot noise."""
    truth: NDArray[np.int32]
    """`[H, W]`: 0 background, 1, 2, ... nuclei."""
    annotation: NDArray[np.int32]
    """`[H, W]`: -1 unlabelled, 0 background strokes, and a few nuclei with their ids in `truth`."""


def field(
    seed: int = 0,
    shape: tuple[int, int] = (256, 256),
    density: float = 5.0,
    radius: float = 9.5,
    cells: int = 6,
    strokes: int = 4,
) -> Field:
    """Draws a field of nuclei and annotates it as a careful person would. The same arguments give the same pixels.

    Parameters
    ----------
    seed : int
    shape : (int, int)
        Rows and columns, at least 16.
    density : float
        Nuclei per 10,000 pixels.
    radius : float
        Typical radius of a nucleus in pixels, 2 to 100.
    cells, strokes : int
        Nuclei and background strokes that are annotated.

    Raises
    ------
    ConfigError, LimitError
        For options out of range; for a field that is too large.

    >>> import cellsparse as cs
    >>> int(cs.synthetic.field(seed=3, shape=(64, 64), density=8).truth.max())
    3
    """
    return Field(
        *_native.field(
            _arrays.whole("seed", seed),
            _arrays.two("shape", shape),
            _arrays.number("density", density),
            _arrays.number("radius", radius),
            _arrays.whole("cells", cells),
            _arrays.whole("strokes", strokes),
        )
    )
