"""From layers to the arrays that the package takes, and from results to layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cellsparse as cs

# Marks layers that the panel made, in their metadata: results by their name, and these.
MADE = "cellsparse result"
PREVIEW = "preview"
OUTLINE = "outline by click"
# Where a labels layer remembers the number of its background strokes, in its metadata.
BACKGROUND = "cellsparse background label"


class Refused(ValueError):
    """What is chosen cannot be worked with; the message says why and what to do."""


@dataclass(frozen=True)
class Source:
    """An image layer read as planes `[H, W]` or `[H, W, C]`, at places in its other axes."""

    name: str
    data: Any
    leading: tuple[int, ...]
    """Axes that choose a plane, such as those of a stack or a time series."""
    rows_columns: tuple[int, int]
    channel_axis: int | None
    rgb: bool
    scale: tuple[float, ...]
    """Of the leading axes, then rows and columns; so are `translate` and `units`."""
    translate: tuple[float, ...]
    units: tuple[Any, ...]
    pixel_size: tuple[float, float] | None
    """Height and width in micrometres, where the layer's units are lengths."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a plane."""
        rows, columns = self.rows_columns
        return self.data.shape[rows], self.data.shape[columns]

    @property
    def channels(self) -> int:
        """Channels of a plane, transparency left out."""
        if self.rgb:
            return 3
        return 1 if self.channel_axis is None else int(self.data.shape[self.channel_axis])

    def places(self) -> Iterator[tuple[int, ...]]:
        """Every plane."""
        return np.ndindex(*(self.data.shape[axis] for axis in self.leading))

    def plane(self, place: tuple[int, ...]) -> NDArray[Any]:
        """The pixels of one plane, copied: the layer may change meanwhile."""
        at: list[Any] = [slice(None)] * self.data.ndim
        for axis, number in zip(self.leading, place):
            at[axis] = number
        pixels = np.array(self.data[tuple(at)])
        if self.channel_axis is not None:
            before = sum(axis < self.channel_axis for axis in self.leading)
            pixels = np.moveaxis(pixels, self.channel_axis - before, -1)
        return pixels[..., :3] if self.rgb else pixels

    def where(self, place: tuple[int, ...]) -> str:
        """A plane for the reader, counted from 1; nothing for an image of one plane."""
        return "" if not place else f" [{', '.join(str(number + 1) for number in place)}]"


def source(layer: Any, channel_axis: int | None = None) -> Source:
    """What an image layer holds. `channel_axis` is the axis of its data that counts channels, if one does."""
    # The finest level of a pyramid.
    data = layer.data[0] if layer.multiscale else layer.data
    axes = [axis for axis in range(data.ndim - bool(layer.rgb)) if axis != channel_axis]
    if len(axes) < 2:
        raise Refused(f"The image layer '{layer.name}' has the shape {tuple(data.shape)}; it needs rows and columns.")
    units = tuple(layer.units[axis] for axis in axes)
    scale = tuple(float(layer.scale[axis]) for axis in axes)
    return Source(
        layer.name,
        data,
        tuple(axes[:-2]),
        (axes[-2], axes[-1]),
        channel_axis,
        bool(layer.rgb),
        scale,
        tuple(float(layer.translate[axis]) for axis in axes),
        units,
        _micrometres(scale[-2:], units[-2:]),
    )


def _micrometres(scale: tuple[float, ...], units: tuple[Any, ...]) -> tuple[float, float] | None:
    sizes = []
    for number, unit in zip(scale, units):
        # Units of napari are those of pint, with which pixels are no length.
        quantity = number * unit
        if not quantity.check("[length]"):
            return None
        sizes.append(float(quantity.to("micrometer").magnitude))
    return (sizes[0], sizes[1]) if min(sizes) > 0 else None


def place_in_view(layer: Any, image: Source, point: Any) -> tuple[int, ...]:
    """The plane that the sliders of the viewer, `point` in world coordinates, show."""
    position = layer.world_to_data(point)
    return tuple(int(np.clip(round(float(position[axis])), 0, image.data.shape[axis] - 1)) for axis in image.leading)


@dataclass(frozen=True)
class Drawn:
    """Planes with what was drawn in them, as `train` takes them."""

    images: list[NDArray[Any]]
    labels: list[NDArray[np.int64]]
    """Below 0 nothing drawn, 0 background, 1 and up cells."""
    pixel_size: tuple[float, float] | None


