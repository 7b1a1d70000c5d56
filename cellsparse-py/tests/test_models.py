"""Training, predicting, saving, copying."""

from __future__ import annotations

import copy
import inspect
import json
import multiprocessing
import pickle
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ALGORITHMS, same, small

import cellsparse as cs
from cellsparse import History

QUICK = {"batch_size": 2, "patch_size": 32, "progress": False}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_model_learns_and_predicts(algorithm, field):
    model = small(algorithm)
    options = {**QUICK, "batch_size": 4, "patch_size": 64, "learning_rate": 0.005}
    history = model.train([field.image], [field.annotation], steps=60, **options)
    assert history.steps.tolist() == list(range(1, 61)) and len(history) == 60
    assert history.loss.dtype == np.float32 and np.isfinite(history.loss).all()
    assert history.loss[-15:].mean() < history.loss[:15].mean()
    assert all(len(part) == 60 for part in history.losses.values()) and history.losses
    assert (history.device, history.stopped) == ("cpu", "finished") and history.precision in ("f32", "bf16")
    labels, objects = model.predict(field.image)
    assert labels.dtype == np.int32 and labels.shape == field.image.shape
    assert sorted(set(labels[labels > 0].tolist())) == [o.id for o in objects]
    assert model.algorithm == algorithm and model.steps == 60 and model.n_channels == 1


def test_the_contract_of_signatures():
    train = inspect.signature(cs.StarDist.train).parameters
    expected = {
        "validation": None,
        "steps": None,
        "batch_size": None,
        "patch_size": None,
        "learning_rate": None,
        "preset": "default",
        "time_budget": None,
        "callback": None,
        "progress": True,
    }
    assert {name: train[name].default for name in expected} == expected
    assert list(train)[:3] == ["self", "images", "labels"]
    model = inspect.signature(cs.StarDist).parameters
    expected = {"n_channels": 1, "n_rays": 32, "grid": (2, 2), "n_filter_base": 32, "seed": 0, "device": "auto"}
    assert {name: model[name].default for name in expected} == expected
    assert list(model)[:6] == ["n_channels", "n_rays", "grid", "n_filter_base", "seed", "device"]
    assert list(inspect.signature(cs.StarDist.predict).parameters)[:4] == ["self", "image", "min_area", "tile"]


def test_events(field, model):
    events = []
    model.train(field.image, field.annotation, steps=3, callback=events.append, **QUICK)
    assert [event.step for event in events] == [1, 2, 3]
    event = events[-1]
    assert event.total_steps == 3 and event.epoch == 1 and event.remaining >= 0 < event.elapsed
    assert set(event.losses) == {"prob", "dist"} and event.learning_rate > 0 and event.loss > 0


def test_the_defaults_that_are_shown_are_those_that_are_used(field):
    totals = []
    shown = {name: value.default for name, value in inspect.signature(cs.StarDist.train).parameters.items()}
    # As a form that is made from the signature gives them back.
    steps = json.loads(json.dumps({"steps": shown["steps"]}))

    def callback(event):
        totals.append(event.total_steps)
        return False

    for options in ({}, steps, {"steps": 200}, {"preset": "reference"}):
        small().train(field.image, field.annotation, callback=callback, **QUICK, **options)
    assert totals == [800, 800, 200, 200]


@pytest.mark.parametrize(
    "model",
    [cs.StarDist(n_rays=8, n_filter_base=4, grid=(1, 2), seed=2), cs.Cellpose(widths=[4, 8]), cs.Elephant(widths=[4, 8])],
    ids=str,
)
def test_a_model_can_be_made_again_from_its_parameters(model):
    params = model.get_params()
    assert set(params) == set(inspect.signature(type(model)).parameters)
    again = type(model)(**params)
    assert again.get_params() == params and again.info() == model.info()


