"""Images that are larger than the memory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays, _native
from ._errors import ConfigError, ImageError, LabelsError, ResultWarning

if TYPE_CHECKING:
    from ._models import Model

Source = str | tuple[list[tuple[int, int]], int, Callable[[int, int, int, int, int], Any]]


@dataclass(frozen=True)
class LargeSegmentation:
    """What `predict_large` found.

    Attributes
    ----------
    labels : array or None
        What was given as `out` when that is an array, or the array that was made; None when labels went to a file.
    n_objects : int
        Number of objects; ids are 1 to this.
    shape : (rows, columns)
        Of the level that was segmented.
    pixel_size : (height, width) or None
        Micrometres per pixel of that level, if known.
    notes : tuple of str
        What is to be known of the result.
    """

    labels: Any
    n_objects: int
    shape: tuple[int, int]
    pixel_size: tuple[float, float] | None
    notes: tuple[str, ...]


def source(image: Any) -> Source:
    """A path as it is; for anything with a shape that can be sliced, its levels, channels and a function that reads."""
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    levels = list(image) if isinstance(image, (list, tuple)) else [image]
    if not levels or not all(hasattr(level, "shape") and hasattr(level, "__getitem__") for level in levels):
        raise ImageError(
            "image: a path, an object with a shape that can be sliced (NumPy, memory map, zarr, dask), or a list of such "
            "objects, the largest first, was expected"
        )
    for level in levels:
        if len(level.shape) not in (2, 3) or len(level.shape) != len(levels[0].shape):
            raise ImageError(f"image: it has the shape {tuple(level.shape)}; it must be [H, W] or [H, W, C]")
    shapes = [(int(level.shape[0]), int(level.shape[1])) for level in levels]
    channels = int(levels[0].shape[2]) if len(levels[0].shape) == 3 else 1

    def read(level: int, top: int, left: int, height: int, width: int) -> Any:
        part = levels[level][top : top + height, left : left + width]
        # What is lazy, such as an array of dask, is computed here.
        return np.ascontiguousarray(_arrays.image(np.asarray(part)))

    return shapes, channels, read


def is_file(value: object) -> bool:
    """Whether a value names a file."""
    return isinstance(value, (str, os.PathLike))


def is_sliced(value: Any) -> bool:
    """Whether a value is an array of two or three axes of which parts can be taken."""
    shape = getattr(value, "shape", None)
    return isinstance(shape, tuple) and len(shape) in (2, 3) and hasattr(value, "__getitem__")


def is_large(image: Any, memory: str | None) -> bool:
    """Whether a training reads only parts of an array."""
    if not is_sliced(image):
        return False
    rows, columns, channels = (*image.shape, 1)[:3]
    in_memory = isinstance(image, np.ndarray) and not isinstance(image, np.memmap)
    return _native.is_large((int(rows), int(columns), int(channels)), in_memory, memory)


def whole(value: Any) -> Any:
    """An array that NumPy does not take for one although its slices are, as an array of NumPy; anything else as it is."""
    if not is_sliced(value) or hasattr(value, "__array__"):
        return value
    return np.asarray(value[0 : value.shape[0], 0 : value.shape[1]])


class _Plane:
    """One plane of a stack, of which nothing is read before it is sliced."""

    def __init__(self, stack: Any, place: int) -> None:
        self.shape = tuple(stack.shape[1:])
        self._stack, self._place = stack, place

    def __getitem__(self, place: tuple[slice, slice]) -> Any:
        return self._stack[(self._place, *place)]


def planes(stack: Any) -> list[Any]:
    """The images of a stack `[N, H, W]`."""
    if isinstance(stack, np.ndarray):
        return list(stack)
    return [_Plane(stack, place) for place in range(stack.shape[0])]


def labels(value: Any, what: str) -> tuple[Source, bool]:
    """A label image of which parts are read, and whether its numbers are signed."""
    array = value if is_sliced(value) else np.asarray(value)
    if len(array.shape) != 2:
        raise LabelsError(f"{what} has the shape {tuple(array.shape)}; it must be [H, W]")
    kind = np.asarray(array[0:1, 0:1]).dtype.kind
    return source(array), kind not in "ub"


def options(model: Model, given: dict[str, Any]) -> dict[str, Any]:
    """Options as the compiled part takes them."""
    known = set(KEYWORDS)
    unknown = sorted(set(given) - known)
    if unknown:
        raise TypeError(f"there is no option {unknown[0]!r}; the options are {', '.join(KEYWORDS)}")
    taken = {name: value for name, value in given.items() if value is not None}
    for name in ("prob_thresh", "nms_thresh", "flow_threshold", "cellprob_threshold", "diameter", "min_area"):
        if name in taken:
            taken[name] = _arrays.number(name, taken[name])
    for name in ("tile", "threads"):
        if name in taken:
            taken[name] = _arrays.whole(name, taken[name], 1)
    if "level" in taken:
        taken["level"] = level(taken["level"])
    for name in ("augment", "rescale", "skip_empty", "resume"):
        if name in taken:
            taken[name] = bool(taken[name])
    if "pixel_size" in taken:
        taken["pixel_size"] = _arrays.pixel_size(taken["pixel_size"])
    if "precision" in taken:
        taken["precision"] = str(taken["precision"])
    if "memory" in taken:
        taken["memory"] = str(taken["memory"])
    if "folder" in taken:
        taken["folder"] = os.fspath(taken["folder"])
    if "region" in taken:
        taken["region"] = region(taken["region"])
    taken["device"] = model.device
    return taken


KEYWORDS = (
    "level",
    "region",
    "skip_empty",
    "folder",
    "resume",
    "min_area",
    "tile",
    "pixel_size",
    "rescale",
    "precision",
    "threads",
    "memory",
    "prob_thresh",
    "nms_thresh",
    "flow_threshold",
    "cellprob_threshold",
    "diameter",
    "augment",
    "postprocess",
)


def level(value: int | str) -> str:
    """A resolution, by its number or by micrometres per pixel like "0.5um", as text."""
    return value if isinstance(value, str) else str(_arrays.whole("level", value))


def place(taken: dict[str, Any]) -> int:
    """The level among arrays; 0 for micrometres per pixel, which arrays do not tell: the compiled part says so."""
    wanted = str(taken.get("level", "0"))
    return int(wanted) if wanted.isdecimal() else 0


def region(value: Any) -> str:
    """`(left, top, width, height)`, or a GeoJSON file, as text."""
    if isinstance(value, (str, os.PathLike)):
        with open(value, encoding="utf-8") as file:
            return file.read()
    if np.shape(value) != (4,):
        raise ConfigError(f"option: region is {value!r}; it must be (left, top, width, height) or a GeoJSON file")
    return ",".join(repr(float(number)) for number in value)


def identity(image: Any) -> str:
    """What tells a file from others, for a run that goes on."""
    if not isinstance(image, (str, os.PathLike)):
        return ""
    status = os.stat(image)
    return f"{os.path.realpath(image)} {status.st_size} {status.st_mtime_ns}"


def predict(
    model: Model,
    image: Any,
    out: Any,
    geojson: str | os.PathLike[str] | None,
    csv: str | os.PathLike[str] | None,
    callback: Callable[[str, int, int], object] | None,
    given: dict[str, Any],
) -> LargeSegmentation:
    """The work of `Model.predict_large`."""
    taken = {**options(model, given), "image": identity(image)}
    opened = source(image)
    path, put, labels = None, None, None
    if isinstance(out, (str, os.PathLike)):
        path = os.fspath(out)
        if not path.lower().endswith((".tif", ".tiff", ".zarr")):
            raise ConfigError(f"out: {path} does not end in .ome.tif, .tif or .zarr; labels are written as TIFF or OME-Zarr")
    else:
        if out is None:
            if isinstance(opened, str):
                raise ConfigError("out: name a .tif file or give an array for the labels of a file")
            if place(taken) >= len(opened[0]):
                raise ConfigError(f"option: level is {place(taken)}; the image has {len(opened[0])}, counted from 0")
            out = np.zeros(opened[0][place(taken)], dtype=np.int32)
        labels = out

        def put(top: int, left: int, block: Any) -> None:
            height, width = block.shape
            labels[top : top + height, left : left + width] = block

    found, shape, pixel_size, notes = _native.predict_large(
        model._model,
        opened,
        taken,
        labels=path,
        put=put,
        geojson=None if geojson is None else os.fspath(geojson),
        csv=None if csv is None else os.fspath(csv),
        callback=callback,
    )
    for note in notes:
        warnings.warn(note, ResultWarning, stacklevel=3)
    size = None if pixel_size is None else (pixel_size[0], pixel_size[1])
    return LargeSegmentation(labels, found, (shape[0], shape[1]), size, tuple(notes))
