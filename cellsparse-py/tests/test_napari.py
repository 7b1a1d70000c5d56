"""The panel in napari, from drawing to a saved model. `test_napari.sh` runs these; without napari they are left out."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import cellsparse as cs
from conftest import FIXTURES, small

pytest.importorskip("napari", reason="napari is not installed: run test_napari.sh")
psutil = pytest.importorskip("psutil")

from cellsparse._napari import _jobs, _layers, _sample  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::cellsparse.AnnotationWarning", "ignore::cellsparse.ResultWarning")

LONG = 120_000


@pytest.fixture(autouse=True)
def without_opengl(monkeypatch):
    """What napari asks OpenGL for, where Qt has none: its offscreen platform without a display."""
    if os.environ.get("QT_QPA_PLATFORM") != "offscreen" or os.environ.get("DISPLAY"):
        return
    from vispy.gloo import gl

    ask = gl.glGetParameter
    answers = {gl.GL_EXTENSIONS: "", gl.GL_MAX_TEXTURE_SIZE: 16384}
    monkeypatch.setattr(gl, "glGetParameter", lambda name: answers[name] if name in answers else ask(name) or 2048)


@pytest.fixture
def errors():
    """What napari shows as errors."""
    from napari.utils.notifications import NotificationSeverity, notification_manager

    shown = []

    def keep(notification):
        if notification.severity == NotificationSeverity.ERROR:
            shown.append(notification.message)

    notification_manager.notification_ready.connect(keep)
    yield shown
    notification_manager.notification_ready.disconnect(keep)


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def panel(viewer):
    """The panel as the menu opens it."""
    _, panel = viewer.window.add_plugin_dock_widget("cellsparse", "Train and segment")
    return panel


@pytest.fixture
def ready(viewer, panel, field):
    """A field with drawn cells and background, and a training that is quick."""
    viewer.add_image(field.image, name="field")
    viewer.add_labels(np.where(field.annotation < 0, 0, field.annotation + 1), name="drawn", metadata={_layers.BACKGROUND: 1})
    choose(panel.form.algorithm, "stardist")
    choose(panel.form.unit, "steps")
    panel.form.amount.setValue(2)
    return panel


def choose(box, value):
    place = next(place for place in range(box.count()) if box.itemData(place) is value or box.itemData(place) == value)
    box.setCurrentIndex(place)


def finish(panel, qtbot):
    qtbot.waitUntil(lambda: panel.job is None, timeout=LONG)


def names(viewer):
    return [layer.name for layer in viewer.layers]


def test_the_manifest_is_valid_and_the_menu_opens_the_panel(make_napari_viewer, qtbot):
    run = subprocess.run([sys.executable, "-m", "npe2", "validate", "cellsparse"], capture_output=True, text=True)
    assert run.returncode == 0 and "valid" in run.stdout, run.stdout + run.stderr
    from napari._app_model import get_app_model

    viewer = make_napari_viewer()
    application = get_app_model()
    [entry] = [
        item.command
        for item in application.menus.get_menu("napari/layers/segment")
        if getattr(item, "command", None) is not None and item.command.id.startswith("cellsparse")
    ]
    assert "Train" in entry.title
    application.commands.execute_command(entry.id).result()
    assert [dock for dock in viewer.window.dock_widgets if "cellsparse" in dock]


def test_train_preview_predict_save_load(ready, viewer, field, qtbot, tmp_path, errors, monkeypatch):
    monkeypatch.setattr(_jobs, "PREVIEW_SECONDS", 0.0)
    panel, previews = ready, []
    viewer.layers.events.inserted.connect(lambda event: previews.append(event.value.name))
    panel.form.amount.setValue(12)
    assert panel.form.train.text() == "Train" and not panel.form.save.isEnabled()
    viewer.layers.selection.active = viewer.layers["drawn"]
    panel.train()
    assert not panel.form.train.isEnabled() and panel.form.stop.isEnabled()
    qtbot.waitUntil(lambda: "preview" in names(viewer), timeout=LONG)
    # Somebody who draws meanwhile keeps the brush, and the preview is no choice for what was drawn.
    assert viewer.layers.selection.active.name == "drawn" and panel.labels_layer.name == "drawn"
    first = viewer.layers["preview"].data
    qtbot.waitUntil(lambda: "preview" not in names(viewer) or viewer.layers["preview"].data is not first, timeout=LONG)
    finish(panel, qtbot)
    assert not errors and names(viewer) == ["field", "drawn", "cells of field"]
    assert "preview" in previews and panel.message.startswith("Trained after 12 steps")

    # The result is that of the package, with measurements under the numbers of the cells.
    layer, (labels, objects) = viewer.layers["cells of field"], panel.model.predict(field.image)
    np.testing.assert_array_equal(layer.data, labels)
    table = layer.features
    assert list(table.columns[:3]) == ["index", "area", "probability"] and len(table) == len(objects) > 3
    np.testing.assert_array_equal(table["area"], np.bincount(labels.ravel())[1:])
    np.testing.assert_allclose(table["probability"], [o.probability for o in objects])
    score = cs.metrics.matching(field.truth, labels, thresh=0.5)
    assert score.f1 > 0.7, score

    panel.save(tmp_path / "cells")
    assert panel.form.about.text() == "StarDist, 12 steps, grey"
    other = cs.synthetic.field(seed=7, shape=(96, 112)).image
    viewer.add_image(other, name="other")
    choose(panel.form.image, viewer.layers["other"])
    panel.predict()
    finish(panel, qtbot)
    np.testing.assert_array_equal(viewer.layers["cells of other"].data, panel.model.predict(other).labels)

    before = panel.model
    panel.load(tmp_path / "cells.safetensors")
    assert panel.model is not before and panel.model.steps == 12
    viewer.layers.remove("cells of field")
    panel.predict_all()
    finish(panel, qtbot)
    np.testing.assert_array_equal(viewer.layers["cells of field"].data, labels)
    assert not errors and names(viewer).count("cells of other") == 1


def test_training_goes_on_from_the_model_or_anew(ready, qtbot):
    panel = ready
    panel.model = small()
    panel.train()
    finish(panel, qtbot)
    model = panel.model
    assert model.steps == 2 and panel.form.train.text() == "Train on"
    assert not panel.form.init.isEnabled() and "not saved" in panel.form.about.text()
    panel.train()
    finish(panel, qtbot)
    assert panel.model is model and model.steps == 4
    panel.form.anew.setChecked(True)
    assert panel.form.train.text() == "Train"
    panel.form.amount.setValue(1)
    panel.train()
    finish(panel, qtbot)
    assert panel.model is not model and panel.model.steps == 1 and not panel.form.anew.isChecked()
    choose(panel.form.algorithm, "elephant")
    assert panel.form.train.text() == "Train"
    choose(panel.form.init, "none")
    panel.train()
    finish(panel, qtbot)
    assert panel.model.algorithm == "elephant" and panel.model.history.begun is None and panel.model.steps == 1
    # Whatever was trained goes on when the choice is left to the package.
    choose(panel.form.algorithm, "auto")
    assert panel.form.train.text() == "Train on"


def test_the_algorithm_is_chosen_and_the_reason_told(ready, qtbot, monkeypatch):
    panel = ready
    told = []
    monkeypatch.setattr(
        cs, "choose_algorithm", lambda *data, **options: told.append(options) or cs.Choice("elephant", {}, "elephant did best")
    )
    choose(panel.form.algorithm, "auto")
    choose(panel.form.unit, "seconds")
    panel.train()
    finish_soon = time.monotonic() + 60
    while panel.job is not None and panel.job.event is None and time.monotonic() < finish_soon:
        qtbot.wait(20)
    panel.stop()
    finish(panel, qtbot)
    assert told[0]["time_budget"] == 2 and panel.model.algorithm == "elephant"
    assert "elephant did best" in panel.message


def test_stop_is_heard_within_a_step_and_keeps_what_was_learned(ready, viewer, qtbot, errors):
    panel = ready
    panel.form.amount.setValue(100_000)
    panel.train()
    job = panel.job
    qtbot.waitUntil(lambda: len(job.losses) >= 3, timeout=LONG)
    assert panel.message.startswith("Step ")
    panel.train()
    assert errors == [panel.message] and "under way" in errors[0]
    panel.stop()
    steps = len(job.losses)
    finish(panel, qtbot)
    assert job.history.stopped == "cancelled" and len(job.history) <= steps + 1
    assert panel.model.steps == len(job.history) and panel.message.startswith("Stopped after")
    assert "cells of field" in names(viewer) and "preview" not in names(viewer)
    assert panel.form.train.isEnabled() and not panel.form.stop.isEnabled()


def test_stop_between_images(viewer, panel, qtbot, field):
    panel.model = small()
    for number in range(30):
        viewer.add_image(field.image, name=f"image {number}")
    panel.predict_all()
    panel.stop()
    finish(panel, qtbot)
    assert len([name for name in names(viewer) if name.startswith("cells of")]) < 30
    assert panel.message.startswith("Stopped")


def fault(panel, viewer, what, field, tmp_path):
    """Makes one mistake, and gives what should be said of it."""
    if what == "no image":
        panel.train()
        return "There is no image layer"
    if what == "no model":
        viewer.add_image(field.image)
        panel.predict()
        return "There is no model yet"
    if what == "not a model":
        (tmp_path / "x.safetensors").write_bytes(b"nothing")
        panel.load(tmp_path / "x.safetensors")
        return "x.safetensors"
    if what == "no file":
        panel.load(tmp_path / "y.safetensors")
        return "y.safetensors"
    if what == "no folder":
        panel.model = small()
        panel.save(tmp_path / "none" / "z.safetensors")
        return "none"
    viewer.add_image(field.image, name="field")
    if what == "no labels":
        panel.train()
        return "There is no labels layer"
    if what == "nothing drawn":
        viewer.add_labels(np.zeros(field.image.shape, int), name="empty")
        panel.train()
        return "There is nothing drawn in the labels layer 'empty'"
    if what == "background only":
        viewer.add_labels(np.eye(128, dtype=int), name="strokes", metadata={_layers.BACKGROUND: 1})
        panel.train()
        return "There is only background drawn"
    if what == "wrong size":
        viewer.add_labels(np.ones((64, 96), int), name="small")
        panel.train()
        return "has the shape 64 x 96 and the image layer 'field' 128 x 128"
    assert what == "other channels"
    panel.model = small(n_channels=3)
    panel.predict()
    return "3"


FAULTS = (
    "no image",
    "no labels",
    "nothing drawn",
    "background only",
    "wrong size",
    "no model",
    "not a model",
    "no file",
    "no folder",
    "other channels",
)


@pytest.mark.parametrize("what", FAULTS)
def test_mistakes_are_explained(panel, viewer, what, field, tmp_path, errors, qtbot):
    expected = fault(panel, viewer, what, field, tmp_path)
    finish(panel, qtbot)
    assert len(errors) == 1 and expected in errors[0], errors
    assert panel.message == errors[0] and panel.form.status.text() == errors[0]
    assert panel.job is None and panel.form.train.isEnabled()


def test_a_failed_training_leaves_the_model(ready, qtbot, errors, monkeypatch):
    panel = ready
    panel.model = before = small()

    def diverge(*values, **options):
        raise cs.DivergedError("the loss is not finite")

    monkeypatch.setattr(before, "train", diverge)
    panel.train()
    finish(panel, qtbot)
    assert errors == ["The loss is not finite."] and panel.model is before
    # Predicting all images goes on after one that cannot be segmented.
    panel.viewer.add_image(np.zeros((8, 8, 3), np.uint8), rgb=True, name="colours")
    panel.predict_all()
    finish(panel, qtbot)
    assert "cells of field" in names(panel.viewer) and "colours" in panel.message


def test_brushes_take_numbers_of_their_own(viewer, panel, field):
    viewer.add_image(field.image, name="field", scale=(0.5, 0.5), translate=(3, 4))
    panel.draw_cell()
    layer = panel.labels_layer
    assert layer.name == "drawn on field" and layer.selected_label == 1 and layer.mode == "paint"
    assert layer.data.shape == field.image.shape and list(layer.scale) == [0.5, 0.5] and list(layer.translate) == [3, 4]
    assert viewer.layers.selection.active is layer
    layer.paint((20, 20), layer.selected_label)
    panel.draw_cell()
    assert layer.selected_label == 2 and panel.background is None
    panel.draw_background()
    assert layer.selected_label == 2 == panel.background
    layer.paint((60, 60), 2)
    panel.draw_cell()
    assert layer.selected_label == 3
    # Another layer has its own number, and this one keeps its.
    viewer.add_labels(np.zeros(field.image.shape, int), name="more")
    choose(panel.form.labels, viewer.layers["more"])
    assert panel.background is None
    choose(panel.form.labels, layer)
    assert panel.background == 2


def test_numbers_mean_what_the_encodings_say(field):
    shown = np.where(field.annotation < 0, 0, field.annotation + 1)
    for dtype in (np.uint8, np.int16, np.uint32, np.uint64):
        meaning = _layers.meaning(shown.astype(dtype), 1)
        np.testing.assert_array_equal(meaning > 0, field.annotation > 0)
        np.testing.assert_array_equal(meaning == 0, field.annotation == 0)
        np.testing.assert_array_equal(meaning == -1, field.annotation < 0)
    cells = np.where(field.annotation > 0, field.annotation, 0)
    losses = []
    for labels, encoding in ((_layers.meaning(cells, None), "signed"), (cells, "cells")):
        history = small().train(field.image, labels, steps=2, patch_size=32, progress=False, label_encoding=encoding)
        losses.append(history.loss.tolist())
    for labels, encoding in ((_layers.meaning(shown, 1), "signed"), (shown, "wire")):
        history = small().train(field.image, labels, steps=2, patch_size=32, progress=False, label_encoding=encoding)
        losses.append(history.loss.tolist())
    assert losses[0] == losses[1] != losses[2] == losses[3]


def test_planes_of_a_stack(viewer, panel, field, qtbot):
    other = cs.synthetic.field(seed=9, shape=field.image.shape).image
    viewer.add_image(np.stack([other, field.image, other]), name="stack", scale=(4, 2, 2))
    panel.new_labels()
    layer = panel.labels_layer
    assert layer.data.shape == (3, 128, 128)
    data = layer.data.copy()
    data[1] = np.where(field.annotation < 0, 0, field.annotation + 1)
    layer.data = data
    panel.form.has_background.setChecked(True)
    panel.form.background.setValue(1)
    image = _layers.source(viewer.layers["stack"])
    drawn = _layers.drawn(image, layer, 1, (0,))
    assert len(drawn.images) == 1
    np.testing.assert_array_equal(drawn.images[0], field.image)

    viewer.dims.set_point(0, 2 * 4)
    panel.model = small()
    choose(panel.form.unit, "steps")
    panel.form.amount.setValue(2)
    panel.train()
    finish(panel, qtbot)
    result = viewer.layers["cells of stack [3]"]
    assert result.data.shape == (1, 128, 128) and list(result.translate) == [8, 0, 0]
    np.testing.assert_array_equal(result.data[0], panel.model.predict(other).labels)
    panel.predict_all()
    finish(panel, qtbot)
    whole = viewer.layers["cells of stack"]
    assert whole.data.shape == (3, 128, 128) and len(np.unique(whole.data)) - 1 == whole.data.max() == len(whole.features)
    np.testing.assert_array_equal(whole.data[2] > 0, result.data[0] > 0)
    at = [int(whole.features["plane-0"][place]) for place in (0, len(whole.features) - 1)] if len(whole.features) else [1, 3]
    assert at == [1, 3]
    # Flat labels belong to the plane in view.
    flat = viewer.add_labels(data[1], name="flat")
    np.testing.assert_array_equal(_layers.drawn(image, flat, 1, (2,)).images[0], other)


def test_channels_and_colours(viewer, panel, qtbot):
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 255, (2, 40, 3, 48), np.uint8)
    layer = viewer.add_image(stack, name="channels")
    choose(panel.form.channels, 2)
    assert panel.form.channels.isVisibleTo(panel)
    image = panel._source()
    assert image.channels == 3 and image.shape == (40, 48) and image.leading == (0,)
    np.testing.assert_array_equal(image.plane((1,)), np.moveaxis(stack[1], 1, -1))
    np.testing.assert_array_equal(_layers.source(layer, 0).plane((5,)), np.moveaxis(stack[:, 5], 0, -1))
    panel.model = small(n_channels=3)
    panel.predict_all()
    finish(panel, qtbot)
    assert viewer.layers["cells of channels"].data.shape == (2, 40, 48)
    # Labels that napari made for all axes.
    drawn = np.zeros(stack.shape, int)
    drawn[1, 5:15, 2, 5:15] = 4
    labels = viewer.add_labels(drawn, name="all axes")
    taken = _layers.drawn(image, labels, None, (0,))
    assert len(taken.labels) == 1 and (taken.labels[0] == 4).sum() == 100

    viewer.add_image(rng.integers(0, 255, (40, 48, 4), np.uint8), rgb=True, name="colour")
    choose(panel.form.image, viewer.layers["colour"])
    assert not panel.form.channels.isVisibleTo(panel)
    panel.predict()
    finish(panel, qtbot)
    assert viewer.layers["cells of colour"].data.shape == (40, 48)
    choose(panel.form.image, layer)
    assert panel.form.channels.currentData() == 2


def test_pixel_sizes_are_those_of_the_layer(viewer):
    pixels = np.zeros((2, 8, 8), np.uint8)
    layer = viewer.add_image(pixels, scale=(3, 250, 500), units=("um", "nm", "nm"))
    assert _layers.source(layer).pixel_size == pytest.approx((0.25, 0.5))
    assert _layers.source(viewer.add_image(pixels, scale=(3, 2, 2))).pixel_size is None
    pyramid = viewer.add_image([pixels[0], pixels[0, ::2, ::2]], multiscale=True)
    assert _layers.source(pyramid).plane(()).shape == (8, 8)


def looked(clicks, qtbot):
    qtbot.waitUntil(lambda: clicks.job is None and not clicks._again, timeout=LONG)
    qtbot.wait(20)
    qtbot.waitUntil(lambda: clicks.job is None and not clicks._again, timeout=LONG)


def outlined(clicks, qtbot, size):
    """Clicks until something is found, which of random weights is not everywhere, and gives the place."""
    for y, x in np.ndindex(5, 5):
        at = (10.0 + y * size / 6, 8.0 + x * size / 6)
        clicks._points.add((0.0,) * (clicks._points.ndim - 2) + at)
        looked(clicks, qtbot)
        if clicks.mask is not None:
            return at
        clicks.drop()
    raise AssertionError("nothing was found anywhere")


def test_a_click_outlines_an_object_that_becomes_a_cell(viewer, panel, field, qtbot, errors):
    viewer.add_image(field.image, name="field", scale=(0.5, 0.5), translate=(3, 4))
    clicks, form = panel.clicks, panel.form
    form.by_click.setChecked(True)
    assert len(errors) == 1 and "mobile_sam.pt" in errors[0] and not form.by_click.isChecked()
    clicks.load(FIXTURES / "README.md")
    looked(clicks, qtbot)
    assert len(errors) == 2 and clicks.sam is None
    clicks.load(FIXTURES / "sam" / "small_weights.safetensors")
    looked(clicks, qtbot)
    form.by_click.setChecked(True)
    looked(clicks, qtbot)
    assert names(viewer) == ["field", "boxes on field", "clicks on field"] and viewer.layers.selection.active.mode == "add"
    assert list(clicks._points.scale) == [0.5, 0.5] and not form.take.isEnabled() and panel.image_layer.name == "field"
    before = clicks.sam._made.encoded()
    y, x = outlined(clicks, qtbot, 128)
    assert clicks.sam._made.encoded() == before, "it was looked at before the first click"
    assert panel.message.startswith("Score ") and form.take.isEnabled() and "outline on field" in names(viewer)
    expected = clicks.sam.outline(field.image, [[x, y]], view=clicks._view())
    np.testing.assert_array_equal(clicks.mask, expected.mask)
    np.testing.assert_array_equal(viewer.layers["outline on field"].data, expected.mask)
    # A click beside it and a box are further hints.
    form.beside.setChecked(True)
    clicks._points.add((100.0, 100.0))
    clicks._boxes.add_rectangles(np.array([[5.0, 5.0], [90.0, 100.0]]))
    looked(clicks, qtbot)
    points, box = clicks.prompt()
    assert [label for *_, label in points] == [1, 0] and box == [5, 5, 100, 90]
    form.beside.setChecked(False)
    clicks.drop()
    assert clicks.prompt() == ([], None) and clicks.mask is None and not form.take.isEnabled()

    # No layer that the tool made is one to draw in; taking an outline makes one.
    assert panel.labels_layer is None
    clicks._points.add((y, x))
    looked(clicks, qtbot)
    clicks.take()
    layer = panel.labels_layer
    assert layer.name == "drawn on field" and viewer.layers.selection.active.name == "clicks on field"
    np.testing.assert_array_equal(layer.data, expected.mask.astype(int))
    layer.undo()
    assert not layer.data.any()
    layer.redo()
    # The next one gets a number of its own and leaves the first one alone.
    layer.data[:] = np.where(np.arange(128)[:, None] < 64, 7, 0)
    clicks._points.add((y, x))
    looked(clicks, qtbot)
    clicks.take()
    assert (layer.data[:64] == 7).all()
    np.testing.assert_array_equal(layer.data[64:] == 8, expected.mask[64:])
    form.by_click.setChecked(False)
    assert names(viewer) == ["field", "drawn on field"] and len(errors) == 2


def test_clicks_in_a_stack_are_of_the_plane_in_view(viewer, panel, field, qtbot, errors):
    other = cs.synthetic.field(seed=9, shape=field.image.shape).image
    viewer.add_image(np.stack([other, field.image]), name="stack")
    viewer.dims.set_point(0, 1)
    panel.clicks.sam = cs.sam.load(FIXTURES / "sam" / "small_weights.safetensors")
    panel.form.by_click.setChecked(True)
    clicks = panel.clicks
    looked(clicks, qtbot)
    found = None
    for y, x in np.ndindex(5, 5):
        at = (10.0 + 20 * y, 8.0 + 20 * x)
        clicks._points.add((1.0, *at))
        looked(clicks, qtbot)
        if clicks.mask is not None:
            found = clicks.sam.outline(field.image, [[at[1], at[0]]], view=clicks._view()).mask
            break
        clicks.drop()
    np.testing.assert_array_equal(clicks.mask, found)
    clicks.take()
    layer = panel.labels_layer
    assert layer.data.shape == (2, 128, 128) and not layer.data[0].any()
    np.testing.assert_array_equal(layer.data[1] == 1, found)
    # Another image ends the tool.
    viewer.add_image(other, name="other")
    choose(panel.form.image, viewer.layers["other"])
    assert not panel.form.by_click.isChecked() and names(viewer) == ["stack", "drawn on stack", "other"] and not errors


@pytest.mark.parametrize("what", ["panel", "viewer"])
def test_closing_ends_the_training(make_napari_viewer, field, qtbot, what):
    viewer = make_napari_viewer()
    dock, panel = viewer.window.add_plugin_dock_widget("cellsparse", "Train and segment")
    viewer.add_image(field.image)
    viewer.add_labels(np.where(field.annotation > 0, field.annotation, 0))
    panel.model = small()
    choose(panel.form.unit, "steps")
    panel.form.amount.setValue(100_000)
    panel.train()
    job = panel.job
    qtbot.waitUntil(lambda: len(job.losses) >= 2, timeout=LONG)
    del panel
    if what == "panel":
        dock.destroyOnClose()
    else:
        viewer.close()
    del dock, viewer
    for _ in range(200):
        gc.collect()
        qtbot.wait(20)
        if job.done:
            break
    assert job.stopped.is_set() and job.done and job.history.stopped == "cancelled"


def test_twenty_rounds_take_no_more_memory(panel, viewer, qtbot):
    image, _, annotation = cs.synthetic.field(seed=2, shape=(64, 64))
    viewer.add_image(image)
    viewer.add_labels(np.where(annotation > 0, annotation, 0))
    panel.model = small("elephant")
    choose(panel.form.unit, "steps")
    panel.form.amount.setValue(2)
    process, sizes, layers = psutil.Process(), [], []
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    for _ in range(20):
        panel.train()
        finish(panel, qtbot)
        gc.collect()
        if trim is not None:
            # What the allocator keeps for the threads to come is no growth.
            trim(0)
        sizes.append(process.memory_info().rss / 2**20)
        layers.append(names(viewer))
    assert panel.model.steps == 40 and layers[0] == layers[-1]
    # The first rounds fill caches.
    print("MiB after each round:", [round(size) for size in sizes])
    assert min(sizes[-3:]) - max(sizes[2:5]) < 40, sizes
    assert threading.active_count() < 20


def test_hints_about_the_annotation_are_shown(ready, qtbot):
    from napari.utils.notifications import NotificationSeverity, notification_manager

    panel = ready
    panel.model = small()
    panel.form.has_background.setChecked(False)
    drawn = panel.labels_layer.data.copy()
    drawn[drawn == 1] = 0
    panel.labels_layer.data = drawn
    notification_manager.records.clear()
    panel.train()
    finish(panel, qtbot)
    [shown] = [record for record in notification_manager.records if record.severity == NotificationSeverity.WARNING]
    assert shown.message.startswith("No background is drawn") and "No background is drawn" in panel.message


def test_samples_can_be_opened(viewer, panel):
    viewer.open_sample("cellsparse", "nuclei")
    assert panel.image_layer.name == "nuclei" and panel.labels_layer.name == "drawn" and panel.background == 1
    for make in (_sample.nuclei, _sample.tissue):
        assert all(len(layer) == 3 for layer in make())
    viewer.open_sample("cellsparse", "tissue")
    assert viewer.layers["tissue"].rgb


@pytest.mark.skipif("CELLSPARSE_NAPARI_PICTURE" not in os.environ, reason="no picture was asked for")
def test_picture(make_napari_viewer, qtbot):
    """The picture of docs/napari.md: a training under way."""
    from PIL import Image

    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1400, 780)
    viewer.open_sample("cellsparse", "nuclei")
    _, panel = viewer.window.add_plugin_dock_widget("cellsparse", "Train and segment")
    choose(panel.form.algorithm, "stardist")
    panel.form.amount.setValue(30)
    panel.train()
    qtbot.waitUntil(lambda: panel.job.event is not None and panel.job.event.elapsed > 18, timeout=LONG)
    qtbot.waitUntil(lambda: panel.message.startswith("Step "), timeout=LONG)
    viewer.reset_view()
    viewer.camera.zoom *= 1.03
    qtbot.wait(300)
    pixels = viewer.screenshot(canvas_only=False, flash=False)
    Image.fromarray(pixels[..., :3]).save(os.environ["CELLSPARSE_NAPARI_PICTURE"], quality=88)
    panel.stop()
    finish(panel, qtbot)
