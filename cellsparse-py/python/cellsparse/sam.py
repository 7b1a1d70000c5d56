"""Click to outline: masks from points and boxes by the Segment Anything Model (SAM) and MobileSAM.

The weights are a file that you have; none are in this package, and none are downloaded:

- SAM: `sam_vit_b_01ec64.pth`, `sam_vit_l_0b3195.pth` or `sam_vit_h_4b8939.pth`, from
  https://github.com/facebookresearch/segment-anything#model-checkpoints
- MobileSAM: `weights/mobile_sam.pt`, from https://github.com/ChaoningZhang/MobileSAM

Wheels of a release have this part. A package that is built from the sources has it when it is asked for: `maturin build --release
--features sam`, in the folder `cellsparse-py`.
"""

from __future__ import annotations

import operator
import os
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arrays, _native
from ._errors import ConfigError, DeviceError

__all__ = ["Embedding", "Masks", "Outlined", "Sam", "load"]

_Prompt = tuple[list[tuple[float, float, bool]], tuple[float, float, float, float] | None]


class Masks(NamedTuple):
    """Masks with what the network says of them, in the order of the prompts.

    Attributes
    ----------
    masks : bool [M, H, W]
        Which pixels are inside; with `return_logits` float32 logits, which are above 0 inside.
    scores : float32 [M]
        How well the network believes each mask to fit: the estimated overlap (IoU) with the object.
    logits : float32 [M, 256, 256]
        The logits of the network before they are enlarged to the image.

    Examples
    --------
    >>> import cellsparse as cs, numpy as np
    >>> found = cs.sam.Masks(np.ones((1, 4, 5), bool), np.ones(1, np.float32), np.ones((1, 256, 256), np.float32))
    >>> masks, scores, logits = found
    >>> masks.shape
    (1, 4, 5)
    """

    masks: NDArray[Any]
    scores: NDArray[np.float32]
    logits: NDArray[np.float32]


class Outlined(NamedTuple):
    """One object.

    Attributes
    ----------
    mask : bool [H, W]
        Its pixels in the image; none where nothing was found.
    score : float
        How well the network believes it to fit: the estimated overlap (IoU) with the object.

    Examples
    --------
    >>> import cellsparse as cs, numpy as np
    >>> mask, score = cs.sam.Outlined(np.ones((4, 5), bool), 0.9)
    """

    mask: NDArray[np.bool_]
    score: float


class Embedding:
    """What a network saw in an image; masks for it are found without looking at the image again."""

    _made: _native.SamEmbedding

    def __init__(self) -> None:
        raise TypeError("an embedding is made by Sam.encode")

    @classmethod
    def _wrap(cls, made: _native.SamEmbedding) -> Embedding:
        embedding = cls.__new__(cls)
        embedding._made = made
        return embedding

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        rows, columns = self._made.shape()
        return rows, columns

    def __repr__(self) -> str:
        return f"<Embedding of an image of {self.shape[0]} x {self.shape[1]} pixels>"


