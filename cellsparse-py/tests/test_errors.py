"""What is refused, by which exception, in which words; Ctrl-C."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import small

import cellsparse as cs

BUILTINS = {
    cs.ImageError: ValueError,
    cs.LabelsError: ValueError,
    cs.ConfigError: ValueError,
    cs.NotFoundError: FileNotFoundError,
    cs.FileError: (OSError, ValueError),
    cs.IoError: OSError,
    cs.AccessError: PermissionError,
    cs.WeightsError: ValueError,
    cs.LimitError: MemoryError,
    cs.DeviceError: RuntimeError,
    cs.DivergedError: ArithmeticError,
    cs.CancelledError: RuntimeError,
    cs.BusyError: RuntimeError,
    cs.InternalError: RuntimeError,
}
QUICK = {"steps": 1, "batch_size": 2, "patch_size": 32, "progress": False}


def test_every_kind_is_also_a_builtin():
    for kind, builtin in BUILTINS.items():
        assert issubclass(kind, cs.CellsparseError)
        assert all(issubclass(kind, b) for b in (builtin if isinstance(builtin, tuple) else (builtin,)))
        again = pickle.loads(pickle.dumps(kind("what")))
        assert type(again) is kind and str(again) == "what"
    source = (Path(__file__).parents[2] / "cellsparse-core/src/error.rs").read_text()
    kinds = re.findall(r"^    (\w+)(?: \{|\(|,)", source.split("pub enum Error {")[1].split("\n}")[0], re.M)
    kinds.remove("Detailed")  # of any kind, with its reason
    assert len(kinds) >= 12
    assert {f"{kind}Error" for kind in kinds} <= {kind.__name__ for kind in BUILTINS}


def refused(kind, pattern, call, *arguments, **options):
    with pytest.raises(kind, match=pattern or None) as caught:
        call(*arguments, **options)
    assert "--" not in str(caught.value), "speaks of the command line"


def test_images(model):
    predict = model.predict
    refused(cs.ImageError, r"shape \(5,\).*\[H, W\]", predict, np.zeros(5))
    refused(cs.ImageError, "one at a time", predict, np.zeros((2, 3, 4, 1)))
    refused(cs.ImageError, "3 channels, the model takes 1", predict, np.zeros((40, 40, 3)))
    refused(cs.ImageError, "dtype complex128", predict, np.zeros((4, 4), complex))
    refused(cs.ImageError, "dtype", predict, "a path")
    refused(cs.ImageError, "dtype object", predict, None)
    refused(cs.ImageError, "different lengths", predict, [[1, 2], [3]])
    refused(cs.ImageError, "2 images; predict takes one", predict, [np.zeros((4, 4)), np.zeros((4, 4))])
    refused(cs.ImageError, "0 rows", predict, np.zeros((0, 4)))
    refused(cs.ImageError, "nan|NaN", predict, np.full((40, 40), np.nan))
    refused(cs.ImageError, "inf", predict, np.full((40, 40), 1e300))


def test_labels(field, model):
    train, image, labels = model.train, field.image, field.annotation
    refused(cs.LabelsError, "every pixel is unlabelled", train, image, np.full(image.shape, -1), **QUICK)
    refused(cs.LabelsError, "no cell is drawn", train, image, np.zeros(image.shape, int), **QUICK)
    refused(cs.LabelsError, "128 x 128.*64 x 128", train, image, labels[:64], **QUICK)
    refused(cs.LabelsError, r"\.5 at row 0.*the image instead", train, image, image / 2 + 0.5, **QUICK)
    refused(cs.LabelsError, "value nan", train, image, np.full(image.shape, np.nan), **QUICK)
    refused(cs.LabelsError, r"9000000000.*2147483647", train, image, labels.astype(np.int64) * 0 + 9 * 10**9, **QUICK)
    refused(cs.LabelsError, r"4294967296", train, image, np.full(image.shape, 2**32, np.uint64), **QUICK)
    refused(cs.LabelsError, "dtype", train, image, labels.astype(str), **QUICK)
    refused(cs.LabelsError, r"must be \[H, W\]", train, image, labels[..., np.newaxis], **QUICK)
    wrapped = labels.astype(np.uint8)
    refused(cs.LabelsError, 'looks like -1.*label_encoding="wire"', train, image, wrapped, **QUICK)
    refused(cs.LabelsError, "looks like a mask", train, image, field.truth > 0, **QUICK)
    wire = (labels + 1).astype(np.uint8)
    full = {**QUICK, "label_encoding": "dense"}
    refused(cs.LabelsError, 'label_encoding="wire"', train, image, np.where(wire == 0, 1, wire), **full)
    refused(cs.ConfigError, "unknown label encoding", train, image, labels, label_encoding="dens", **QUICK)
    refused(cs.ImageError, "1 image and 2 label images", train, image, [labels, labels], **QUICK)
    refused(cs.ImageError, "no image", train, [], [], **QUICK)
    refused(cs.LabelsError, "4294967295", cs.stardist.edt_prob, np.full((3, 3), 2**32 - 1, np.uint32))
    refused(cs.LabelsError, "sizes differ|same|size", cs.metrics.matching, labels, labels[:5])
    refused(cs.LabelsError, "1 true and 2 predicted", cs.metrics.matching_dataset, [labels], [labels, labels])
    refused(cs.LabelsError, "pair 0", cs.metrics.matching_dataset, [labels], [labels[:5]])


def test_hints_are_warnings(field, model):
    one = np.where(field.annotation == field.annotation.max(), 1, -1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.train([field.image] * 2, [one] * 2, **QUICK)
    # Two steps find nothing, which is told too.
    assert {warning.category for warning in caught} <= {cs.AnnotationWarning, cs.ResultWarning}
    assert sum("Only 1 cell" in str(warning.message) for warning in caught) == 1
    assert caught[0].filename == __file__


def test_options(field, model):
    image, labels = field.image, field.annotation
    for name, value in {
        "steps": 0,
        "batch_size": 0,
        "patch_size": -3,
        "learning_rate": -1.0,
        "time_budget": -1,
        "preset": "fast",
        "threads": 0,
        "seed": -1,
        "validation": 5,
    }.items():
        refused(cs.ConfigError, name.split("_")[-1], model.train, image, labels, **{**QUICK, name: value})
    for name, value in {"steps": 1.5, "batch_size": "8", "learning_rate": "fast", "callback": 3}.items():
        refused(TypeError, name, model.train, image, labels, **{**QUICK, name: value})
    refused(cs.ConfigError, "time_budget", model.train, image, labels, **{**QUICK, "time_budget": float("nan")})
    for options in ({"prob_thresh": 2}, {"nms_thresh": -1}, {"min_area": float("nan")}, {"tile": 3}):
        refused(cs.ConfigError, "", model.predict, image, **options)
    for options in ({"n_rays": 2}, {"n_rays": -1}, {"grid": (3, 2)}, {"grid": 7}, {"grid": (1, 2, 3)}, {"n_channels": 0}):
        refused(cs.ConfigError, next(iter(options)), cs.StarDist, **options)
    refused(TypeError, "n_rays", cs.StarDist, n_rays=32.0)
    refused(cs.ConfigError, "widths", cs.Cellpose, widths=[])
    refused(cs.ConfigError, "diam_mean", cs.Cellpose, diam_mean=float("nan"))
    refused(cs.ConfigError, "widths", cs.Elephant, widths=[3])
    refused(cs.ConfigError, "unknown device 'gpu'", small(device="gpu").predict, image)
    refused(cs.DeviceError, 'device="cpu"', small(device="cuda:3").predict, image)
    wild = {**QUICK, "batch_size": 4, "patch_size": 64, "steps": 100, "learning_rate": 1e4}
    refused(cs.DivergedError, "step", cs.StarDist(n_rays=16, n_filter_base=8).train, image, labels, **wild)


def test_functions():
    labels = np.ones((6, 6), int)
    refused(cs.ConfigError, "n_rays is 0", cs.stardist.star_dist, labels, n_rays=0)
    refused(cs.ConfigError, "grid", cs.stardist.star_dist, labels, grid=(0, 1))
    refused(cs.ImageError, "one size|5 x 6", cs.stardist.non_maximum_suppression, np.ones((5, 6, 8)), np.ones((6, 6)))
    refused(cs.ConfigError, "b is", cs.stardist.non_maximum_suppression, np.ones((5, 6, 8)), np.ones((5, 6)), b="x")
    refused(cs.ImageError, "2 centres and 1 rows", cs.stardist.dist_to_coord, np.ones((1, 8)), np.ones((2, 2)))
    refused(cs.ImageError, r"\[n, 2\]", cs.stardist.dist_to_coord, np.ones((1, 8)), np.ones((1, 3)))
    refused(cs.LimitError, "", cs.stardist.polygons_to_label, np.ones((1, 8)), np.ones((1, 2)), (10**9, 10**9))
    refused(cs.ImageError, r"\[2, H, W\]", cs.cellpose.follow_flows, np.ones((3, 4, 4)))
    refused(cs.ImageError, "shape", cs.cellpose.compute_masks, np.ones((2, 4, 4)), np.ones((5, 4)))
    refused(cs.ConfigError, "niter", cs.cellpose.follow_flows, np.ones((2, 4, 4)), niter=-1)
    refused(cs.LabelsError, "equal", cs.watershed, np.ones((3, 3)), labels)
    refused(cs.ConfigError, "connectivity", cs.watershed, labels, labels, connectivity=3)
    refused(cs.ConfigError, "pixel size", cs.distance_transform_edt, labels, sampling=0)
    refused(cs.ConfigError, "percentiles", cs.normalize, labels, 50, 20)
    refused(cs.ConfigError, "unknown outline", cs.to_geojson, labels, outline="round")
    refused(cs.ConfigError, "tolerance", cs.to_geojson, labels, simplify=-1)
    refused(cs.ConfigError, "unknown mode", cs.sparsify, labels, labels, 1, mode="some")
    refused(cs.ConfigError, "k is 0", cs.sparsify, labels, labels, 0)
    refused(cs.ConfigError, "the rules are", cs.elephant.class_labels, labels, rule="box")
    refused(cs.ConfigError, "unknown criterion", cs.metrics.matching, labels, labels, criterion="dice")
    refused(cs.ConfigError, "not a number", cs.metrics.matching, labels, labels, float("nan"))
    refused(cs.ConfigError, "height", cs.synthetic.field, shape=(3, 3))
    refused(cs.LimitError, "large", cs.synthetic.field, shape=(10**6, 10**6))
    refused(cs.ConfigError, "no kind of drawn world", cs.draw_world, kinds=["cell"])
    refused(cs.ConfigError, "32 to 8192", cs.draw_world, size=(3, 64))


def test_files(tmp_path, model):
    with pytest.raises(FileNotFoundError) as caught:
        cs.load(tmp_path / "absent.safetensors")
    assert caught.value.filename == str(tmp_path / "absent.safetensors") and caught.value.errno == 2
    damaged = tmp_path / "damaged.safetensors"
    model.save(damaged)
    content = damaged.read_bytes()
    for cut in (0, 3, 100, len(content) // 2, len(content) - 1):
        damaged.write_bytes(content[:cut])
        refused(cs.FileError, "", cs.load, damaged)
    damaged.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    refused(cs.FileError, "checksum", cs.load, damaged)
    refused(cs.NotFoundError, "", model.save, tmp_path / "no" / "model.safetensors")
    refused(cs.CellsparseError, "", model.save, tmp_path)
    refused(TypeError, "", cs.load, 3)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    refused(cs.FileError, "", cs.read_image, text)
    refused(cs.FileError, "", cs.read_labels, text)
    refused(cs.LabelsError, "unlabelled", cs.write_labels, tmp_path / "a.png", [[-1, 1]])
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        tmp_path.chmod(0o500)
        refused(cs.AccessError, "", model.save, tmp_path / "model.safetensors")
        tmp_path.chmod(0o700)


def interrupted(work, tmp_path):
    """Runs a program that is interrupted half a second after it says `ready`; what it prints then, and the wait."""
    program = tmp_path / "program.py"
    head = """
        import numpy as np, signal, time, sys
        import cellsparse as cs
        # A shell that runs something beside itself has it ignore interrupts, and children inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        image, truth, labels = cs.synthetic.field(seed=2, shape=(256, 256))
        model = cs.StarDist(n_rays=8, n_filter_base=8, n_depth=1)
        """
    program.write_text(textwrap.dedent(head) + textwrap.dedent(work))
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout.readline() == "ready\n"
            time.sleep(0.5)
            run.send_signal(signal.SIGINT)
            start = time.monotonic()
            out, err = run.communicate(timeout=30)
        finally:
            run.kill()
    assert run.returncode == 0, err
    return out, time.monotonic() - start


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_stops_a_training_and_leaves_a_model(tmp_path):
    out, waited = interrupted(
        """
        print("ready", flush=True)
        try:
            model.train(image, labels, steps=100000, batch_size=2, patch_size=64, progress=False)
        except KeyboardInterrupt:
            assert model.steps > 0
            model.predict(image)
            assert len(model.train(image, labels, steps=1, batch_size=2, patch_size=64, progress=False)) == 1
            print("stopped", model.history.stopped)
        """,
        tmp_path,
    )
    assert out.startswith("stopped") and waited < 5


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_stops_a_prediction(tmp_path):
    out, waited = interrupted(
        """
        large = np.tile(image, (24, 24))
        print("ready", flush=True)
        try:
            model.predict(large, tile=256, threads=1)
            print("too fast")
        except KeyboardInterrupt:
            model.predict(image)
            print("stopped")
        """,
        tmp_path,
    )
    assert out == "stopped\n" and waited < 8


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_in_a_callback_stops_too(tmp_path):
    out, _ = interrupted(
        """
        def callback(event):
            if event.step == 1:
                print("ready", flush=True)
            time.sleep(0.2)
        try:
            model.train(image, labels, steps=1000, batch_size=2, patch_size=64, progress=False, callback=callback)
        except KeyboardInterrupt:
            model.predict(image)
            print("stopped", model.steps)
        """,
        tmp_path,
    )
    assert out.startswith("stopped") and 1 <= int(out.split()[1]) < 10


def test_import_is_quick_and_lazy():
    program = "import cellsparse, sys; print('numpy' in sys.modules, 'matplotlib' in sys.modules, 'tqdm' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False"] * 3
    timed = "import time; s = time.perf_counter(); import cellsparse; print(time.perf_counter() - s)"
    best = min(
        float(subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )
    assert best < 0.2, best
