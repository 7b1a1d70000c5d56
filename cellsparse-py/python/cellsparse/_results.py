"""What a prediction returns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._words import counted


@dataclass(frozen=True, eq=False, repr=False)
class Object:
    """One segmented object.

    Attributes
    ----------
    id : int
        Its value in the label image.
    polygon : float32 [n, 2]
        Vertices `y, x` in pixels, pixel centres at whole numbers. StarDist: the star-convex polygon, which is not clipped
        to the image; Cellpose and ELEPHANT: the outline of the object's largest connected part along pixel edges. The
        outline of exactly the labelled pixels is available from `to_geojson`.
    probability : float
        Confidence, 0 to 1.
    class_id : int or None
        Class with the highest score, if the model has classes: 0 background, 1 and up a class.
    """

    id: int
    polygon: NDArray[np.float32]
    probability: float
    class_id: int | None = None

    def __repr__(self) -> str:
        kind = "" if self.class_id is None else f", class_id={self.class_id}"
        return f"Object(id={self.id}, probability={self.probability:.3f}{kind}, polygon of {len(self.polygon)} vertices)"


def known(objects: Iterable[Object] | None) -> list[tuple[int, float | None, str | None]]:
    """Ids, probabilities and classes, as the compiled part takes them."""
    return [
        (o.id, float(o.probability), None if o.class_id is None else str(o.class_id)) for o in (objects or ())
    ]


class Objects(list[Object]):
    """The objects of one image, in increasing id: a list that shows itself well in notebooks.

    Attributes
    ----------
    notes : list of str
        What a user should know of them; see `Segmentation.notes`.

    >>> import cellsparse as cs
    >>> import numpy as np
    >>> square = np.array([[0, 0], [0, 4], [4, 4], [4, 0]], np.float32)
    >>> cs.Objects([cs.Object(1, square, 0.9), cs.Object(2, square, 0.8)])
    [Object(id=1, probability=0.900, polygon of 4 vertices), Object(id=2, probability=0.800, polygon of 4 vertices)]
    """

    notes: list[str]

    def __init__(self, objects: Iterable[Object] = (), notes: Iterable[str] = ()) -> None:
        super().__init__(objects)
        self.notes = list(notes)

    def __repr__(self) -> str:
        if len(self) <= 6:
            return super().__repr__()
        first = ", ".join(map(repr, self[:2]))
        return f"[{first}, ... {len(self) - 3} more, {self[-1]!r}]"

    def _repr_html_(self) -> str:
        from ._html import table

        rows = [(str(o.id), f"{o.probability:.3f}, {len(o.polygon)} vertices") for o in self[:10]]
        if len(self) > 10:
            rows.append(("…", f"{len(self) - 10} more"))
        return table(f"{counted(len(self), 'object')}: id, probability", rows)


class Segmentation(NamedTuple):
    """The result of `predict`: unpacks into `labels, objects`.

    >>> import cellsparse as cs
    >>> field = cs.synthetic.field(seed=1, shape=(64, 64))
    >>> result = cs.StarDist(n_rays=8, n_filter_base=4, n_depth=1).predict(field.image)
    >>> labels, objects = result
    >>> result.labels is labels
    True
    """

    labels: NDArray[np.int32]
    """`[H, W]`: 0 background, otherwise the id of an object."""
    objects: Objects
    """The objects that own at least one pixel."""

    @property
    def notes(self) -> list[str]:
        """What a user should know of the result, a sentence each: why nothing was found, or why it is likely bad, or that the
        image was seen scaled. They are `ResultWarning`s of the prediction as well."""
        return self.objects.notes

    def __repr__(self) -> str:
        height, width = self.labels.shape
        return f"Segmentation(labels {height} x {width} {self.labels.dtype}, {counted(len(self.objects), 'object')})"

    def _repr_html_(self) -> str:
        from ._html import picture
        from .plot import colours

        step = max(1, -(-max(self.labels.shape) // 512))
        shown: NDArray[Any] = self.labels[::step, ::step]
        return f"<div>{counted(len(self.objects), 'object')}</div>" + picture(colours(shown))
