"""Click to outline: points and boxes in layers of their own say which object is meant; its outline is shown, and put into the labels
layer when it is right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils import DirectLabelColormap  # type: ignore[import-not-found, import-untyped, unused-ignore]
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer  # type: ignore[import-not-found, attr-defined, unused-ignore]
from qtpy.QtWidgets import QFileDialog  # type: ignore[import-not-found, attr-defined, unused-ignore]

import cellsparse as cs

from . import _jobs
from ._jobs import Job
from ._layers import MADE, OUTLINE, Refused, Source, place_in_view

POLL_MILLISECONDS = 60
INSIDE, BESIDE, COLOUR = "#7de28a", "#ff8d7e", "#ffe896"
FILES = "weights of SAM (*.pt *.pth *.safetensors)"
SOURCES = (
    "Weights of SAM are files that you have: mobile_sam.pt (40 MB) from https://github.com/ChaoningZhang/MobileSAM, folder weights, "
    "or those of https://github.com/facebookresearch/segment-anything#model-checkpoints"
)


class Clicks(QObject):  # type: ignore[misc, unused-ignore]
    """The tool, while its button is down.

    Attributes
    ----------
    sam : Sam or None
        The network; it may be set.
    mask : bool [H, W] or None
        The outline that is shown.
    job : Job or None
        The look under way.
    layer : Image or None
        The layer that is outlined on.
    """

    def __init__(self, panel: Any) -> None:
        super().__init__(panel)
        self.panel = panel
        self.sam: cs.sam.Sam | None = None
        self.mask: NDArray[np.bool_] | None = None
        self.job: Job | None = None
        self._again = False
        self._dropped = False
        self._points: Any = None
        self._boxes: Any = None
        self._image: Source | None = None
        self.layer: Any = None
        self._place: tuple[int, ...] = ()
        self._plane: NDArray[Any] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.timeout.connect(self._poll)
        form = panel.form
        form.by_click.toggled.connect(self._toggled)
        form.beside.toggled.connect(self._side)
        form.take.clicked.connect(self.take)
        form.weights.clicked.connect(self._ask_weights)
        self._refresh()

    # Weights.

    def load(self, path: str | os.PathLike[str]) -> None:
        """Reads weights, which are used from then on."""
        self.panel.say(f"Reading {Path(path).name} ...")
        self._start(lambda job: setattr(job, "sam", cs.sam.load(path)))

    def _ask_weights(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self.panel, "Weights of SAM", "", FILES)
        if path:
            self.load(path)

    # The tool.

    def _toggled(self, down: bool) -> None:
        if down:
            self.begin()
        else:
            self.end()

    def begin(self) -> None:
        """Adds the layers that are clicked in, and has the plane in view looked at."""
        panel = self.panel
        if self.sam is None:
            panel.form.by_click.setChecked(False)
            panel.fail(f"There are no weights of SAM yet; press Weights. {SOURCES}.")
            return
        try:
            self._image = image = panel._source()
            self.layer = panel.image_layer
        except Refused as refused:
            panel.form.by_click.setChecked(False)
            panel.fail(str(refused))
            return
        ndim = len(image.scale)
        on = {"scale": image.scale, "translate": image.translate, "units": image.units, "metadata": {MADE: OUTLINE}}
        viewer = panel.viewer
        viewer.add_shapes(
            ndim=ndim, name=f"boxes on {image.name}", edge_color=COLOUR, face_color="transparent", edge_width=1, **on
        )
        viewer.add_points(
            np.empty((0, ndim)), ndim=ndim, name=f"clicks on {image.name}", size=max(2, max(image.shape) // 90),
            face_color=INSIDE, border_color="black", features={"inside": np.empty(0, bool)}, **on,
        )  # fmt: skip
        # The viewer that plugins get returns proxies, which are not in its list.
        self._points, self._boxes = self._layer("clicks on"), self._layer("boxes on")
        for layer in (self._points, self._boxes):
            layer.events.data.connect(self._changed)
            layer.bind_key("Enter", lambda _: self.take(), overwrite=True)
        self._points.bind_key("Escape", lambda _: self.drop(), overwrite=True)
        self._side(panel.form.beside.isChecked())
        self._points.mode = "add"
        viewer.layers.selection.active = self._points
        self._look()
        self.ask()

    def end(self) -> None:
        """Takes the layers away; what was put into the labels layer stays."""
        self._dropped = True
        self._again = False
        self.mask = None
        layers = self.panel.viewer.layers
        for layer in [layer for layer in layers if layer.metadata.get(MADE) == OUTLINE]:
            layers.remove(layer)
        self._points = self._boxes = self._image = self._plane = self.layer = None
        self._refresh()

    def _layer(self, beginning: str) -> Any:
        found = [layer for layer in self.panel.viewer.layers if layer.metadata.get(MADE) == OUTLINE]
        return next(layer for layer in reversed(found) if layer.name.startswith(beginning))

    def _side(self, beside: bool) -> None:
        if self._points is not None:
            # Otherwise the last click, which is selected, would change with it.
            self._points.selected_data = set()
            self._points.feature_defaults = {"inside": not beside}
            self._points.current_face_color = BESIDE if beside else INSIDE

    def _look(self) -> None:
        """Takes the pixels of the plane in view."""
        image = self._image
        assert image is not None
        place = place_in_view(self.layer, image, self.panel.viewer.dims.point)
        if self._plane is None or place != self._place:
            self._place, self._plane = place, image.plane(place)

    def _changed(self, _: Any) -> None:
        # Layers tell several times of one click; they are read when it is over.
        QTimer.singleShot(0, self.ask)

    def prompt(self) -> tuple[list[tuple[float, float, int]], list[float] | None]:
        """Points `x, y, label` and the last box `x0, y0, x1, y1` of the plane in view."""
        if self._points is None:
            return [], None

        def here(at: Any) -> bool:
            return all(round(float(a)) == b for a, b in zip(at[:-2], self._place))

        inside = list(self._points.features["inside"])
        points = [
            (float(at[-1]), float(at[-2]), int(bool(own)))
            for at, own in zip(np.asarray(self._points.data), inside)
            if here(at)
        ]
        boxes = [np.asarray(corners) for corners in self._boxes.data if here(np.asarray(corners)[0])]
        if not boxes:
            return points, None
        assert self._image is not None
        rows, columns = self._image.shape
        low, high = boxes[-1][:, -2:].min(axis=0), boxes[-1][:, -2:].max(axis=0)
        y0, x0 = np.clip(low, 0, None)
        y1, x1 = np.minimum(high, (rows, columns))
        return points, [float(x0), float(y0), float(x1), float(y1)]

    def ask(self) -> None:
        """Outlines what the points and the box mean; without them, has the image looked at."""
        if self._points is None or self.sam is None:
            return
        if self.job is not None:
            self._again = True
            return
        self._look()
        sam, pixels, view = self.sam, self._plane, self._view()
        assert pixels is not None
        points, box = self.prompt()
        self._dropped = False
        if not points and box is None:
            self._show(None)
            rows, columns = pixels.shape[:2]
            top, left, height, width = view or (0, 0, rows, columns)
            middle = [(min(left + width / 2, columns - 1), min(top + height / 2, rows - 1))]
            self.panel.say("Looking at the image; the first time in a part of it takes some seconds ...")
            self._start(lambda job: _ignore(sam.outline(pixels, middle, view=view)))
            return
        self.panel.say("Outlining ...")
        self._start(lambda job: setattr(job, "outlined", sam.outline(pixels, points or None, box, view=view)))

    def _view(self) -> tuple[int, int, int, int] | None:
        """What is seen of the plane: top, left, height, width."""
        layer, image = self.layer, self._image
        assert image is not None
        corners = np.asarray(layer.corner_pixels, float)
        if layer.multiscale:
            corners = corners * np.asarray(layer.downsample_factors[layer.data_level])
        rows, columns = image.rows_columns
        (top, left), (bottom, right) = corners[:, [rows, columns]]
        if bottom - top < 1 or right - left < 1:
            return None
        return max(0, int(top)), max(0, int(left)), int(bottom - top) + 1, int(right - left) + 1

    def _start(self, work: Any) -> None:
        self.job = job = Job("outline")
        self._timer.start()
        self._refresh()
        _jobs.start(job, work)

    def _poll(self) -> None:
        job = self.job
        if job is None or not job.done:
            return
        self._timer.stop()
        self.job = None
        if job.sam is not None:
            self.sam = job.sam
            self.panel.say(f"Weights of {job.sam.kind} are read. Press Outline by click.")
        elif job.error is not None:
            self._again = False
            self.panel.fail(self.panel.explained(job.error))
        elif not self._dropped and self._points is not None:
            if job.outlined is None:
                self.panel.say("Click on a cell, or draw a box around it in the layer of boxes.")
            else:
                self._show(job.outlined)
        self._refresh()
        if self._again:
            self._again = False
            self.ask()

    def _show(self, found: cs.sam.Outlined | None) -> None:
        """Shows an outline in a layer of its own, or none."""
        self.mask = found.mask if found is not None and found.mask.any() else None
        layers, image = self.panel.viewer.layers, self._image
        assert image is not None
        name = f"outline on {image.name}"
        layer = next((layer for layer in layers if layer.name == name and layer.metadata.get(MADE) == OUTLINE), None)
        shape = tuple(image.data.shape[axis] for axis in image.leading) + image.shape
        data = np.zeros(shape, np.uint8)
        if self.mask is not None:
            data[self._place] = self.mask
        if layer is not None:
            layer.data = data
        elif self.mask is not None:
            active = layers.selection.active
            self.panel.viewer.add_labels(
                data, name=name, scale=image.scale, translate=image.translate, units=image.units, opacity=0.6,
                metadata={MADE: OUTLINE},
                colormap=DirectLabelColormap(color_dict={None: COLOUR, 0: "transparent"}),
            )  # fmt: skip
            layers.selection.active = active
        if found is None:
            return
        if self.mask is None:
            self.panel.say("Nothing was found there. Click elsewhere.")
        else:
            self.panel.say(f"Score {found.score:.2f}. Take puts it into the labels; further clicks correct it.")

    def take(self) -> None:
        """Puts the outline into the labels layer, under a number that no cell has yet. Other cells stay."""
        if self.mask is None or self.job is not None:
            return
        panel, place = self.panel, self._place
        active = panel.viewer.layers.selection.active
        mask = self.mask
        layer = panel._labels_or_new()
        if layer is None:
            return
        data = layer.data
        where: tuple[Any, ...] = place if data.ndim == mask.ndim + len(place) else ()
        if data.shape[len(where) :] != mask.shape:
            panel.fail(f"The labels layer '{layer.name}' has another shape than the image. Choose another one, or press New.")
            return
        number = panel.next_number(layer)
        below = np.asarray(data[where])
        free = mask & ((below <= 0) | (below == (panel.background or 0)))
        rows, columns = np.nonzero(free)
        # As the brush does it, so that it can be undone.
        layer.data_setitem((*(np.full(rows.shape, at) for at in where), rows, columns), number)
        panel.viewer.layers.selection.active = active
        self.drop()
        panel.say(f"It is cell {number}. Click on the next one.")

    def drop(self) -> None:
        """Forgets points, boxes and the outline."""
        if self._points is None:
            return
        self._dropped = True
        for layer in (self._points, self._boxes):
            with layer.events.data.blocker():
                layer.data = [] if layer is self._boxes else np.empty((0, len(self._image.scale)))  # type: ignore[union-attr]
        self._again = False
        self._show(None)
        self._refresh()
        self.panel.say("Click on a cell, or draw a box around it in the layer of boxes.")

    def _refresh(self) -> None:
        form = self.panel.form
        form.take.setEnabled(self.mask is not None and self.job is None)
        form.beside.setEnabled(self._points is not None)
        form.weights.setEnabled(self.job is None)


def _ignore(_: object) -> None:
    """What was looked at is kept by the network."""
