"""Functions on images and label images."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arrays, _native
from ._errors import ConfigError
from ._results import Object, known


def to_geojson(
    labels: ArrayLike,
    simplify: float | None = None,
    outline: Literal["exact", "literal"] = "exact",
    objects: Iterable[Object] | None = None,
) -> list[dict[str, Any]]:
    """The outlines of a label image as GeoJSON features, one for each cell, in increasing id. QuPath reads them.

    Parameters
    ----------
    labels : [H, W]
        Values above 0 are cells.
    simplify : float, optional
        Tolerance of the simplification (Douglas-Peucker) in pixels; none by default. Exact outlines stay valid: no ring
        touches or crosses itself or another one, and none becomes empty.
    outline : {"exact", "literal"}
        `exact`: along the pixel edges, in pixel-corner coordinates, with holes and parts: fills back to the same pixels.
        `literal`: the contour rule and feature layout of cellsparse-api 0.2, point for point.
    objects : iterable of Object, optional
        Their probabilities and classes are written as measurements and classifications (`exact` only).

    Returns
    -------
    list of dict
        For `json.dump`; coordinates are `x, y`.

    Raises
    ------
    LabelsError, ConfigError
        For unusable labels; for a negative tolerance or an unknown outline.

    >>> import cellsparse as cs
    >>> feature, = cs.to_geojson([[0, 0], [0, 5]])
    >>> feature["geometry"]["coordinates"], feature["properties"]["id"]
    ([[[1.0, 1.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0], [1.0, 1.0]]], 5)
    """
    tolerance = None if simplify is None else _arrays.number("simplify", simplify)
    features: list[dict[str, Any]] = json.loads(_native.geojson(_arrays.labels(labels), tolerance, outline, known(objects)))
    return features


def measure(
    labels: ArrayLike,
    image: ArrayLike | None = None,
    objects: Iterable[Object] | None = None,
    pixel_size: float | tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Measurements of every cell, as columns: the names and values of scikit-image's `regionprops_table` where it has them.

    Parameters
    ----------
    labels : [H, W]
        Values above 0 are cells.
    image : [H, W] or [H, W, C], optional
        Its intensities are measured: `intensity_mean-0`, `intensity_min-0`, `intensity_max-0`, and so on for each channel.
    objects : iterable of Object, optional
        Their probabilities and classes become the columns `probability` and `class`.
    pixel_size : float or (height, width), optional
        Of a pixel in micrometres: adds the column `area_um2`. Lengths stay in pixels.

    Returns
    -------
    dict of arrays
        `label`, `centroid-0`, `centroid-1`, `area`, `eccentricity`, `perimeter`, `feret_diameter_max`,
        `axis_major_length`, `axis_minor_length`, `orientation`, `solidity` and `touches_border` beside those above, one
        value for each cell, in increasing id. `pandas.DataFrame(...)` takes it as it is.

    Raises
    ------
    ImageError, LabelsError, ConfigError
        For unusable arrays, an image of another size, a pixel size that is not above 0.

    >>> import cellsparse as cs
    >>> table = cs.measure([[0, 5, 5], [7, 0, 0]], pixel_size=0.5)
    >>> table["label"], table["area"], table["area_um2"]
    (array([5, 7]), array([2, 1]), array([0.5 , 0.25]))
    """
    pixels = None if image is None else _arrays.image(image)
    table: dict[str, Any] = _native.measure(
        _arrays.labels(labels), pixels, known(objects), _arrays.pixel_size(pixel_size)
    )
    return {name: np.asarray(values) for name, values in table.items()}


def sparsify(
    labels: ArrayLike,
    image: ArrayLike,
    k: int,
    mode: Literal["min", "max", "minmax"] = "minmax",
    background: bool = True,
) -> NDArray[np.int32]:
    """A simulated annotator: keeps up to `2 * k` cells of a complete label image, and some background.

    Parameters
    ----------
    labels : [H, W]
        Complete labels: 0 background, 1 and up cells.
    image : [H, W] or [H, W, C]
        Cells are ranked by their mean intensity in it.
    k : int
        How many, 1 or more.
    mode : {"min", "max", "minmax"}
        The `2 * k` darkest, the `2 * k` brightest, or `k` of each.
    background : bool
        Whether the kept cells, shifted by 10 pixels, are drawn as background where there is background.

    Returns
    -------
    int32 [H, W]
        -1 unlabelled, 0 background, cells with their ids.

    Raises
    ------
    ImageError, LabelsError, ConfigError
        For unusable arrays, different sizes, no usable cell, `k` of 0 or an unknown mode.

    >>> import cellsparse as cs
    >>> field = cs.synthetic.field(seed=1, shape=(96, 96))
    >>> sparse = cs.sparsify(field.truth, field.image, k=1)
    >>> len(set(sparse[sparse > 0].tolist()))
    2
    """
    count = _arrays.whole("k", k, 1)
    return _native.sparsify(_arrays.labels(labels), _arrays.image(image), count, mode, bool(background))