def drawn(image: Source, layer: Any, background: int | None, place: tuple[int, ...]) -> Drawn:
    """The annotation of an image: of the plane in view, or where the labels are a stack, of every plane with labels.

    0 means that nothing was drawn, and `background` is the number of the background strokes.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    wanted = tuple(image.data.shape[axis] for axis in (*image.leading, *image.rows_columns))
    if image.channel_axis is not None and data.ndim == len(wanted) + 1:
        # A layer made by napari has the axes of the image, channels included, and it does not matter in which one draws.
        data = np.asarray(data).max(axis=image.channel_axis)
    if data.shape == image.shape:
        places = [place]
    elif data.shape == wanted:
        places = [here for here in image.places() if np.any(data[here])]
    else:
        raise Refused(
            f"The labels layer '{layer.name}' has the shape {_text(data.shape)} and the image layer '{image.name}' "
            f"{_text(wanted)}. Choose the labels that were drawn on this image, or press New for an empty layer."
        )
    labels = [np.asarray(data if data.ndim == 2 else data[here]) for here in places]
    cells = [np.any((one > 0) & (one != background)) for one in labels]
    if not any(cells):
        what = "only background" if any(map(np.any, labels)) else "nothing"
        raise Refused(
            f"There is {what} drawn in the labels layer '{layer.name}'. "
            "Draw a few cells, each with a number of its own, and leave the rest empty."
        )
    return Drawn(
        [image.plane(here) for here in places], [meaning(one, background) for one in labels], image.pixel_size
    )


def meaning(labels: NDArray[Any], background: int | None) -> NDArray[np.int64]:
    """Labels as drawn, in the numbers of `train`: -1 nothing drawn, 0 background, 1 and up cells."""
    found = np.where(labels > 0, labels.astype(np.int64), -1)
    if background is not None:
        found[labels == background] = 0
    return found


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


@dataclass
class Found:
    """The objects of an image: all its planes, or one of them."""

    image: Source
    place: tuple[int, ...] | None
    """The plane; `None` means all."""
    labels: NDArray[np.int32]
    features: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def layer(self, name: str) -> dict[str, Any]:
        """Arguments for a labels layer that lies on the image: `data`, `features`, `scale`, `translate`, `units`."""
        translate = list(self.image.translate)
        data = self.labels
        if self.place:
            # One plane of a stack has its place in it, and is seen there alone.
            data = data.reshape((1,) * len(self.place) + data.shape)
            for axis, number in enumerate(self.place):
                translate[axis] += number * self.image.scale[axis]
        return {
            "data": data,
            "name": name,
            "features": self.features,
            "scale": self.image.scale,
            "translate": translate,
            "units": self.image.units,
        }


def found(image: Source, place: tuple[int, ...], result: cs.Segmentation) -> Found:
    """The result for one plane, with measurements."""
    return Found(image, place, result.labels, features(result, image.pixel_size), list(result.notes))


def joined(image: Source, results: list[Found]) -> Found:
    """The planes of an image as one; ids are counted on, so that each is there once."""
    if not image.leading:
        return results[0]
    shape = tuple(image.data.shape[axis] for axis in image.leading)
    labels = np.zeros((*shape, *image.shape), np.int32)
    tables: list[dict[str, Any]] = []
    notes: list[str] = []
    last = 0
    for result in results:
        assert result.place is not None
        labels[result.place] = np.where(result.labels > 0, result.labels + last, 0)
        numbers = {f"plane-{axis}": np.full(len(result.features["index"]), n + 1) for axis, n in enumerate(result.place)}
        tables.append({**result.features, "index": result.features["index"] + last, **numbers})
        last += int(result.labels.max(initial=0))
        notes += [f"{note} (plane{image.where(result.place)})" for note in result.notes]
    table = {name: np.concatenate([one[name] for one in tables]) for name in tables[0]}
    return Found(image, None, labels, table, notes)


def features(result: cs.Segmentation, pixel_size: tuple[float, float] | None) -> dict[str, Any]:
    """Measurements as the columns of a layer's features; `index` is the id, by which napari finds the row of an object."""
    table = cs.measure(result.labels, objects=result.objects, pixel_size=pixel_size)
    ids = table.pop("label")
    first: dict[str, Any] = {name: table.pop(name) for name in ("area", "area_um2", "probability") if name in table}
    first.setdefault("probability", np.zeros(len(ids)))
    return {"index": ids, **first, **table}
