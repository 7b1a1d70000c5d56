"""Targets and post-processing of Cellpose, with the names and axis orders of the `cellpose` package (3.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arrays, _native
from ._errors import ImageError

__all__ = ["compute_masks", "fill_holes_and_remove_small_masks", "follow_flows", "masks_to_flows"]


def masks_to_flows(masks: ArrayLike) -> NDArray[np.float32]:
    """The flows that a network is trained to answer: unit vectors towards the centres of cells, by diffusion of heat.

    Parameters
    ----------
    masks : [H, W]
        Values above 0 are cells.

    Returns
    -------
    float32 [2, H, W]
        Rows (`dY`), then columns (`dX`); 0 outside cells. A network answers five times as much.

    Raises
    ------
    LabelsError, LimitError
        For unusable masks; for a cell that is too large.

    >>> import cellsparse as cs
    >>> cs.cellpose.masks_to_flows([[1, 1, 1]])[1]
    array([[ 1.,  0., -1.]], dtype=float32)
    """
    return _native.masks_to_flows(_arrays.labels(masks, "masks"))


def _flows(flows: ArrayLike) -> NDArray[np.float32]:
    array = _arrays.floats(flows, 3, "dP")
    if array.shape[0] != 2:
        raise ImageError(f"dP has the shape {array.shape}; it must be [2, H, W]: flows along rows, then columns")
    return array


def follow_flows(dP: ArrayLike, niter: int = 200, interp: bool = True) -> NDArray[np.float32]:
    """Where every pixel of an image ends when it follows a field of flows.

    Parameters
    ----------
    dP : [2, H, W]
        Flows along rows and columns in pixels per step: of a network's answer a fifth, and 0 outside cells, thus
        `dP * (cellprob > 0) / 5`.
    niter : int
        Steps.
    interp : bool
        Whether flows between pixels are interpolated.

    Returns
    -------
    float32 [2, H, W]
        Rows and columns of the end positions. Pixels without flow stay.

    Raises
    ------
    ImageError
        For an unusable array.

    >>> import cellsparse as cs, numpy as np
    >>> dP = np.zeros((2, 1, 4)); dP[1, 0, :2] = 1
    >>> cs.cellpose.follow_flows(dP, niter=3)[1]
    array([[2., 2., 2., 3.]], dtype=float32)
    """
    return _native.follow_flows(_flows(dP), _arrays.whole("niter", niter, 0, 10**6), bool(interp))


def compute_masks(
    dP: ArrayLike,
    cellprob: ArrayLike,
    niter: int = 200,
    cellprob_threshold: float = 0.0,
    flow_threshold: float = 0.4,
    min_size: int = 15,
    interp: bool = True,
    max_size_fraction: float = 0.4,
) -> NDArray[np.int32]:
    """The cells of a network's answer.

    Parameters
    ----------
    dP : [2, H, W]
        Flows along rows and columns, five times unit length, as a network answers them.
    cellprob : [H, W]
        Logits of the cell probability.
    niter : int
        Steps along the flows: 200 for cells of 30 pixels, in proportion for others.
    cellprob_threshold : float
        Pixels with a higher logit belong to cells.
    flow_threshold : float
        Cells whose flows differ more from those of their shape are removed; 0 keeps all.
    min_size : int
        Cells with fewer pixels are removed; 0 or -1 keeps all.
    interp : bool
        Whether flows between pixels are interpolated.
    max_size_fraction : float
        Cells with more than this fraction of the image are removed.

    Returns
    -------
    int32 [H, W]
        0 background, 1, 2, ... cells.

    Raises
    ------
    ImageError, LimitError
        For unusable arrays or different sizes; for a cell that is too large.

    >>> import cellsparse as cs
    >>> truth = cs.synthetic.field(seed=1, shape=(64, 64)).truth
    >>> masks = cs.cellpose.compute_masks(5 * cs.cellpose.masks_to_flows(truth), truth - 0.5)
    >>> cs.metrics.matching(truth, masks).fp
    0
    """
    return _native.compute_masks(
        _flows(dP),
        _arrays.floats(cellprob, 2, "cellprob"),
        _arrays.whole("niter", niter, 0, 10**6),
        _arrays.number("cellprob_threshold", cellprob_threshold),
        _arrays.number("flow_threshold", flow_threshold),
        max(0, _arrays.whole("min_size", min_size, -1)),
        bool(interp),
        _arrays.number("max_size_fraction", max_size_fraction),
    )


def fill_holes_and_remove_small_masks(masks: ArrayLike, min_size: int = 15) -> NDArray[np.int32]:
    """Fills the holes of cells, removes cells with fewer than `min_size` pixels, and renumbers to 1, 2, ...

    `min_size` of 0 or -1 removes none.

    Raises
    ------
    LabelsError
        For unusable masks.

    >>> import cellsparse as cs
    >>> cs.cellpose.fill_holes_and_remove_small_masks([[4, 4, 4, 0, 9], [4, 0, 4, 0, 0], [4, 4, 4, 0, 0]], min_size=2)
    array([[1, 1, 1, 0, 0],
           [1, 1, 1, 0, 0],
           [1, 1, 1, 0, 0]], dtype=int32)
    """
    size = max(0, _arrays.whole("min_size", min_size, -1))
    return _native.fill_holes_and_remove_small_masks(_arrays.labels(masks, "masks"), size)
