"""Drawn microscope fields with ground truth, for trying things out and for tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _arrays, _native

__all__ = ["Field", "draw_world", "field"]


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


def draw_world(
    seed: int = 0,
    size: tuple[int, int] = (256, 256),
    kinds: Iterable[str] | None = None,
    channels: str = "any",
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Draws cells of some kind under some microscope. The same arguments give the same samples.

    Parameters
    ----------
    seed : int
    size : (int, int)
        Rows and columns, 32 to 8192.
    kinds : names, optional
        What to choose from: `nuclei`, `cytoplasm`, `membranes`, `phase-contrast`, `brightfield`, `interference`, `tissue`,
        `bacteria`, `filaments`, `yeast`, `epithelium`, `spread`, `blobs`, `restyled`, `empty` (no cells). Any by default.
    channels : str
        `grey` (one), `colour` (three) or `any`.

    Returns
    -------
    image : ndarray
        `[H, W]` or `[H, W, C]` of uint8, uint16 or float32.
    labels : ndarray
        `[H, W]` of int32: 0 background, 1, 2, ... cells.

    Raises
    ------
    ConfigError
        For a size out of range, an unknown kind or unknown channels.

    >>> import cellsparse as cs
    >>> image, labels = cs.draw_world(seed=3, size=(64, 80), kinds=["yeast"], channels="colour")
    >>> image.shape, labels.shape
    ((64, 80, 3), (64, 80))
    """
    names = [kinds] if isinstance(kinds, str) else kinds
    chosen = None if names is None else [str(name) for name in names]
    return _native.draw_world(_arrays.whole("seed", seed), _arrays.two("size", size), chosen, str(channels))