class Sam:
    """A network with its weights, made by `load`.

    >>> sam = cs.sam.load("mobile_sam.pt")  # doctest: +SKIP
    >>> masks, scores, logits = sam.masks(image, points=[[120, 80]])  # doctest: +SKIP
    """

    _made: _native.Sam

    def __init__(self) -> None:
        raise TypeError("a network is made by cellsparse.sam.load")

    @classmethod
    def _wrap(cls, made: _native.Sam) -> Sam:
        sam = cls.__new__(cls)
        sam._made = made
        return sam

    @property
    def kind(self) -> str:
        """`vit_b`, `vit_l`, `vit_h`, `vit_t` (MobileSAM) or `other`."""
        return self._made.kind()

    def __repr__(self) -> str:
        return f"<Sam {self.kind}>"

    def encode(self, image: ArrayLike, memory: int | str | None = None) -> Embedding:
        """Looks at an image, which takes seconds the first time: what was seen in the last images is kept, 256 MiB of it at most.

        Parameters
        ----------
        image : [H, W] or [H, W, C]
            1 to 3 channels; of two the third colour is black. Samples of 8 bit are taken as they are, as the original does; of
            others the percentiles 0.1 and 99.9 of each channel become 0 and 255.
        memory : int or str, optional
            Bytes that the call may take, also as `"4G"`; half of the free memory by default.

        Raises
        ------
        ImageError, LimitError
            For an image that cannot be used, or needs more memory than allowed.
        """
        return Embedding._wrap(self._made.encode(_arrays.image(image), None if memory is None else str(memory)))

    def masks(
        self,
        image: ArrayLike | Embedding,
        points: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        *,
        multimask: bool | Literal["auto"] = "auto",
        return_logits: bool = False,
        memory: int | str | None = None,
    ) -> Masks:
        """The masks of the objects that points and boxes point at.

        An image is encoded when it is first given, and kept as `encode` tells: more masks of the same image are found in a fraction
        of a second.

        Parameters
        ----------
        image : [H, W], [H, W, C] or Embedding
            See `encode`.
        points : [N, 2], [N, 3] or [B, N, 3], optional
            `x, y` (column, row) or `x, y, label` with label 1 for a point in the object, 0 for one outside, -1 for a row to be
            skipped; without labels all points are inside. `[N, ...]` are N points of one object, `[B, N, ...]` those of B
            objects: one click on each of B cells is `[B, 1, 2]`.
        boxes : [4] or [B, 4], optional
            `x0, y0, x1, y1`, one for each object. With points too, both are for the same objects.
        multimask : bool or "auto"
            True: the three masks that the network has for ambiguous prompts, for each object one after another. False: the
            one for others. "auto": one for each object; for a single point the best of the three by its score, otherwise as
            False.
        return_logits : bool
            Logits in place of booleans.
        memory : int or str, optional
            See `encode`.

        Returns
        -------
        Masks
            `masks, scores, logits`, as `SamPredictor.predict` of segment_anything.

        Raises
        ------
        ConfigError
            For points and boxes of other shapes, outside the image, or none.
        ImageError, LimitError
            See `encode`.
        """
        if multimask not in (True, False, "auto"):
            raise ConfigError(f"option: multimask is {multimask!r}; it must be True, False or 'auto'")
        prompts = _prompts(points, boxes)
        embedding = image if isinstance(image, Embedding) else self.encode(image, memory)
        outputs = "best" if multimask == "auto" else "three" if multimask else "single"
        limit = None if memory is None else str(memory)
        return Masks(*self._made.masks(embedding._made, prompts, outputs, bool(return_logits), limit))

    def outline(
        self,
        image: ArrayLike,
        points: ArrayLike | None = None,
        box: ArrayLike | None = None,
        *,
        view: tuple[int, int, int, int] | None = None,
        memory: int | str | None = None,
    ) -> Outlined:
        """The object that points and a box point at: the best mask without specks beside it and without holes.

        A large image is not squeezed into what the network sees: the part around what one looks at is encoded, and kept for what
        is nearby. Up to twice the network's side, 1024 pixels, an image is seen whole.

        Parameters
        ----------
        image : [H, W] or [H, W, C]
            See `encode`.
        points : [N, 2] or [N, 3], optional
            As of `masks`, of one object.
        box : [4], optional
            `x0, y0, x1, y1`.
        view : (top, left, height, width), optional
            What one looks at, in pixels; the whole image by default.
        memory : int or str, optional
            See `encode`.

        Returns
        -------
        Outlined
            `mask, score`.

        Raises
        ------
        ConfigError
            For points and boxes of other shapes, outside the image, or none, and for a view that is none.
        ImageError, LimitError
            See `encode`.

        >>> mask, score = sam.outline(image, points=[[120, 80]])  # doctest: +SKIP
        """
        prompts = _prompts(points, None if box is None else _box(box))
        if len(prompts) != 1:
            raise ConfigError(f"option: points for {len(prompts)} objects; give those of one, [N, 2] or [N, 3]")
        seen = None if view is None else _view(view)
        pixels = _arrays.image(image)
        rows, columns = pixels.shape[:2]
        top, left, height, width = part = self._made.part((rows, columns), seen, prompts[0])
        at = pixels[top : top + height, left : left + width]
        score, runs = self._made.outline(at, part, (rows, columns), prompts[0], None if memory is None else str(memory))
        mask = np.zeros((rows, columns), bool)
        for row, first, end in runs:
            mask[row, first:end] = True
        return Outlined(mask, score)


