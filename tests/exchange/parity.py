#!/usr/bin/env python3
"""Models go to the real StarDist, TensorFlow, OpenCV and Cellpose and come from them, and compute the same.

    tests/exchange/parity.py PROGRAM [stardist] [tensorflow] [cellpose] [--record FOLDER]

PROGRAM is the command `cellsparse`; the environment is that of `benches/peers/setup.sh tensorflow cellpose` (stardist 0.9.2 with
TensorFlow 2.15.1, cellpose 3.1.1.3 with its OpenCV). Networks have seeded random weights. Default: all groups, about two minutes.

--record writes the models of TensorFlow that tests/fixtures/stardist/tensorflow holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
warnings.filterwarnings("ignore")

import numpy as np

PROGRAM = ""
# How far maps of one network may lie apart, relative to the largest value.
TOLERANCE = 1e-4


def say(text: str) -> None:
    print(text, flush=True)


def check(condition: bool, text: str) -> None:
    if not condition:
        raise SystemExit(f"parity: wrong: {text}")


def run(*arguments: object) -> str:
    """Runs the command and gives what it says to people."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    check(done.returncode == 0, f"{arguments}: {done.stderr}")
    return done.stderr


def convert(source: object, target: object) -> str:
    return run("convert", "--from", source, "--to", f"{target}/" if isinstance(target, pathlib.Path) and not target.suffix else target)


def tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        arrays[name] = np.frombuffer(data[8 + length + begin : 8 + length + end], "<f4").reshape(entry["shape"])
    return arrays


def equal(a: pathlib.Path, b: pathlib.Path, what: str) -> None:
    """Two models of cellsparse have the same arrays, to the bit."""
    first, second = tensors(a), tensors(b)
    check(first.keys() == second.keys(), f"{what}: {sorted(first)} and {sorted(second)}")
    for name, values in first.items():
        check(np.array_equal(values.view("<u4"), second[name].view("<u4")), f"{what}: {name}")


def near(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    check(found.shape == expected.shape, f"{what}: {found.shape} for {expected.shape}")
    apart = float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))
    say(f"  {what}: {apart:.1e} apart")
    check(apart <= TOLERANCE, what)


