"""Pictures with matplotlib, which is an optional extra: `pip install cellsparse[plot]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arrays, _native

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ._history import History

__all__ = ["colours", "history", "labels", "overlay"]


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plotting needs matplotlib: pip install cellsparse[plot]") from error
    return plt.gca()


def _show(ax: Axes | None, pixels: NDArray[Any], shape: tuple[int, int]) -> Axes:
    axes = _axes(ax)
    # The picture may be enlarged; its axes are in pixels of the image.
    axes.imshow(pixels, extent=(-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5), interpolation="nearest")
    axes.set_axis_off()
    return axes


def overlay(
    image: ArrayLike, labels: ArrayLike, annotations: ArrayLike | None = None, ax: Axes | None = None
) -> Axes:
    """Draws the outlines of `labels` over `image`, and returns the axes.

    Neighbouring objects have different colours. In `annotations`, and in `labels` with unlabelled pixels (below 0), drawn
    cells are tinted orange and background blue.

    Parameters
    ----------
    image : [H, W] or [H, W, C]
        Stretched between its percentiles 1 and 99.8.
    labels, annotations : [H, W]
        Label images of the same size.
    ax : matplotlib axes, optional
        Where to draw; the current axes by default.

    Raises
    ------
    ImageError, LabelsError
        For unusable arrays or sizes that differ.

    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import cellsparse as cs
    >>> field = cs.synthetic.field(seed=1, shape=(64, 64))
    >>> axes = cs.plot.overlay(field.image, field.truth)
    """
    pixels, found = _arrays.image(image), _arrays.labels(labels, "labels")
    drawn = None if annotations is None else _arrays.labels(annotations, "annotations")
    if drawn is None and found.size and found.min() < 0:
        found, drawn = np.zeros_like(found), found
    return _show(ax, _native.overlay(pixels, found, drawn), pixels.shape[:2])


def labels(labels: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draws a label image in colours: background black, unlabelled pixels grey. Returns the axes.

    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import cellsparse as cs
    >>> axes = cs.plot.labels(cs.synthetic.field(seed=1, shape=(64, 64)).truth)
    """
    array = _arrays.labels(labels, "labels")
    return _show(ax, colours(array), array.shape)


def colours(labels: ArrayLike) -> NDArray[np.uint8]:
    """A label image as an RGB image `[H, W, 3]`: background black, unlabelled grey, each id its own colour.

    >>> import cellsparse as cs
    >>> cs.plot.colours([[0, -1]]).tolist()
    [[[0, 0, 0], [70, 70, 70]]]
    """
    array = _arrays.labels(labels, "labels")
    # Steps of the golden ratio around the circle of hues keep consecutive ids apart.
    hue = (array * 0.6180339887) % 1.0
    level = 0.75 + 0.25 * ((array * 0.7548776662) % 1.0)
    angle = 2 * np.pi * (hue[..., np.newaxis] + np.array([0, 2 / 3, 1 / 3]))
    rgb: NDArray[np.uint8] = (255 * level[..., np.newaxis] * (0.6 + 0.4 * np.cos(angle))).astype(np.uint8)
    rgb[array == 0] = 0
    rgb[array < 0] = 70
    return rgb


def history(history: History, ax: Axes | None = None) -> Axes:
    """Draws the losses of a training over its steps; `History.plot` calls it.

    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import cellsparse as cs
    >>> model = cs.StarDist(n_rays=8, n_filter_base=4, n_depth=1)
    >>> cs.plot.history(model.history).get_ylabel()
    'loss'
    """
    axes = _axes(ax)
    axes.plot(history.steps, history.loss, label="total", color="black", linewidth=1.5)
    for name, values in history.losses.items():
        if len(history.losses) > 1 and len(values) == len(history.steps):
            axes.plot(history.steps, values, label=name, linewidth=1, alpha=0.7)
    if len(history.validation_steps):
        axes.plot(history.validation_steps, history.validation_loss, "o-", label="validation", markersize=4)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    if len(history.steps) > 1 and (history.loss > 0).all():
        axes.set_yscale("log")
    if len(history.steps):
        axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes
