"""Targets and post-processing of StarDist, with the names, axis orders and dtypes of the `stardist` package."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arrays, _native
from ._errors import ConfigError, ImageError

__all__ = ["dist_to_coord", "edt_prob", "non_maximum_suppression", "polygons_to_label", "star_dist"]


def edt_prob(labels: ArrayLike) -> NDArray[np.float32]:
    """Object probabilities: the distance to the outside of an object over the largest such distance in it.

    Parameters
    ----------
    labels : [H, W]
        Values above 0 are objects.

    Returns
    -------
    float32 [H, W]
        0 outside objects, up to 1 inside.

    Raises
    ------
    LabelsError
        For unusable labels.

    >>> import cellsparse as cs
    >>> cs.stardist.edt_prob([[0, 1, 1, 1, 0]])
    array([[0. , 0.5, 1. , 0.5, 0. ]], dtype=float32)
    """
    return _native.edt_prob(_arrays.labels(labels))


def star_dist(labels: ArrayLike, n_rays: int = 32, grid: tuple[int, int] = (1, 1)) -> NDArray[np.float32]:
    """Distances from pixels to the outline of their object along equally spaced rays.

    Ray `k` points to `(sin, cos)(2 pi k / n_rays)` in (row, column): ray 0 to the right, ray `n_rays / 4` downwards.

    Parameters
    ----------
    labels : [H, W]
        Values above 0 are objects.
    n_rays : int
        Rays.
    grid : (int, int)
        Every how many rows and columns a pixel is taken.

    Returns
    -------
    float32 [ceil(H / grid[0]), ceil(W / grid[1]), n_rays]
        In pixels; 0 outside objects.

    Raises
    ------
    LabelsError, ConfigError
        For unusable labels; for rays or a grid out of range.

    >>> import cellsparse as cs
    >>> cs.stardist.star_dist([[0, 0, 0], [0, 1, 1], [0, 0, 0]], n_rays=4)[1, 1].shape
    (4,)
    """
    array = _arrays.labels(labels)
    return _native.star_dist(array, _arrays.whole("n_rays", n_rays, 1, 1024), _arrays.two("grid", grid))


def non_maximum_suppression(
    dist: ArrayLike,
    prob: ArrayLike,
    grid: tuple[int, int] = (1, 1),
    b: int | tuple[tuple[int, int], tuple[int, int]] | None = 2,
    prob_thresh: float = 0.5,
    nms_thresh: float = 0.5,
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """The polygons of dense maps that are left when each suppresses those that it overlaps and that score lower.

    Parameters
    ----------
    dist : [h, w, rays]
        Distances in pixels.
    prob : [h, w]
        Object probabilities.
    grid : (int, int)
        Pixels between two cells of the maps.
    b : int, ((top, bottom), (left, right)) or None
        Cells left out along the border of the maps.
    prob_thresh : float
        Candidates have a higher probability.
    nms_thresh : float
        Fraction of the smaller polygon's area above which two polygons are the same object.

    Returns
    -------
    points : int64 [n, 2]
        Centres `y, x` in pixels, by descending score.
    scores : float32 [n]
    dist : float32 [n, rays]

    Raises
    ------
    ImageError, ConfigError, LimitError
        For unusable maps; for options out of range; for more than four million candidates.

    >>> import cellsparse as cs, numpy as np
    >>> prob = np.zeros((9, 9)); prob[4, 4] = 0.9; prob[4, 5] = 0.8
    >>> points, scores, dist = cs.stardist.non_maximum_suppression(np.full((9, 9, 8), 3.0), prob)
    >>> points.tolist(), dist.shape
    ([[4, 4]], (1, 8))
    """
    if b is None:
        b = 0
    if hasattr(b, "__index__"):
        width = _arrays.whole("b", b)
        border = ((width, width), (width, width))
    else:
        try:
            rows, columns = b
        except (TypeError, ValueError):
            raise ConfigError(f"option: b is {b!r}; it must be a width or ((top, bottom), (left, right))") from None
        border = (_arrays.two("b", rows), _arrays.two("b", columns))
    return _native.non_maximum_suppression(
        _arrays.floats(dist, 3, "dist"),
        _arrays.floats(prob, 2, "prob"),
        _arrays.two("grid", grid),
        border,
        _arrays.number("prob_thresh", prob_thresh),
        _arrays.number("nms_thresh", nms_thresh),
    )


def _points(points: ArrayLike) -> NDArray[np.float64]:
    array = _arrays.floats(np.reshape(points, (0, 2)) if np.size(points) == 0 else points, 2, "points", np.float64)
    if array.shape[1] != 2:
        raise ImageError(f"points have the shape {array.shape}; they must be [n, 2]: row and column")
    return array


def _scale(scale: tuple[float, float]) -> tuple[float, float]:
    size = np.broadcast_to(np.asarray(scale, float), (2,))
    return float(size[0]), float(size[1])


def dist_to_coord(
    dist: ArrayLike, points: ArrayLike, scale_dist: tuple[float, float] = (1, 1)
) -> NDArray[np.float32]:
    """The vertices of star-convex polygons.

    Parameters
    ----------
    dist : [n, rays]
        Distances in pixels.
    points : [n, 2]
        Centres `y, x` in pixels.
    scale_dist : (float, float)
        Distances are divided by it, per axis.

    Returns
    -------
    float32 [n, 2, rays]
        Rows, then columns.

    Raises
    ------
    ImageError, ConfigError
        For unusable arrays, other numbers of centres than of rows; for a scale that is not above 0.

    >>> import cellsparse as cs
    >>> cs.stardist.dist_to_coord([[1.0, 2.0, 1.0, 2.0]], [[5, 5]]).round(3).tolist()
    [[[5.0, 7.0, 5.0, 3.0], [6.0, 5.0, 4.0, 5.0]]]
    """
    return _native.dist_to_coord(_arrays.floats(dist, 2, "dist"), _points(points), _scale(scale_dist))


def polygons_to_label(
    dist: ArrayLike,
    points: ArrayLike,
    shape: tuple[int, int],
    prob: ArrayLike | None = None,
    thr: float = -np.inf,
    scale_dist: tuple[float, float] = (1, 1),
) -> NDArray[np.int32]:
    """Draws star-convex polygons: polygon `k` of the list gets the id `k + 1`.

    Parameters
    ----------
    dist : [n, rays]
        Distances in pixels.
    points : [n, 2]
        Centres `y, x` in pixels.
    shape : (int, int)
        Of the label image.
    prob : [n], optional
        Polygons with a higher one cover others; without it later ones do.
    thr : float
        Polygons whose `prob` is not above it are left out.
    scale_dist : (float, float)
        Distances are divided by it, per axis.

    Returns
    -------
    int32 [H, W]

    Raises
    ------
    ImageError, ConfigError, LimitError
        For unusable arrays or numbers that differ; for a scale that is not above 0; for an image that is too large.

    >>> import cellsparse as cs
    >>> cs.stardist.polygons_to_label([[1, 1, 1, 1]], [[1, 1]], (3, 3))
    array([[0, 1, 0],
           [1, 1, 1],
           [0, 1, 0]], dtype=int32)
    """
    size = _arrays.two("shape", tuple(shape)[:2])
    _arrays.check_pixels(size)
    distances, centres = _arrays.floats(dist, 2, "dist"), _points(points)
    if prob is None:
        return _native.polygons_to_label(distances, centres, size, None, _scale(scale_dist))
    scores = _arrays.floats(prob, 1, "prob")
    if not len(scores) == len(distances) == len(centres):
        raise ImageError(
            f"{len(scores)} scores, {len(distances)} rows of distances and {len(centres)} points; give one of each"
        )
    kept = np.flatnonzero(~(scores <= thr))
    drawn = _native.polygons_to_label(
        _arrays._plain(distances[kept], np.float32), centres[kept], size, scores[kept].tolist(), _scale(scale_dist)
    )
    if len(kept) == len(scores):
        return drawn
    ids: NDArray[np.int32] = np.concatenate([[0], kept + 1]).astype(np.int32)
    return ids[drawn]
