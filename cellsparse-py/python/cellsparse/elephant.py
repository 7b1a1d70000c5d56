"""Targets of ELEPHANT."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arrays, _native
from ._errors import ConfigError

__all__ = ["class_labels"]


def class_labels(
    labels: ArrayLike,
    rule: Literal["ellipse", "outline"] = "ellipse",
    center_ratio: float = 0.5,
    min_area: int = 9,
) -> NDArray[np.int32]:
    """The training target: which pixels are background, border and centre of cells.

    In labels with unlabelled pixels (below 0) only pixels labelled 0 are background; in others everything outside cells is.

    Parameters
    ----------
    labels : [H, W]
        Below 0 unlabelled, 0 background, 1 and up cells.
    rule : {"ellipse", "outline"}
        `ellipse`: as elephant-core, border and centre are ellipses with the moments of the cell. `outline`: the drawn outline
        is kept and the centre is what lies deep enough inside; this is what models of this package are trained with,
        unless the preset is `reference`.
    center_ratio : float
        Size of the centre as a fraction of the cell's.
    min_area : int
        Smallest number of pixels of an ellipse.

    Returns
    -------
    int32 [H, W]
        -1 ignored, 0 background, 1 border, 2 centre. (elephant-core counts from 0 for ignored.)

    Raises
    ------
    LabelsError, ConfigError
        For unusable labels; for an unknown rule or a ratio out of range.

    >>> import cellsparse as cs, numpy as np
    >>> labels = np.zeros((9, 9), int); labels[1:8, 1:8] = 1
    >>> cs.elephant.class_labels(labels)[4]
    array([0, 1, 1, 2, 2, 2, 1, 1, 0], dtype=int32)
    """
    if rule not in ("ellipse", "outline"):
        raise ConfigError(f"option: rule is {rule!r}; the rules are ellipse and outline")
    smallest = _arrays.whole("min_area", min_area) if rule == "ellipse" else None
    return _native.class_labels(_arrays.labels(labels), _arrays.number("center_ratio", center_ratio), smallest)
