"""What users give as arrays, in the few forms that the compiled part takes.

An array is handed over as it is (borrowed) when its dtype, byte order, alignment and strides allow it; otherwise NumPy
makes a converted copy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._errors import CellsparseError, ConfigError, ImageError, LabelsError, LimitError

Array: TypeAlias = NDArray[Any]

LARGEST_ID = 2**31 - 1


def _array(value: object, what: str, error: Callable[[str], CellsparseError]) -> Array:
    """`value` as an array of numbers."""
    if isinstance(value, np.ndarray):
        return _numbers(value, what, error)
    try:
        with warnings.catch_warnings():
            # NumPy below 1.24 only warns of rows of different lengths.
            warnings.simplefilter("error")
            array = np.asarray(value)
    except (ValueError, Warning):
        raise error(f"{what} is not an array: its rows have different lengths") from None
    return _numbers(array, what, error)


def _numbers(array: Array, what: str, error: Callable[[str], CellsparseError]) -> Array:
    if array.dtype.kind not in "biuf":
        raise error(f"{what} has the dtype {array.dtype}; it must be an array of bool, integer or floating-point numbers")
    return array


def _plain(array: Array, dtype: Any) -> Array:
    """The array with that dtype, native byte order, alignment and strides of whole elements."""
    wanted = np.dtype(dtype)
    if array.dtype != wanted:
        with np.errstate(over="ignore", invalid="ignore"):
            array = array.astype(wanted)
    if not array.flags.aligned or any(stride % wanted.itemsize for stride in array.strides):
        array = array.copy()
    return array


def image(value: object, what: str = "the image") -> Array:
    """`[H, W, C]` of uint8, uint16 or float32.

    Bool and the two unsigned types keep their values; everything else becomes float32, where integers above 2**24 are
    rounded.
    """
    array = _array(value, what, ImageError)
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    elif array.ndim != 3:
        raise ImageError(
            f"{what} has the shape {array.shape}; it must be [H, W] or [H, W, C]"
            + (". Give the images of a stack one at a time" if array.ndim == 4 else "")
        )
    if array.dtype == np.bool_ or array.dtype == np.uint8:
        return _plain(array, np.uint8)
    return _plain(array, np.uint16 if array.dtype == np.uint16 else np.float32)


def floats(value: object, ndim: int, what: str, dtype: Any = np.float32) -> Array:
    """An array of floats with `ndim` axes."""
    array = _array(value, what, ImageError)
    if array.ndim != ndim:
        raise ImageError(f"{what} has the shape {array.shape}; it must have {ndim} axes")
    return _plain(array, dtype)


def _whole_numbers(value: object, what: str) -> Array:
    array = _array(value, what, LabelsError)
    if array.ndim != 2:
        raise LabelsError(f"{what} has the shape {array.shape}; it must be [H, W]")
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = array.astype(np.float64) == np.rint(array)
        if not whole.all():
            y, x = np.argwhere(~whole)[0]
            raise LabelsError(
                f"{what} has the value {array[y, x]} at row {y}, column {x}; labels are whole numbers. "
                "Is this the image instead of its labels?"
            )
    return array


def _in_range(array: Array, low: int, high: int, what: str) -> None:
    """Refuses values that the target type does not hold; types that cannot hold them are not looked at."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if array.size == 0 or kind == "b" or (kind == "i" and size <= 4 and low < 0) or (kind == "u" and size <= 2):
        return
    smallest, largest = array.min(), array.max()
    if smallest < low or largest > high:
        value = largest if largest > high else smallest
        raise LabelsError(
            f"{what} holds the value {value}; labels must lie between {low} and {high}. Number the cells from 1"
        )


def labels(value: object, what: str = "the label image") -> Array:
    """`[H, W]` of int32: below 0 unlabelled, 0 background, 1 and up cells."""
    array = _whole_numbers(value, what)
    _in_range(array, -LARGEST_ID - 1, LARGEST_ID, what)
    return _plain(array, np.int32)


