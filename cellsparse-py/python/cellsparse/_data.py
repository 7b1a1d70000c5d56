"""Images with their annotations, as the compiled part takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from . import _arrays, _native
from ._errors import LabelsError

PixelSizes: TypeAlias = float | tuple[float, float] | list[float | tuple[float, float] | None] | None


def dataset(
    images: object,
    labels: object,
    encoding: str | None,
    classes: Sequence[Mapping[int, int | None]] | None,
    pixel_size: PixelSizes,
) -> _native.Dataset:
    """Images with their annotations, as the compiled part takes them."""
    pixels, annotations = _arrays.pairs(images, labels)
    known = None if classes is None else [dict(one) for one in classes]
    if known is not None and len(known) != len(annotations):
        raise LabelsError(f"labels: classes for {len(known)} images, labels for {len(annotations)}; give one of each")
    if isinstance(pixel_size, list):
        sizes = [_arrays.pixel_size(size) for size in pixel_size]
    else:
        sizes = [_arrays.pixel_size(pixel_size)] * len(pixels)
    return _native.Dataset(pixels, annotations, "auto" if encoding is None else encoding, known, sizes)
