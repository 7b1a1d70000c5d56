"""The panel: choose layers, draw, train, see, segment, save."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels  # type: ignore[import-not-found, import-untyped, unused-ignore]
from napari.utils import DirectLabelColormap  # type: ignore[import-not-found, import-untyped, unused-ignore]
from napari.utils.notifications import show_error, show_info, show_warning  # type: ignore[import-not-found, import-untyped, unused-ignore]
from qtpy.compat import isalive  # type: ignore[import-not-found, import-untyped, unused-ignore]
from qtpy.QtCore import QEvent, QSize, QTimer  # type: ignore[import-not-found, attr-defined, unused-ignore]
from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget  # type: ignore[import-not-found, attr-defined, unused-ignore]

import cellsparse as cs

from .._words import counted
from . import _jobs
from ._form import Form
from ._jobs import Job, Plan
from ._clicks import Clicks
from ._layers import BACKGROUND, MADE, OUTLINE, PREVIEW, Found, Refused, Source, drawn, place_in_view, source

# Where an image layer remembers which of its axes counts channels.
CHANNELS = "cellsparse channel axis"
PREVIEW_COLOUR = "#ffd23f"
POLL_MILLISECONDS = 100
FILES = "cellsparse models (*.safetensors)"
TITLES = {"stardist": "StarDist", "cellpose": "Cellpose", "elephant": "ELEPHANT"}


class Panel(QWidget):  # type: ignore[misc, unused-ignore]
    """Trains on the drawn cells of a labels layer and segments image layers.

    Attributes
    ----------
    model : Model or None
        What was trained or loaded; it may be set.
    job : Job or None
        The work under way.
    message : str
        The last thing said below the buttons.
    """

    def __init__(self, napari_viewer: Any) -> None:
        self._docked = False
        self._jobs: list[Job] = []
        super().__init__()
        self.viewer = napari_viewer
        self.job: Job | None = None
        self.message = ""
        self._model: cs.Model | None = None
        self._saved = True
        self._shown_losses = 0
        self.form = Form(self)
        self.clicks = Clicks(self)
        self._connect()
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.timeout.connect(self._poll)
        # Work ends with the panel, whichever way that goes; the list outlives the panel, which it does not hold.
        self._finalizer = weakref.finalize(self, _stop_all, self._jobs)
        self.destroyed.connect(self._finalizer)
        self.reset_choices()
        self._refresh()
        self.say("Choose an image, draw a few cells, and press Train.")

    def event(self, event: Any) -> bool:
        if event.type() == QEvent.Type.ParentChange:
            # Taken out of the window by the cross of its title: napari keeps the panel for a while.
            if self._docked and self.parent() is None:
                _stop_all(self._jobs)
            self._docked = self.parent() is not None
        return bool(super().event(event))

    def _connect(self) -> None:
        form = self.form
        form.image.currentIndexChanged.connect(self._image_changed)
        form.channels.currentIndexChanged.connect(self._channels_changed)
        form.labels.currentIndexChanged.connect(self._labels_changed)
        form.has_background.toggled.connect(self._background_changed)
        form.background.valueChanged.connect(self._background_changed)
        form.algorithm.currentIndexChanged.connect(self._refresh)
        form.anew.toggled.connect(self._refresh)
        form.new_labels.clicked.connect(self.new_labels)
        form.draw_cell.clicked.connect(self.draw_cell)
        form.draw_background.clicked.connect(self.draw_background)
        form.train.clicked.connect(self.train)
        form.stop.clicked.connect(self.stop)
        form.predict.clicked.connect(self.predict)
        form.predict_all.clicked.connect(self.predict_all)
        form.save.clicked.connect(self._ask_save)
        form.load.clicked.connect(self._ask_load)
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.connect(self.reset_choices)

    def minimumSizeHint(self) -> Any:
        return QSize(self.form.minimum_width(), 300)

    def sizeHint(self) -> Any:
        return QSize(self.form.minimum_width() + 20, 700)

    # What is chosen.

    @property
    def image_layer(self) -> Any:
        """The chosen image layer, or None."""
        return self.form.image.currentData()

    @property
    def labels_layer(self) -> Any:
        """The chosen labels layer, or None."""
        return self.form.labels.currentData()

    @property
    def background(self) -> int | None:
        """The number under which background is drawn, or None."""
        return self.form.background.value() if self.form.has_background.isChecked() else None

    @property
    def model(self) -> cs.Model | None:
        return self._model

    @model.setter
    def model(self, model: cs.Model | None) -> None:
        self._model, self._saved = model, True
        self._refresh()

    def reset_choices(self, event: Any = None) -> None:
        """Lists the layers anew; what was chosen stays chosen."""
        alive: Any = isalive
        if not alive(self):
            return
        layers = list(reversed(self.viewer.layers))
        images = [layer for layer in layers if isinstance(layer, Image)]
        labels = [layer for layer in layers if isinstance(layer, Labels)]
        # Own results last, and chosen by hand only; a preview never.
        own = [layer for layer in labels if layer.metadata.get(MADE) and layer.metadata[MADE] not in (PREVIEW, OUTLINE)]
        labels = [layer for layer in labels if MADE not in layer.metadata]
        _fill(self.form.image, images, next((layer for layer in images if layer.visible), None))
        _fill(self.form.labels, labels + own, next(iter(labels), None))
        self._image_changed()
        self._labels_changed()

    def _image_changed(self, *_: Any) -> None:
        layer = self.image_layer
        if self.clicks.layer is not None and layer is not self.clicks.layer:
            self.form.by_click.setChecked(False)
        axes = [] if layer is None or layer.ndim < 3 or layer.rgb else range(layer.ndim)
        box = self.form.channels
        box.blockSignals(True)
        box.clear()
        box.addItem("one (grey)", None)
        for axis in axes:
            shape = layer.data[0].shape if layer.multiscale else layer.data.shape
            box.addItem(f"axis {axis}, {counted(shape[axis], 'channel')}", axis)
        box.setCurrentIndex(max(0, box.findData(None if layer is None else layer.metadata.get(CHANNELS))))
        box.blockSignals(False)
        self.form.show_channels(bool(axes))
        self._refresh()

    def _channels_changed(self, *_: Any) -> None:
        if self.image_layer is not None:
            self.image_layer.metadata[CHANNELS] = self.form.channels.currentData()

    def _labels_changed(self, *_: Any) -> None:
        layer = self.labels_layer
        number = None if layer is None else layer.metadata.get(BACKGROUND)
        for box in (self.form.has_background, self.form.background):
            box.blockSignals(True)
        self.form.has_background.setChecked(number is not None)
        if number is not None:
            self.form.background.setValue(int(number))
        for box in (self.form.has_background, self.form.background):
            box.blockSignals(False)
        self._refresh()

    def _background_changed(self, *_: Any) -> None:
        if self.labels_layer is not None:
            self.labels_layer.metadata[BACKGROUND] = self.background
        self._refresh()

    # Drawing.

    def new_labels(self) -> None:
        """Adds an empty labels layer over the chosen image, and chooses it."""
        try:
            image = self._source()
        except Refused as refused:
            self.fail(str(refused))
            return
        shape = tuple(image.data.shape[axis] for axis in (*image.leading, *image.rows_columns))
        self.viewer.add_labels(
            np.zeros(shape, np.int32),
            name=f"drawn on {image.name}",
            scale=image.scale,
            translate=image.translate,
            units=image.units,
            opacity=0.6,
        )
        # The newest is listed first; add_labels of the viewer that plugins get returns a proxy, which is not in the list.
        self.form.labels.setCurrentIndex(0)
        self.draw_cell()

    def draw_cell(self) -> None:
        """Takes the brush with a number that no cell has yet."""
        layer = self._labels_or_new()
        if layer is not None:
            self._brush(layer, self.next_number(layer))
            self.say(f"Draw cell {layer.selected_label}, then press Cell again for the next one (in napari: M).")

    def next_number(self, layer: Any) -> int:
        """A number that no cell of a labels layer has, nor the background."""
        return max(_largest(layer), self.background or 0) + 1

    def draw_background(self) -> None:
        """Takes the brush with the number of the background."""
        layer = self._labels_or_new()
        if layer is None:
            return
        if self.background is None:
            # Never the number of a drawn cell.
            self.form.background.setValue(_largest(layer) + 1)
            self.form.has_background.setChecked(True)
        self._brush(layer, self.background or 1)
        self.say("Draw strokes of background; right beside a few drawn cells they help most.")

    def _labels_or_new(self) -> Any:
        if self.labels_layer is None:
            self.new_labels()
        return self.labels_layer

    def _brush(self, layer: Any, number: int) -> None:
        layer.selected_label = number
        layer.visible = True
        layer.mode = "paint"
        self.viewer.layers.selection.active = layer

    # Work.

    def train(self) -> None:
        """Trains the present model on, or a new one, and shows previews and the result."""
        layer, labels = self.image_layer, self.labels_layer
        try:
            image = self._source()
            if labels is None:
                raise Refused("There is no labels layer. Press New, and draw a few cells in it.")
            place = place_in_view(layer, image, self.viewer.dims.point)
            data = drawn(image, labels, self.background, place)
        except Refused as refused:
            self.fail(str(refused))
            return
        plan = self.plan()
        model = self._model if self._goes_on() else None
        self._shown_losses = 0
        self.form.curve.show_values([])
        self._start(Job("train"), lambda job: _jobs.train(job, model, plan, data, image, place))

    def plan(self) -> Plan:
        """How to train, as chosen."""
        form = self.form
        amount, by_time = form.amount.value(), form.unit.currentData() == "seconds"
        return Plan(
            form.algorithm.currentData(),
            form.init.currentData(),
            float(amount) if by_time else None,
            None if by_time else amount,
        )

    def predict(self) -> None:
        """Segments the plane in view of the chosen image."""
        try:
            image = self._source()
        except Refused as refused:
            self.fail(str(refused))
            return
        place = place_in_view(self.image_layer, image, self.viewer.dims.point)
        self._predict([(image, [place], False)])

    def predict_all(self) -> None:
        """Segments every image layer, with all planes of stacks."""
        images = []
        for layer in self.viewer.layers:
            if isinstance(layer, Image):
                try:
                    image = source(layer, layer.metadata.get(CHANNELS))
                except Refused as refused:
                    self.fail(str(refused))
                    return
                images.append((image, list(image.places()), True))
        if not images:
            self.fail("There is no image layer. Open an image first.")
            return
        self._predict(images)

    def _predict(self, images: list[tuple[Source, list[tuple[int, ...]], bool]]) -> None:
        model = self._model
        if model is None:
            self.fail("There is no model yet. Train one, or load one from a file.")
            return
        self._start(Job("predict"), lambda job: _jobs.predict(job, model, images))

    def stop(self) -> None:
        """Ends the work under way after the running step; what was learned is kept."""
        if self.job is not None:
            self.job.stop()
            self.say("Stopping after the running step.")

    def _source(self) -> Source:
        if self.image_layer is None:
            raise Refused("There is no image layer. Open an image first.")
        return source(self.image_layer, self.form.channels.currentData())

    def _goes_on(self) -> bool:
        """Whether a training goes on from the present model."""
        wanted = self.form.algorithm.currentData()
        return (
            self._model is not None
            and not self.form.anew.isChecked()
            and wanted in ("auto", self._model.algorithm)
        )

    def _start(self, job: Job, work: Any) -> None:
        if self.job is not None:
            self.fail("There is work under way. Wait for its end, or press Stop.")
            return
        self.job = job
        self._jobs.append(job)
        self._refresh()
        self.say("Training ..." if job.kind == "train" else "Segmenting ...")
        self._timer.start()
        _jobs.start(job, work)

    def _poll(self) -> None:
        """Shows what the work has come to."""
        job = self.job
        if job is None:
            return
        # Read before the rest: what was written before it was set is then seen.
        done = job.done
        self._progress(job)
        while job.hints:
            hint = job.hints.popleft()
            job.notes.append(hint)
            show_warning(hint)
        while job.previews:
            self._show(job.previews.popleft(), PREVIEW)
        while job.results:
            self._show(job.results.popleft(), "cells")
        if done:
            self._timer.stop()
            self.job = None
            self._jobs.clear()
            self._finish(job)

    def _progress(self, job: Job) -> None:
        event = job.event
        if event is None or (job.doing and job.doing != "preparing"):
            if job.doing:
                self.say(job.doing[0].upper() + job.doing[1:] + " ...")
            if event is None:
                self.form.bar.setRange(0, 0)
        if event is None:
            return
        if len(job.losses) != self._shown_losses:
            self._shown_losses = len(job.losses)
            self.form.curve.show_values(job.losses[: self._shown_losses])
            self.form.bar.setRange(0, 1000)
            self.form.bar.setValue(round(1000 * event.elapsed / max(event.elapsed + event.remaining, 1e-6)))
            if not job.stopped.is_set():
                self.say(
                    f"Step {event.step} of about {event.total_steps}, loss {event.loss:.4f}, "
                    f"{event.elapsed:.0f} s, {event.remaining:.0f} s left"
                )

    def _finish(self, job: Job) -> None:
        self._remove_preview()
        self.form.bar.setRange(0, 1000)
        self.form.bar.setValue(0 if job.error else 1000)
        if job.model is not None:
            self._model, self._saved = job.model, False
            self.form.anew.setChecked(False)
        self._refresh()
        if isinstance(job.error, cs.CancelledError):
            self.say(str(job.error))
        elif job.error is not None:
            self.fail(_explained(job.error))
        elif job.history is not None:
            history = job.history
            how = "Stopped" if job.stopped.is_set() else "Trained"
            facts = [f"{how} after {counted(len(history), 'step')} and {history.seconds or 0:.0f} s", *job.notes]
            self.say(". ".join(fact.rstrip(".") for fact in facts) + ".")
        else:
            self.say(" ".join(["Stopped." if job.stopped.is_set() else "Segmented.", *job.notes]))

    # Layers with results.

    def _show(self, result: Found, kind: str) -> None:
        name = PREVIEW if kind == PREVIEW else f"{kind} of {result.image.name}"
        if kind != PREVIEW and result.place:
            name += result.image.where(result.place)
        if kind != PREVIEW:
            self._note(result)
        values = result.layer(name)
        layer = next((old for old in self.viewer.layers if old.metadata.get(MADE) == name), None)
        if layer is not None and layer.ndim == values["data"].ndim:
            layer.data = values["data"]
            layer.features = values["features"]
            layer.scale, layer.translate = values["scale"], values["translate"]
            return
        if layer is not None:
            self.viewer.layers.remove(layer)
        # Adding a layer takes the selection, and with it the brush, from somebody who draws meanwhile.
        selected, active = set(self.viewer.layers.selection), self.viewer.layers.selection.active
        layer = self.viewer.add_labels(**values, opacity=0.9, metadata={MADE: name})
        layer.contour = 1
        if kind == PREVIEW:
            # One colour: ids, and with them colours, change from one preview to the next.
            layer.colormap = DirectLabelColormap(color_dict={None: PREVIEW_COLOUR, 0: "transparent"})
            layer.editable = False
        if selected:
            self.viewer.layers.selection = selected
            self.viewer.layers.selection.active = active

    def _note(self, result: Found) -> None:
        if self.job is not None:
            count = len(result.features["index"])
            where = result.image.where(result.place or ())
            self.job.notes.append(f"{counted(count, 'cell')} in {result.image.name}{where}.")
            self.job.notes += [note for note in result.notes if note not in self.job.notes]

    def _remove_preview(self) -> None:
        for layer in [layer for layer in self.viewer.layers if layer.metadata.get(MADE) == PREVIEW]:
            self.viewer.layers.remove(layer)

    # The model file.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model to a file."""
        if self._model is None:
            self.fail("There is no model yet. Train one first.")
            return
        path = Path(path)
        if not path.suffix:
            path = path.with_suffix(".safetensors")
        try:
            self._model.save(path)
        except (cs.CellsparseError, OSError) as error:
            self.fail(_explained(error))
            return
        self._saved = True
        self._refresh()
        self.say(f"Saved as {path.name}.")
        show_info(f"The model was saved as {path}.")

    def load(self, path: str | os.PathLike[str]) -> None:
        """Reads a model, which takes the place of the present one."""
        try:
            self.model = cs.load(path)
        except (cs.CellsparseError, OSError) as error:
            self.fail(_explained(error))
            return
        self.form.anew.setChecked(False)
        self._refresh()
        self.say(f"Loaded {Path(path).name}.")

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the model", "cells.safetensors", FILES)
        if path:
            self.save(path)

    def _ask_load(self) -> None:
        if not self._saved:
            question = "The present model is not saved. Load another one in its place?"
            if QMessageBox.question(self, "Load a model", question) != QMessageBox.StandardButton.Yes:
                return
        path, _ = QFileDialog.getOpenFileName(self, "Load a model", "", FILES)
        if path:
            self.load(path)

    # Words.

    def explained(self, error: BaseException) -> str:
        """What went wrong, in a sentence."""
        return _explained(error)

    def say(self, text: str) -> None:
        """Shows a sentence below the buttons."""
        self.message = text
        self.form.say(text, False)

    def fail(self, text: str) -> None:
        """Shows what is wrong below the buttons, and as napari shows errors."""
        self.message = text
        self.form.say(text, True)
        show_error(text)

    def _refresh(self, *_: Any) -> None:
        """Brings buttons and texts in line with what is there."""
        form, busy = self.form, self.job is not None
        goes_on, has_image = self._goes_on(), self.image_layer is not None
        form.train.setText("Train on" if goes_on else "Train")
        form.init.setEnabled(not goes_on)
        form.train.setEnabled(not busy)
        form.stop.setEnabled(busy)
        form.predict.setEnabled(not busy and has_image)
        form.predict_all.setEnabled(not busy and has_image)
        form.save.setEnabled(not busy and self._model is not None)
        form.load.setEnabled(not busy)
        form.background.setEnabled(form.has_background.isChecked())
        form.anew.setEnabled(self._model is not None)
        if self._model is None:
            form.about.setText("No model yet")
            return
        info = self._model.info()
        parts = [TITLES[info["algorithm"]], counted(info["steps"], "step")]
        channels = self._model.n_channels
        parts.append("grey" if channels == 1 else f"{channels} channels")
        parts.append("" if self._saved else "not saved")
        form.about.setText(", ".join(part for part in parts if part))


def _stop_all(jobs: list[Job]) -> None:
    for job in jobs:
        job.stop()


def _fill(box: Any, layers: list[Any], preferred: Any) -> None:
    """Lists layers in a combo box; the chosen one stays, and if it is gone, the preferred one is chosen."""
    before = box.currentData()
    box.blockSignals(True)
    box.clear()
    for layer in layers:
        box.addItem(layer.name, layer)
    chosen = before if any(layer is before for layer in layers) else preferred
    box.setCurrentIndex(next((place for place, layer in enumerate(layers) if layer is chosen), -1))
    box.blockSignals(False)


def _largest(layer: Any) -> int:
    data = layer.data[0] if layer.multiscale else layer.data
    return int(np.max(data, initial=0))


def _explained(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.strerror}: {error.filename}"
    if isinstance(error, cs.CellsparseError):
        return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
    return f"{type(error).__name__}: {text}"