def renumbered(labels: np.ndarray, expected: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The label image with the numbers of objects exchanged whose probabilities differ by rounding alone: those are counted in their order."""
    exchanged = labels.copy()
    for number in np.unique(labels[labels != expected]):
        others = np.unique(expected[labels == number])
        if number and len(others) == 1 and others[0] and abs(probabilities[number - 1] - probabilities[others[0] - 1]) < 2e-6:
            exchanged[labels == number] = others[0]
    return exchanged


def field(seed: int, shape: tuple[int, int], channels: int) -> np.ndarray:
    """Round spots of varied size and brightness with noise, [H, W] or [H, W, C], 8 bits."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = np.full(shape, 20.0)
    for _ in range(40):
        y, x, radius, light = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(4, 9), rng.uniform(60, 200)
        image = np.maximum(image, light / (1 + np.exp((np.hypot(rows - y, columns - x) - radius) / 1.5)))
    several = [image / (1 + 0.3 * channel) + rng.normal(0, 4, shape) for channel in range(channels)]
    several = np.clip(np.stack(several, -1), 0, 255).round().astype(np.uint8)
    return several[..., 0] if channels == 1 else several


def stardist(folder: pathlib.Path, name: str, seed: int = 0, **settings: object):
    """A model folder that the package wrote, whose random network finds objects, and the package's model."""
    from csbdeep.utils import normalize, save_json
    from stardist.models import Config2D, StarDist2D
    import tensorflow as tf

    model = StarDist2D(Config2D(**settings), name=name, basedir=str(folder))
    network = model.keras_model
    rng = np.random.default_rng(seed)
    for layer in network.layers:
        weights = layer.get_weights()
        if len(weights) == 4:
            gamma, beta, mean, variance = weights
            weights = [rng.uniform(0.7, 1.3, gamma.shape), rng.normal(0, 0.1, beta.shape), rng.normal(0, 0.2, mean.shape), rng.uniform(0.5, 1.5, variance.shape)]
        elif weights:
            kernel, bias = weights
            weights = [rng.normal(0, np.sqrt(2 / np.prod(kernel.shape[:3])), kernel.shape), rng.normal(0, 0.05, bias.shape)]
        layer.set_weights(weights)
    # Heads whose probabilities and distances are spread as those of a trained network are.
    channels = settings.get("n_channel_in", 1)
    sample = normalize(field(99, (256, 256), channels).reshape(256, 256, channels), 1, 99.8, axis=(0, 1))[None]
    for head, mean, deviation in [("prob", -2.0, 2.0), ("dist", 6.0, 1.0), ("prob_class", 0.0, 1.0)]:
        if head not in [layer.name for layer in network.layers]:
            continue
        layer = network.get_layer(head)
        features = tf.keras.Model(network.inputs, layer.input).predict(sample, verbose=0)
        kernel, bias = layer.get_weights()
        values = features @ kernel[0, 0]
        kernel = kernel * (deviation / values.std())
        layer.set_weights([kernel, mean - (features @ kernel[0, 0]).mean((0, 1, 2))])
    network.save_weights(str(model.logdir / "weights_best.h5"))
    model.thresholds = {"prob": 0.55, "nms": 0.35}
    save_json({"prob": 0.55, "nms": 0.35}, str(model.logdir / "thresholds.json"))
    return model


# The sizes of 2D_versatile_fluo and 2D_versatile_he, grids of 1, 2 and 4, several channels, classes, batch normalisation.
KINDS = {
    "fluo": dict(n_rays=32, grid=(2, 2), n_channel_in=1),
    "he": dict(n_rays=32, grid=(2, 2), n_channel_in=3),
    "classes": dict(n_rays=16, grid=(1, 2), n_channel_in=2, n_classes=2, unet_n_filter_base=8, unet_batch_norm=True),
    "plain": dict(n_rays=8, grid=(1, 1), n_channel_in=1, unet_n_filter_base=4, unet_n_depth=2, net_conv_after_unet=0),
    "coarse": dict(n_rays=24, grid=(4, 4), n_channel_in=1, unet_n_filter_base=8, unet_n_conv_per_depth=3),
    "norm": dict(n_rays=32, grid=(2, 2), n_channel_in=1, unet_n_filter_base=16, unet_batch_norm=True),
    "all": dict(n_rays=16, grid=(4, 4), n_channel_in=3, n_classes=3, unet_n_filter_base=8, unet_batch_norm=True),
}


def images(folder: pathlib.Path, channels: int, count: int) -> dict[str, np.ndarray]:
    """Images of several sizes in a folder."""
    import cv2
    import tifffile

    folder.mkdir()
    shapes = [(160, 208), (161, 190), (192, 131), (256, 256), (145, 300)]
    found = {f"image_{seed}": field(seed, shapes[seed], channels) for seed in range(count)}
    for name, image in found.items():
        if image.ndim == 3 and image.shape[2] != 3:
            tifffile.imwrite(folder / f"{name}.tif", image, photometric="minisblack", planarconfig="contig")
        else:
            cv2.imwrite(str(folder / f"{name}.png"), image[..., ::-1] if image.ndim == 3 else image)
    return found


def normalized(image: np.ndarray, pmin: float = 1, pmax: float = 99.8) -> np.ndarray:
    from csbdeep.utils import normalize

    return normalize(image, pmin, pmax, axis=(0, 1))


def check_stardist(folder: pathlib.Path) -> None:
    """Folders come in and go out; the package loads what was written, and predicts the same labels as it did, as this library does."""
    import cv2
    import h5py
    from stardist.models import StarDist2D

    for kind, settings in KINDS.items():
        original = stardist(folder, kind, **settings)
        ours, back = folder / f"{kind}.safetensors", folder / f"{kind}_back"
        convert(folder / kind, ours)
        said = convert(ours, back)
        check("percentiles 1 and 99.8" in said, said)
        again = StarDist2D(None, name=back.name, basedir=str(folder))
        check(again.thresholds == original.thresholds, f"{kind}: {again.thresholds}")
        settings_of = lambda folder: json.loads((folder / "config.json").read_text())
        # Versions before 0.9 refuse a configuration with this one, which is 2 where it is absent.
        expected = {**settings_of(again.logdir), "unet_expansion": 2}
        check(expected == settings_of(original.logdir), f"{kind}: {again.config}")
        for a, b in zip(original.keras_model.get_weights(), again.keras_model.get_weights()):
            check(np.array_equal(a, b), f"{kind}: the weights that the package loads")
        with h5py.File(back / "weights_best.h5", "r") as file:
            # Keras counts on within a process.
            plain = lambda name: re.sub(r"^(conv2d|batch_normalization)_\d+$", r"\1", name)
            names = [plain(layer.name) for layer in original.keras_model.layers if layer.weights]
            check([plain(name) for name in file.attrs["layer_names"].astype(str)] == names, f"{kind}: {list(file.attrs['layer_names'])}")
        found = images(folder / f"{kind}_images", settings["n_channel_in"], 5 if kind in ("fluo", "he") else 3)
        run("predict", "--model", ours, "--images", folder / f"{kind}_images", "--out", folder / f"{kind}_out")
        counts = []
        for name, image in found.items():
            expected, _ = original.predict_instances(normalized(image), show_tile_progress=False, verbose=False)
            labels, _ = again.predict_instances(normalized(image), show_tile_progress=False, verbose=False)
            check(np.array_equal(expected, labels), f"{kind}: labels of {name} by the package")
            own = cv2.imread(str(folder / f"{kind}_out" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            check(np.array_equal(expected, own), f"{kind}: labels of {name} by this library, {(expected != own).sum()} pixels")
            counts.append(int(expected.max()))
        check(min(counts) > 0, f"{kind}: {counts} objects")
        say(f"stardist, {kind}: {counts} objects in {len(counts)} images, the same by both and by what was written")
        if kind == "fluo":
            check_pretrained(folder, back, found, original)


def check_pretrained(folder: pathlib.Path, written: pathlib.Path, found: dict[str, np.ndarray], original) -> None:
    """A folder that was written, packed and registered, is a pretrained model of the package, and exports itself for Fiji."""
    from csbdeep.models import register_model
    from stardist.models import StarDist2D

    packed = folder / "pretrained.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in written.iterdir():
            archive.write(part, part.name)
    register_model(StarDist2D, "of_cellsparse", packed.as_uri(), hashlib.md5(packed.read_bytes()).hexdigest())
    home = os.environ.get("HOME")
    # Keras keeps what it fetches in the home folder.
    os.environ["HOME"] = str(folder)
    try:
        fetched = StarDist2D.from_pretrained("of_cellsparse")
    finally:
        os.environ["HOME"] = home or ""
    for name, image in found.items():
        expected, _ = original.predict_instances(normalized(image), show_tile_progress=False, verbose=False)
        labels, _ = fetched.predict_instances(normalized(image), show_tile_progress=False, verbose=False)
        check(np.array_equal(expected, labels), f"pretrained: labels of {name}")
    fetched.export_TF(str(folder / "fetched_SavedModel.zip"))
    for source in (packed, folder / "fetched_SavedModel.zip"):
        target = folder / f"from_{source.stem}.safetensors"
        convert(source, target)
        equal(folder / f"{original.name}.safetensors", target, source.name)
    say("stardist, from_pretrained: takes the folder as a .zip, predicts the same labels, and exports it for Fiji")


# How programs of TensorFlow 1 hold a batch normalisation: one operation, those that it consists of, or what is left of it
# when constants were multiplied out, by themselves or into the convolution.
NORMS = ("fused", "plain", "folded", "merged")


def version_1(model, folder: pathlib.Path, norm: str) -> list[pathlib.Path]:
    """The network as old programs have it, with its probabilities and distances: variables of TensorFlow 1 and their graph, saved and
    frozen."""
    import tensorflow as tf

    v1 = tf.compat.v1
    number = lambda name: int(name.rsplit("_", 1)[1]) if name[-1].isdigit() else 0
    layers = {layer.name: layer.get_weights() for layer in model.keras_model.layers if layer.get_weights()}
    # Keras counts on within a process.
    for kind in ("conv2d", "batch_normalization"):
        own = sorted((name for name in layers if re.fullmatch(kind + r"(_\d+)?", name)), key=number)
        layers |= {f"{kind} {index}": layers.pop(name) for index, name in enumerate(own)}
    config = model.config
    counts = {"conv2d": 0, "batch_normalization": 0}

    def following(kind: str) -> str:
        counts[kind] += 1
        return f"{kind} {counts[kind] - 1}"

    with tf.Graph().as_default(), v1.Session() as session:
        def variable(name: str, value: np.ndarray):
            return v1.get_variable(name, initializer=value)

        def normalised(x, weights: list[np.ndarray]):
            gamma, beta, mean, variance = weights
            if norm == "folded":
                scale = gamma / np.sqrt(variance + 1e-3)
                return x * tf.constant(scale) + tf.constant(beta - mean * scale)
            names = zip(("gamma", "beta", "moving_mean", "moving_variance"), weights)
            gamma, beta, mean, variance = (variable(name, value) for name, value in names)
            if norm == "plain":
                return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)
            return v1.nn.fused_batch_norm(x, gamma, beta, mean, variance, epsilon=1e-3, is_training=False)[0]

        def conv(name: str, x, relu: bool = True, block: bool = False):
            kernel, bias = layers[name]
            weights = layers[following("batch_normalization")] if block and config.unet_batch_norm else None
            if weights is not None and norm == "merged":
                gamma, beta, mean, variance = weights
                scale = gamma / np.sqrt(variance + 1e-3)
                kernel, bias, weights = kernel * scale, (bias - mean) * scale + beta, None
            with v1.variable_scope(name.replace(" ", "_"), use_resource=False):
                x = tf.nn.bias_add(tf.nn.conv2d(x, variable("kernel", kernel), 1, "SAME"), variable("bias", bias))
                x = x if weights is None else normalised(x, weights)
            return tf.nn.relu(x) if relu else x

        def up(x, by):
            return v1.image.resize_nearest_neighbor(x, tf.shape(x)[1:3] * tf.constant(by, tf.int32))

        x = image = v1.placeholder(tf.float32, (None, None, None, config.n_channel_in), name="input")
        pooled = [1, 1]
        while tuple(pooled) != tuple(config.grid):
            by = [2 if g > p else 1 for g, p in zip(config.grid, pooled)]
            for _ in range(config.unet_n_conv_per_depth):
                x = conv(following("conv2d"), x)
            x = tf.nn.max_pool2d(x, by, by, "VALID")
            pooled = [p * b for p, b in zip(pooled, by)]
        skips = []
        for n in range(config.unet_n_depth):
            for i in range(config.unet_n_conv_per_depth):
                x = conv(f"down_level_{n}_no_{i}", x, block=True)
            skips.append(x)
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        last = config.unet_n_conv_per_depth
        for i in [*range(last - 1), last]:
            x = conv(f"middle_{i}", x, block=True)
        for n in reversed(range(config.unet_n_depth)):
            x = tf.concat([up(x, [2, 2]), skips[n]], -1)
            for i in [*range(last - 1), last]:
                x = conv(f"up_level_{n}_no_{i}", x, block=True)
        if config.net_conv_after_unet:
            x = conv("features", x)
        output = tf.concat([tf.sigmoid(conv("prob", x, False)), conv("dist", x, False)], -1, name="output")
        session.run(v1.global_variables_initializer())
        name = f"version_1_{norm}" if config.unet_batch_norm else "version_1"
        builder = v1.saved_model.Builder(str(folder / name))
        signature = v1.saved_model.predict_signature_def({"input": image}, {"output": output})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
        frozen = v1.graph_util.convert_variables_to_constants(session, session.graph_def, ["output"])
        for node in frozen.node:
            # TensorFlow 1 had the first version of this operation, with the same inputs.
            if node.op == "FusedBatchNormV3":
                node.op = "FusedBatchNorm"
                del node.attr["U"]
        (folder / f"{name}.pb").write_bytes(frozen.SerializeToString())
    return [folder / name, folder / f"{name}.pb"]


def exports(model, folder: pathlib.Path) -> list[pathlib.Path]:
    """The model in every form of TensorFlow, each in a folder of its own beside `thresholds.json`."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    folder.mkdir()
    shutil.copy(model.logdir / "thresholds.json", folder)
    model.keras_model.save(str(folder / "keras"), save_format="tf")
    network = tf.function(lambda x: model.keras_model(x, training=False))
    network = network.get_concrete_function(tf.TensorSpec((None, None, None, model.config.n_channel_in), tf.float32, name="input"))
    frozen = convert_variables_to_constants_v2(network).graph.as_graph_def()
    (folder / "frozen.pb").write_bytes(frozen.SerializeToString())
    # Last, as Keras 2.15 refuses further use of a network that was copied into a graph of version 1.
    model.export_TF(str(folder / "TF_SavedModel.zip"))
    found = [folder / name for name in ("TF_SavedModel.zip", "keras", "frozen.pb")]
    for norm in NORMS if model.config.unet_batch_norm else NORMS[:1]:
        found += version_1(model, folder, norm)
    return found


def frozen_graph(path: pathlib.Path, image: np.ndarray) -> np.ndarray:
    """What a frozen graph answers, by the names that this library gives."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        graph = v1.GraphDef()
        graph.ParseFromString(path.read_bytes())
        tf.import_graph_def(graph, name="")
        return session.run("output:0", {"input:0": image})


def saved_model(path: pathlib.Path, image: np.ndarray) -> np.ndarray:
    """What a saved model in an archive answers, by the names of its signature."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default(), v1.Session() as session:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        loaded = v1.saved_model.load(session, ["serve"], folder)
        signature = loaded.signature_def["serving_default"]
        check(list(signature.inputs) == ["input"] and list(signature.outputs) == ["output"], str(signature))
        check([side.size for side in signature.outputs["output"].tensor_shape.dim][:3] == [-1] * 3, str(signature))
        return session.run(signature.outputs["output"].name, {signature.inputs["input"].name: image})


def check_tensorflow(folder: pathlib.Path) -> None:
    """Programs of TensorFlow come in with all weights; those that are written answer as the package's do, in OpenCV too."""
    import cv2
    import tensorflow as tf
    from stardist.models import StarDist2D

    for kind, settings in KINDS.items():
        original = stardist(folder, f"tf_{kind}", **settings)
        ours = folder / f"tf_{kind}.safetensors"
        convert(original.logdir, ours)
        sources = exports(original, folder / f"exports_{kind}")
        original = StarDist2D(None, name=original.name, basedir=str(folder))
        image = field(7, (128, 192), settings["n_channel_in"]).reshape(1, 128, 192, -1) / np.float32(128)
        prob, dist = original.keras_model.predict(image, verbose=0)[:2]
        found = images(folder / f"{kind}_images", settings["n_channel_in"], 5 if kind in ("fluo", "he") else 2)
        labels, probabilities = {}, {}
        for name, pixels in found.items():
            labels[name], facts = original.predict_instances(normalized(pixels), show_tile_progress=False, verbose=False)
            probabilities[name] = facts["prob"]
        for source in sources:
            target = folder / f"{kind}_{source.name}.safetensors"
            convert(source, target)
            # Exports of the package and version 1 are without classes; constants that were multiplied out are other weights.
            is_whole = settings.get("n_classes") is None or source.name in ("keras", "frozen.pb")
            is_rounded = any(norm in source.name for norm in NORMS[1:])
            if is_whole and not is_rounded:
                equal(ours, target, f"{kind}, {source.name}")
            thresholds = json.loads(run_json("info", target))["thresholds"]["stardist"]
            check(abs(thresholds["prob"] - 0.55) < 1e-6 and abs(thresholds["nms"] - 0.35) < 1e-6, str(thresholds))
            convert(target, folder / "again.pb")
            near(frozen_graph(folder / "again.pb", image), np.concatenate([prob, dist], -1), f"maps of {source.name}")
            out = folder / f"{kind}_{source.name}_out"
            run("predict", "--model", target, "--images", folder / f"{kind}_images", "--out", out)
            for name, expected in labels.items():
                own = cv2.imread(str(out / f"{name}.png"), cv2.IMREAD_UNCHANGED)
                if is_rounded:
                    own = renumbered(own, expected, probabilities[name])
                check(np.array_equal(expected, own), f"{kind}, {source.name}: labels of {name}, {(expected != own).sum()} pixels")
        counts = [int(found.max()) for found in labels.values()]
        say(f"tensorflow, {kind}: {', '.join(source.name for source in sources)} give {counts} objects, the package's label images")

        convert(ours, folder / f"{kind}_SavedModel.zip")
        found = saved_model(folder / f"{kind}_SavedModel.zip", image)
        near(found, saved_model(folder / f"exports_{kind}" / "TF_SavedModel.zip", image), "saved model and that of the package")
        modern = folder / f"{kind}_unpacked"
        with zipfile.ZipFile(folder / f"{kind}_SavedModel.zip") as archive:
            archive.extractall(modern)
        modern = tf.saved_model.load(str(modern)).signatures["serving_default"](input=tf.constant(image))
        near(modern["output"].numpy(), found, "saved model in TensorFlow 2")

        frozen = folder / f"{kind}_frozen.pb"
        convert(ours, frozen)
        expected = np.concatenate([prob, dist], -1)
        near(frozen_graph(frozen, image), expected, "frozen graph")
        network = cv2.dnn.readNetFromTensorflow(str(frozen))
        for part in (image, image[:, 16:112, 64:128]):
            network.setInput(np.ascontiguousarray(part.transpose(0, 3, 1, 2)))
            answer = network.forward().transpose(0, 2, 3, 1)
            expected = np.concatenate(original.keras_model.predict(part, verbose=0)[:2], -1)
            near(answer, expected, f"frozen graph in OpenCV {cv2.__version__}, {part.shape[1]} x {part.shape[2]}")


def run_json(*arguments: object) -> str:
    done = subprocess.run([PROGRAM, *map(str, arguments), "--json"], capture_output=True, text=True)
    check(done.returncode == 0, done.stderr)
    return done.stdout


def check_cellpose(folder: pathlib.Path) -> None:
    """Weights of Cellpose come in and go out, and the package predicts the same masks with what was written."""
    import torch
    from cellpose import models

    for seed, channels in [(0, [0, 0]), (1, [1, 2])]:
        torch.manual_seed(seed)
        original = models.CellposeModel(gpu=False, pretrained_model=False)
        with torch.no_grad():
            for name, value in original.net.state_dict().items():
                if name.endswith("running_mean"):
                    value.normal_(0, 0.1)
                elif name.endswith("running_var"):
                    value.uniform_(0.5, 1.5)
            # A random network that finds cells: its flows point somewhere, and its logits are on both sides of 0.
            original.net.output[2].weight.mul_(6)
            original.net.diam_mean.fill_(17.0)
            original.net.diam_labels.fill_(21.0)
        source, ours, back = (folder / f"cellpose_{seed}{ending}" for ending in (".pth", ".safetensors", "_back.pth"))
        torch.save(original.net.state_dict(), source)
        convert(source, ours)
        convert(ours, back)
        weights = torch.load(source, weights_only=True)
        written = torch.load(back, weights_only=True)
        for name, value in weights.items():
            if not name.endswith("num_batches_tracked"):
                check(torch.equal(value, written[name]), f"cellpose: {name}")
        first = models.CellposeModel(gpu=False, pretrained_model=str(source))
        again = models.CellposeModel(gpu=False, pretrained_model=str(back))
        check(float(again.diam_mean) == 17.0 and float(again.diam_labels) == 21.0, f"{again.diam_mean} {again.diam_labels}")
        counts = []
        for number in range(2):
            image = field(number, (128, 160), 1 if channels == [0, 0] else 3)
            settings = dict(diameter=20.0, channels=channels, flow_threshold=0.0, cellprob_threshold=-2.0, min_size=5)
            expected, flows, _ = first.eval(image, **settings)
            labels, same, _ = again.eval(image, **settings)
            check(np.array_equal(expected, labels), f"cellpose: masks of image {number}")
            check(np.array_equal(flows[1], same[1]) and np.array_equal(flows[2], same[2]), "cellpose: flows")
            counts.append(int(expected.max()))
        check(max(counts) > 0, f"cellpose: {counts} masks")
        say(f"cellpose, channels {channels}: {counts} masks, the same by what was written")


def record(folder: pathlib.Path) -> None:
    """Writes the fixtures: two small networks as folders of the package and in every form of TensorFlow."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        small = dict(n_rays=4, n_channel_in=1, unet_n_filter_base=2, unet_n_depth=1, net_conv_after_unet=4)
        for name, more in [("plain", dict(grid=(2, 2))), ("norm", dict(grid=(1, 2), unet_batch_norm=True, n_classes=2, n_rays=5))]:
            model = stardist(scratch, name, seed=1, **{**small, **more})
            target = folder / name
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for part in ("config.json", "thresholds.json", "weights_best.h5"):
                shutil.copy(model.logdir / part, target)
            for source in exports(model, scratch / f"exports_{name}"):
                if source.is_dir() and source.name.startswith("version_1"):
                    # Of batch normalisations the frozen forms are enough.
                    if source.name == "version_1":
                        shutil.copytree(source, target / source.name)
                elif source.is_dir():
                    with zipfile.ZipFile(target / f"{source.name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                        for part in ["saved_model.pb", *(f"variables/{p.name}" for p in (source / "variables").iterdir())]:
                            archive.write(source / part, part)
                else:
                    shutil.copy(source, target)
    say(f"written: {folder}")


def main() -> None:
    global PROGRAM
    arguments = sys.argv[1:]
    if not arguments:
        raise SystemExit(__doc__)
    PROGRAM = arguments.pop(0)
    if "--record" in arguments:
        return record(pathlib.Path(arguments[arguments.index("--record") + 1]))
    groups = {"stardist": check_stardist, "tensorflow": check_tensorflow, "cellpose": check_cellpose}
    chosen = arguments or list(groups)
    for group in chosen:
        check(group in groups, f"no group '{group}'; there are {', '.join(groups)}")
    for group in chosen:
        with tempfile.TemporaryDirectory() as folder:
            groups[group](pathlib.Path(folder))
    say("parity: all agree")


if __name__ == "__main__":
    main()