@pytest.mark.parametrize("answer", [False, np.False_])
def test_false_stops(field, model, answer):
    history = model.train(
        field.image, field.annotation, steps=9, callback=lambda event: answer if event.step == 2 else None, **QUICK
    )
    assert len(history) == 2 and history.stopped == "cancelled"
    model.predict(field.image)


@pytest.mark.parametrize("answer", [None, True, 0, "", np.True_])
def test_nothing_else_stops(field, model, answer):
    assert len(model.train(field.image, field.annotation, steps=2, callback=lambda event: answer, **QUICK)) == 2


def test_an_exception_of_a_callback_is_raised_and_the_model_goes_on(field, model):
    def callback(event):
        if event.step == 2:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        model.train(field.image, field.annotation, steps=9, callback=callback, **QUICK)
    assert model.steps == 2
    model.predict(field.image)
    assert len(model.train(field.image, field.annotation, steps=2, **QUICK)) == 2
    assert model.steps == 4 and len(model.history) == 4


def test_a_model_in_training_predicts_and_refuses_a_second_training(field, model):
    before = model.predict(field.image)
    seen = []

    def callback(event):
        seen.append(same(model.predict(field.image), before))
        with pytest.raises(cs.BusyError):
            model.train(field.image, field.annotation, steps=1, **QUICK)
        with pytest.raises(cs.BusyError):
            model.reset()
        return False

    model.train(field.image, field.annotation, steps=9, callback=callback, **QUICK)
    assert seen == [True]
    model.reset()


def test_validation(field, model):
    other = cs.synthetic.field(seed=3, shape=(96, 96))
    history = model.train(
        field.image, field.annotation, validation=(other.image, other.annotation), steps=26, **QUICK
    )
    assert history.validation_steps.tolist() == [25, 26] and np.isfinite(history.validation_loss).all()


def test_time_budget_decides_alone(field, model):
    history = model.train(field.image, field.annotation, time_budget=0.6, **QUICK)
    assert history.stopped == "time budget" and len(history) > 2 and history.seconds < 10
    assert len(small().train(field.image, field.annotation, steps=2, time_budget=60, **QUICK)) == 2


def test_seeds_and_threads(field):
    contents = []
    for seed, threads in ((1, 1), (1, 2), (2, 2)):
        model = small(seed=seed)
        model.train(field.image, field.annotation, steps=2, threads=threads, **QUICK)
        contents.append(pickle.dumps(model)[:-40])
    assert contents[0] == contents[1] != contents[2]


def test_resume(field):
    model = small()
    model.train(field.image, field.annotation, steps=2, **QUICK)
    history = model.train(field.image, field.annotation, steps=4, resume=True, **QUICK)
    assert history.steps[0] == 3
    with pytest.raises(cs.ConfigError, match="resume"):
        small().train(field.image, field.annotation, steps=1, resume=True, **QUICK)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_saved_copied_and_pickled_models_are_equal(algorithm, field, tmp_path):
    model = small(algorithm)
    model.train(field.image, field.annotation, steps=3, **QUICK)
    expected = model.predict(field.image)
    model.save(tmp_path / "model.safetensors")
    loaded = cs.load(tmp_path / "model.safetensors")
    for other in (loaded, copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other) is type(model)
        assert same(other.predict(field.image), expected)
        assert other.info() == model.info() and other.config == model.config
        assert np.array_equal(other.history.loss, model.history.loss)
    copied = copy.copy(model)
    copied.reset(seed=5)
    assert copied.steps == 0 and model.steps == 3
    assert same(model.predict(field.image), expected)


def test_a_history_of_different_parts_begins_where_the_training_did():
    values = {
        "steps": [1, 2, 3],
        "loss": [3, 2, 1],
        "learning_rate": [1, 1, 1],
        "losses": {"prob": [6, 4, 2], "kld": [5]},
        "validation_steps": [2],
        "validation_loss": [2],
    }
    for after, prob, kld in ((0, [6, 4, 2], [5]), (2, [2], [5]), (3, [], [])):
        history = History(values, after=after)
        assert history.losses["prob"].tolist() == prob and history.losses["kld"].tolist() == kld
        assert len(history) == 3 - after and len(history.validation_loss) == (after < 2)