def training_labels(value: object, what: str) -> Array:
    """As `labels`; unsigned types and bool as uint32, so that the two can be told apart."""
    array = _whole_numbers(value, what)
    if array.dtype.kind in "ub":
        _in_range(array, 0, 2**32 - 1, what)
        return _plain(array, np.uint32)
    return labels(array, what)


def mask(value: object, what: str = "the mask") -> Array:
    """`[H, W]` of bool: what is not 0."""
    array = _array(value, what, ImageError)
    if array.ndim != 2:
        raise ImageError(f"{what} has the shape {array.shape}; it must be [H, W]")
    return _plain(array if array.dtype == np.bool_ else array != 0, np.bool_)


def several(value: Any) -> list[Any] | Array:
    """A list of arrays as it is; anything else that NumPy takes for one array, as an array."""
    if isinstance(value, np.ndarray) or hasattr(value, "__array__"):
        return np.asarray(value)
    items = list(value) if hasattr(value, "__iter__") else [value]
    return items if not items or np.ndim(items[0]) >= 2 else np.asarray(items)


def label_images(value: object) -> list[Any]:
    """The label images of a list, a stack `[N, H, W]` or a single one `[H, W]`."""
    items = several(value)
    if isinstance(items, np.ndarray) and items.ndim == 3 and items.shape[2] == 1 < items.shape[1]:
        raise LabelsError(f"the label image has the shape {items.shape}; it must be [H, W]: give labels[:, :, 0]")
    return [items] if isinstance(items, np.ndarray) and items.ndim <= 2 else list(items)


def pairs(images: object, all_labels: object) -> tuple[list[Array], list[Array]]:
    """Images and labels for training, from lists, stacks or single arrays."""
    labels_of = label_images(all_labels)
    items = several(images)
    if isinstance(items, np.ndarray):
        # Three axes are one image with channels when they fit its only label image, otherwise a stack of grey images.
        one = len(labels_of) == 1 and items.shape[:2] == np.shape(labels_of[0])
        items = [items] if items.ndim <= 2 or (items.ndim == 3 and one) else list(items)
    return (
        [image(item, f"image {place}") for place, item in enumerate(items)],
        [training_labels(item, f"label image {place}") for place, item in enumerate(labels_of)],
    )


def whole(name: str, value: object, low: int = 0, high: int = 2**63 - 1) -> int:
    """A whole number in a range, as an option."""
    index = getattr(value, "__index__", None)
    if index is None or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
    number = int(index())
    if not low <= number <= high:
        raise ConfigError(f"option: {name} is {number}; it must lie between {low} and {high}")
    return number


def number(name: str, value: object) -> float:
    """A real number, as an option."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    return float(value)


def pixel_size(value: Any) -> tuple[float, float] | None:
    """Height and width of a pixel in micrometres, from a number or a pair."""
    if value is None:
        return None
    if np.ndim(value) == 0:
        value = (value, value)
    if np.shape(value) != (2,):
        raise ConfigError(f"option: pixel_size is {value!r}; it must be a number, or height and width of a pixel")
    return number("pixel_size", value[0]), number("pixel_size", value[1])


def two(name: str, value: Any, low: int = 0) -> tuple[int, int]:
    """A pair of whole numbers, rows first."""
    if hasattr(value, "__index__"):
        value = (value, value)
    try:
        first, second = value
    except (TypeError, ValueError):
        raise ConfigError(f"option: {name} is {value!r}; it must be two whole numbers, for rows and columns") from None
    return whole(name, first, low), whole(name, second, low)


def thresholds(value: float | Sequence[float]) -> tuple[list[float], bool]:
    """Thresholds as a list, and whether there was a single one."""
    if np.ndim(value) == 0:
        return [number("thresh", value)], True
    return [number("thresh", item) for item in value], False  # type: ignore[union-attr]


def check_pixels(shape: tuple[int, int]) -> None:
    """Refuses an image that would not fit into memory."""
    if shape[0] * shape[1] > 2**34:
        raise LimitError(f"limit: an image of {shape[0]} x {shape[1]} pixels; the largest has {2**34}")
