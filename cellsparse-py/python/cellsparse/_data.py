"""Images with their annotations, as the compiled part takes them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from . import _arrays, _large, _native
from ._errors import ImageError, LabelsError

PixelSizes: TypeAlias = float | tuple[float, float] | list[float | tuple[float, float] | None] | None


class Sliced(Protocol):
    """An array that need not lie in the memory: a shape, and slices that NumPy takes for arrays."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, place: Any, /) -> Any: ...


OneArray: TypeAlias = ArrayLike | Sliced | str | os.PathLike[str]
Arrays: TypeAlias = OneArray | Sequence[OneArray]


def dataset(
    images: object,
    labels: object,
    encoding: str | None,
    classes: Sequence[Mapping[int, int | None]] | None,
    pixel_size: PixelSizes,
    patch: int | None = None,
    memory: int | str | None = None,
    level: int | str | None = None,
) -> _native.Dataset:
    """Images with their annotations, as the compiled part takes them."""
    limit = None if memory is None else str(memory)
    pixels, annotations = _pairs(images, labels, limit)
    known = None if classes is None else [dict(one) for one in classes]
    if known is not None and len(known) != len(annotations):
        raise LabelsError(f"labels: classes for {len(known)} images, labels for {len(annotations)}; give one of each")
    if isinstance(pixel_size, list):
        sizes = [_arrays.pixel_size(size) for size in pixel_size]
    else:
        sizes = [_arrays.pixel_size(pixel_size)] * len(pixels)
    wanted = None if level is None else _large.level(level)
    how = "auto" if encoding is None else encoding
    return _native.Dataset(pixels, annotations, how, known, sizes, patch, limit, wanted)


def _pairs(images: Any, labels: Any, memory: str | None) -> tuple[list[Any], list[Any]]:
    """Images and labels, of which files and arrays that are read by parts are left as they are."""
    items, annotations = _items(images, labels)
    large = [_large.is_file(item) or _large.is_large(item, memory) for item in items]
    if not any(large) and not any(_large.is_file(one) for one in annotations):
        return _arrays.pairs(_whole(images), _whole(labels))
    for place, (item, one) in enumerate(zip(items, annotations)):
        items[place] = _large.source(item) if large[place] else _arrays.image(_large.whole(item), f"image {place}")
        if _large.is_file(one):
            annotations[place] = os.fspath(one)
        elif large[place]:
            annotations[place] = _large.labels(one, f"label image {place}")
        else:
            annotations[place] = _arrays.training_labels(_large.whole(one), f"label image {place}")
    if len(items) != len(annotations):
        raise ImageError(f"image: there are {len(items)} and {len(annotations)} label images; every image needs its own")
    return items, annotations


def _items(images: Any, labels: Any) -> tuple[list[Any], list[Any]]:
    """The images and the labels one by one, without reading a pixel."""
    annotations = list(labels) if isinstance(labels, (list, tuple)) else [labels]
    if isinstance(images, (list, tuple)):
        return list(images), annotations
    if not _large.is_sliced(images) or len(images.shape) == 2:
        return [images], annotations
    if len(annotations) == 1 and (_large.is_file(annotations[0]) or np.shape(annotations[0]) == tuple(images.shape[:2])):
        return [images], annotations
    # A stack of grey images.
    if not isinstance(labels, (list, tuple)) and _large.is_sliced(labels) and len(labels.shape) == 3:
        annotations = _large.planes(labels)
    return _large.planes(images), annotations


def _whole(value: Any) -> Any:
    """Arrays that only their slices give, as arrays of NumPy."""
    return [_large.whole(item) for item in value] if isinstance(value, (list, tuple)) else _large.whole(value)