def remove_small_labels(labels: ArrayLike, min_area: float, literal: bool = False) -> NDArray[np.int32]:
    """A copy of the labels in which objects with fewer than `min_area` pixels are 0. Other ids stay.

    With `literal`, as in cellsparse 0.1, the whole bounding box of such an object is cleared, and parts of its neighbours
    with it.

    Raises
    ------
    LabelsError, ConfigError
        For unusable labels; for an area that is not a number.

    >>> import cellsparse as cs
    >>> cs.remove_small_labels([[1, 1, 0], [1, 0, 7]], min_area=2)
    array([[1, 1, 0],
           [1, 0, 0]], dtype=int32)
    """
    return _native.remove_small_labels(_arrays.labels(labels), _arrays.number("min_area", min_area), bool(literal))


def normalize(image: ArrayLike, pmin: float = 0, pmax: float = 100) -> NDArray[np.float32]:
    """Scales each channel so that its percentile `pmin` becomes 0 and `pmax` becomes 1. Nothing is clipped.

    Parameters
    ----------
    image : [H, W] or [H, W, C]
    pmin, pmax : float
        Percentiles, `0 <= pmin < pmax <= 100`.

    Returns
    -------
    float32, of the shape of the image

    Raises
    ------
    ImageError, ConfigError
        For an unusable image; for percentiles out of range.

    >>> import cellsparse as cs
    >>> cs.normalize([[0, 5], [10, 20]])
    array([[0.  , 0.25],
           [0.5 , 1.  ]], dtype=float32)
    """
    pixels = _arrays.image(image)
    low, high = _arrays.number("pmin", pmin), _arrays.number("pmax", pmax)
    if not 0 <= low < high <= 100:
        raise ConfigError(f"option: percentiles {low} and {high}; they must satisfy 0 <= pmin < pmax <= 100")
    scaled = _native.normalize(_arrays._plain(pixels, np.float32), low, high)
    return scaled[:, :, 0] if np.ndim(image) == 2 else scaled


def starters() -> list[str]:
    """The algorithms for which the library holds starting weights, learned on drawn fields alone.

    >>> import cellsparse as cs
    >>> cs.starters()
    ['stardist', 'cellpose', 'elephant']
    """
    return list(_native.starters())


def watershed(
    image: ArrayLike, markers: ArrayLike, mask: ArrayLike | None = None, connectivity: Literal[1, 2] = 1
) -> NDArray[np.int32]:
    """Grows markers over an elevation map, lowest pixels first, as `skimage.segmentation.watershed` does, pixel for pixel.

    Parameters
    ----------
    image : [H, W]
        The elevation map.
    markers : [H, W]
        Values above 0 are markers.
    mask : [H, W], optional
        Pixels where it is 0 stay 0.
    connectivity : {1, 2}
        4 or 8 neighbours.

    Returns
    -------
    int32 [H, W]

    Raises
    ------
    ImageError, LabelsError, ConfigError, LimitError
        For unusable arrays, different sizes, another connectivity, more than 2**32 pixels.

    >>> import cellsparse as cs
    >>> cs.watershed([[0, 1, 5, 1, 0]], [[1, 0, 0, 0, 2]])
    array([[1, 1, 1, 2, 2]], dtype=int32)
    """
    elevation = _arrays.floats(image, 2, "the elevation map", np.float64)
    same = np.asarray(image).dtype
    if same in (np.uint8, np.uint16, np.int32, np.float32):
        elevation = _arrays.floats(image, 2, "the elevation map", same.newbyteorder("="))
    area = None if mask is None else _arrays.mask(mask)
    neighbours = _arrays.whole("connectivity", connectivity, 1, 2)
    return _native.watershed(elevation, _arrays.labels(markers, "the marker image"), area, neighbours)


def distance_transform_edt(mask: ArrayLike, sampling: float | tuple[float, float] | None = None) -> NDArray[np.float64]:
    """The distance of every pixel that is not 0 to the nearest that is, as `scipy.ndimage.distance_transform_edt`.

    Parameters
    ----------
    mask : [H, W]
    sampling : float or (height, width), optional
        Size of a pixel; 1 by default.

    Returns
    -------
    float64 [H, W]
        In pixels, or the unit of `sampling`. Infinite where there is no 0 at all (SciPy measures to a pixel outside).

    Raises
    ------
    ImageError, ConfigError
        For an unusable mask; for a pixel size that is not above 0.

    >>> import cellsparse as cs
    >>> cs.distance_transform_edt([[0, 1, 1, 1]])
    array([[0., 1., 2., 3.]])
    """
    size = np.broadcast_to(np.asarray(1.0 if sampling is None else sampling, float), (2,))
    return _native.distance_transform_edt(_arrays.mask(mask), (float(size[0]), float(size[1])))