def test_reset(field, model):
    fresh = pickle.dumps(model)
    model.train(field.image, field.annotation, steps=2, **QUICK)
    model.reset(seed=0)
    assert pickle.dumps(model) == fresh


def predict_in_worker(model, image):
    result = model.predict(image)
    return result, int(cs.watershed(image, result.labels).max()), model.history


@pytest.mark.parametrize("method", [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_models_go_to_worker_processes(method, trained, field):
    expected = trained.predict(field.image)
    # The pool of this process has been used, which a forked child must not rely on.
    highest = int(cs.watershed(field.image, expected.labels).max())
    with multiprocessing.get_context(method).Pool(1) as pool:
        found, level, history = pool.apply_async(predict_in_worker, (trained, field.image)).get(timeout=60)
    assert same(found, expected) and level == highest
    assert repr(found) == repr(expected) and repr(found.objects) == repr(expected.objects)
    assert repr(history) == repr(trained.history) and np.array_equal(history.loss, trained.history.loss)


def learn_in_worker(image, annotation):
    images, sizes = [image, image], [0.5, 0.25]
    dense = np.maximum(annotation, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.AnnotationWarning)
        warnings.simplefilter("ignore", cs.ResultWarning)
        history = small().train(images, [dense] * 2, label_encoding="dense", pixel_size=sizes, steps=2, **QUICK)
        choice = cs.choose_algorithm(images, [annotation] * 2, pixel_size=sizes, time_budget=0.1)
    return len(history), sorted(choice.scores)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_learns_as_its_parent_did(field):
    expected = learn_in_worker(field.image, field.annotation)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(learn_in_worker, (field.image, field.annotation)).get(timeout=120) == expected


def test_eight_threads_predict_with_one_model(trained, field):
    expected = trained.predict(field.image)
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: trained.predict(field.image), range(24)):
            assert same(result, expected)


def test_other_threads_run_during_training(field, model):
    ticks = 0
    done = threading.Event()

    def count():
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        model.train(field.image, field.annotation, time_budget=0.5, **QUICK)
    finally:
        done.set()
        thread.join()
    assert ticks > 30


MEMORY = """
import resource
import numpy as np
import cellsparse as cs
model = cs.StarDist(n_rays=8, n_filter_base=4, n_depth=1, net_conv_after_unet=8)
image = np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8)
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
sizes = []
for k in range(1300):
    model.predict(image, prob_thresh=0.4)
    if k >= 300 and k % 250 == 49:
        sizes.append(resident())
print(max(sizes) - sizes[0])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_over_a_thousand_predictions():
    grown = int(subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, check=True, text=True).stdout)
    assert grown < 4 << 20, f"{grown} bytes"


def test_predict_options(trained, field):
    few, objects = trained.predict(field.image, prob_thresh=0.9, nms_thresh=0.3, threads=1)
    many, more = trained.predict(field.image, prob_thresh=0.1)
    assert len(objects) < len(more)
    biggest = trained.predict(field.image, min_area=10**6)
    assert len(biggest.objects) == 0 and not biggest.labels.any()
    tiled = trained.predict(field.image, tile=64)
    assert len(tiled.objects) == len(trained.predict(field.image).objects)
    small("cellpose").predict(field.image, flow_threshold=0, cellprob_threshold=1.0, diameter=20, augment=True)
    small("elephant").predict(field.image, prob_thresh=0.3, postprocess="ellipse")
    with pytest.raises(cs.ConfigError, match="not an option of stardist"):
        trained.predict(field.image, diameter=20)
    with pytest.raises(TypeError, match="no option 'prob_threshold'.*prob_thresh"):
        trained.predict(field.image, prob_threshold=0.5)


def test_objects_describe_the_labels(trained, field):
    labels, objects = trained.predict(field.image)
    for found in objects:
        assert found.polygon.shape == (trained.n_rays, 2) and found.polygon.dtype == np.float32
        assert 0 < found.probability <= 1 and found.class_id is None
        y, x = np.argwhere(labels == found.id).mean(axis=0)
        assert np.abs(found.polygon.mean(axis=0) - (y, x)).max() < 5
    features = cs.to_geojson(labels, objects=objects)
    assert features[0]["properties"]["measurements"]["probability"] == pytest.approx(objects[0].probability, abs=1e-6)


def test_settings(model, field):
    model.thresholds = {"prob_thresh": 0.3}
    assert model.thresholds == pytest.approx({"prob_thresh": 0.3, "nms_thresh": 0.4, "smallest_object": 0})
    model.normalization = (0, 100)
    assert model.normalization == (0, 100)
    for thresholds in ({"prob_thresh": 2}, {"diameter": 3}, {"nms_thresh": float("nan")}):
        with pytest.raises(cs.ConfigError):
            model.thresholds = thresholds
    with pytest.raises(cs.ConfigError):
        model.normalization = (50, 10)
    assert model.grid == (2, 2) and model.n_rays == 8 and small("cellpose").diameter == 30
    assert small("elephant").widths == [4, 8] and model.n_parameters > 100
    with pytest.raises(TypeError):
        cs.Model()


def test_classes(field):
    model = small(n_classes=2)
    ids = sorted(set(field.annotation[field.annotation > 0].tolist()))
    classes = {id: 1 + k % 2 for k, id in enumerate(ids)}
    model.train(field.image, field.annotation, steps=2, classes=[classes], **QUICK)
    _, objects = model.predict(field.image, prob_thresh=0.05)
    assert objects and all(found.class_id in (0, 1, 2) for found in objects)
    with pytest.raises(cs.LabelsError, match="class"):
        model.train(field.image, field.annotation, steps=1, classes=[{9999: 1}], **QUICK)


def test_what_is_shown(field, trained, model):
    history = trained.history
    result = trained.predict(field.image)
    assert "StarDist(" in repr(trained) and f"n_rays={trained.n_rays}" in repr(trained) and "steps=10" in repr(trained)
    assert repr(result) == f"Segmentation(labels 128 x 128 int32, {len(result.objects)} objects)"
    assert repr(result.objects).count("Object(") == min(len(result.objects), 3 if len(result.objects) > 6 else 9)
    assert "steps 10" in repr(history)
    for shown in (trained, history, result, result.objects, model, model.history):
        html = shown._repr_html_()
        assert html.count("<table") == html.count("</table>") and "<" in html
    assert "polyline" in trained._repr_html_() and "data:image/png" in result._repr_html_()


def test_progress(field, model, capsys, monkeypatch):
    model.train(field.image, field.annotation, steps=2, batch_size=2, patch_size=32)
    assert "2/2" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    model.train(field.image, field.annotation, steps=2, batch_size=2, patch_size=32)
    shown = capsys.readouterr()
    assert "step 2/2" in shown.err and not shown.out
    model.train(field.image, field.annotation, steps=2, **QUICK)
    assert capsys.readouterr() == ("", "")


def test_pictures(field, trained):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    pyplot.close("all")
    figure, axes = pyplot.subplots(1, 4)
    cs.plot.overlay(field.image, field.truth, ax=axes[0])
    cs.plot.overlay(np.stack([field.image] * 3, axis=-1), field.truth, field.annotation, ax=axes[1])
    cs.plot.labels(field.annotation, ax=axes[2])
    trained.history.plot(axes[3])
    figure.canvas.draw()
    assert axes[3].get_ylabel() == "loss"
    with pytest.raises(cs.LabelsError):
        cs.plot.overlay(field.image, field.truth[:5])


def twice(array):
    return np.kron(array, np.ones((2, 2), array.dtype))


def test_images_of_another_pixel_size_are_seen_scaled(field, tmp_path):
    model = cs.Elephant()
    options = {"batch_size": 2, "patch_size": 64, "progress": False}
    model.train(field.image, field.annotation, steps=12, pixel_size=0.5, **options)
    assert model.pixel_size == (0.5, 0.5)
    info = model.info()
    assert info["cell_diameter_um"] == pytest.approx(0.5 * info["cell_diameter"])
    model.save(tmp_path / "a.safetensors")
    model = cs.load(tmp_path / "a.safetensors")
    assert model.pixel_size == (0.5, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.predict(field.image, pixel_size=0.5).notes == []
    large = twice(field.image)
    with pytest.warns(cs.ResultWarning, match="0.25 micrometres, one of the training 0.5: the image is seen at 0.5 times"):
        found = model.predict(large, pixel_size=0.25)
    assert found.labels.shape == large.shape and len(found.notes) == 1
    score = cs.metrics.matching(twice(field.truth), found.labels).accuracy
    assert score > 0.6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unscaled = model.predict(large, pixel_size=0.25, rescale=False)
    assert not np.array_equal(unscaled.labels, found.labels)
    model.pixel_size = None
    assert model.pixel_size is None and model.predict(field.image, pixel_size=0.1).notes == []
    for wrong in (0, -1, float("nan"), (1, 2, 3)):
        with pytest.raises(cs.ConfigError, match="pixel_size"):
            model.predict(field.image, pixel_size=wrong)


def test_images_of_different_pixel_sizes_are_trained_on_at_one(field):
    images, labels = [field.image, field.image, twice(field.image)], [field.annotation] * 2 + [twice(field.annotation)]
    model = small()
    with pytest.warns(cs.ResultWarning, match="1 of 3 images is scaled to the pixel size of the others, 0.5 micro"):
        history = model.train(images, labels, steps=1, pixel_size=[0.5, (0.5, 0.5), 0.25], **QUICK)
    assert model.pixel_size == (0.5, 0.5) and history.notes[0].startswith("1 of 3 images")
    with pytest.raises(cs.CellsparseError, match="2 pixel sizes and 3 images"):
        small().train(images, labels, steps=1, pixel_size=[0.5, None], **QUICK)
    model = small()
    with pytest.warns(cs.ResultWarning, match="keeps no pixel size"):
        model.train(images, labels, steps=1, pixel_size=[0.5, 0.5, 0.25], rescale=False, **QUICK)
    assert model.pixel_size is None


def test_what_is_to_be_known_of_a_result_is_said(field, model):
    with pytest.warns(cs.ResultWarning, match="began with random weights"):
        history = model.train(field.image, field.annotation, steps=1, **QUICK)
    assert history.begun == "random" and history.kept in ("trained", "start") and history.notes
    with pytest.warns(cs.ResultWarning, match="nothing found: the image is the same everywhere"):
        found = model.predict(np.zeros((64, 64)))
    assert found.notes[0].startswith("nothing found") and not found.objects
    labels, objects = found
    copied = pickle.loads(pickle.dumps(found))
    assert copied.notes == found.notes and np.array_equal(copied.labels, labels)


def test_the_algorithm_can_be_chosen(field):
    choice = cs.choose_algorithm(field.image, field.annotation, time_budget=0.2)
    assert sorted(choice.scores) == sorted(ALGORITHMS) and choice.algorithm == next(iter(choice.scores))
    assert choice.algorithm in choice.reason
    model = choice.model(seed=4)
    assert model.algorithm == choice.algorithm and model.n_channels == 1 and model.get_params()["seed"] == 4
    with pytest.raises(cs.LabelsError):
        cs.choose_algorithm(field.image, np.zeros_like(field.annotation))