def load(path: str | os.PathLike[str], device: str = "auto") -> Sam:
    """Reads weights of SAM or MobileSAM, which are told apart by what they hold.

    Parameters
    ----------
    path : path
        A file as the projects hand it out (`.pth`, `.pt`), or the same arrays as `.safetensors`. Nothing in it is executed.
    device : str
        `auto` (the best that this build and machine have), `cpu`, `cuda`, `cuda:N` or `metal`.

    Raises
    ------
    DeviceError
        When this build has no SAM, or the device is absent.
    FileError, WeightsError, LimitError
        When the file is absent, damaged, or holds other weights. The message says where weights come from.

    >>> import cellsparse as cs
    >>> cs.sam.load("mobile_sam.pt").kind  # doctest: +SKIP
    'vit_t'
    """
    native = getattr(_native, "Sam", None)
    if native is None:
        raise DeviceError(
            "device: this build of cellsparse has no SAM; build the package with: maturin build --release --features sam (in "
            "the folder cellsparse-py of the sources)"
        )
    return Sam._wrap(native.load(os.fspath(path), device))


def _prompts(points: ArrayLike | None, boxes: ArrayLike | None) -> list[_Prompt]:
    """Points and box of each object."""
    if points is None and boxes is None:
        raise ConfigError("option: neither points nor boxes; give at least one point or one box")
    of_points = [] if points is None else _points(points)
    of_boxes = [] if boxes is None else _boxes(boxes)
    if points is not None and boxes is not None and len(of_points) != len(of_boxes):
        raise ConfigError(
            f"option: points for {len(of_points)} objects and boxes for {len(of_boxes)}; give as many of both: points [B, N, 3] "
            "are those of B objects, [N, 3] those of one"
        )
    if points is None:
        return [([], box) for box in of_boxes]
    if boxes is None:
        return [(found, None) for found in of_points]
    return list(zip(of_points, of_boxes))


def _points(points: ArrayLike) -> list[list[tuple[float, float, bool]]]:
    array = _numbers("points", points)
    if array.ndim == 2:
        array = array[np.newaxis]
    if array.ndim != 3 or array.shape[2] not in (2, 3):
        raise ConfigError(
            f"option: points have the shape {np.shape(points)}; they must be [N, 2] (x, y), [N, 3] (x, y, label) or [B, N, 2 or 3]"
        )
    labels = array[:, :, 2] if array.shape[2] == 3 else np.ones(array.shape[:2])
    if not np.isin(labels, (-1, 0, 1)).all():
        raise ConfigError("option: labels of points must be 1 (in the object), 0 (outside) or -1 (skipped)")
    return [
        [(float(x), float(y), bool(label == 1)) for (x, y), label in zip(rows[:, :2], own) if label >= 0]
        for rows, own in zip(array, labels)
    ]


def _boxes(boxes: ArrayLike) -> list[tuple[float, float, float, float]]:
    array = _numbers("boxes", boxes)
    if array.ndim == 1:
        array = array[np.newaxis]
    if array.ndim != 2 or array.shape[1] != 4:
        raise ConfigError(f"option: boxes have the shape {np.shape(boxes)}; they must be [4] or [B, 4]: x0, y0, x1, y1")
    return [(float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in array]


def _box(box: ArrayLike) -> NDArray[np.float64]:
    array = _numbers("the edges of the box", box)
    if array.shape not in ((4,), (1, 4)):
        raise ConfigError(f"option: the box has the shape {array.shape}; it must be [4]: x0, y0, x1, y1")
    return array.reshape(1, 4)


def _view(view: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    try:
        top, left, height, width = (operator.index(side) for side in view)
    except (TypeError, ValueError):
        top = left = height = width = -1
    if not all(0 <= side < 2**63 for side in (top, left, height, width)):
        raise ConfigError(f"option: the view is {view!r}; it must be (top, left, height, width), whole numbers from 0")
    return top, left, height, width


def _numbers(name: str, value: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"option: {name} are not numbers in rows of one length") from None
