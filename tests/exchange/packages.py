#!/usr/bin/env python3
"""Whole packages of bioimage.io that the StarDist package writes come in and predict as it does; those of other networks are refused.

    tests/exchange/packages.py PROGRAM

PROGRAM is the command `cellsparse`; the environment is that of `benches/peers/setup.sh tensorflow cellpose bioimageio` (stardist 0.9.2
with TensorFlow 2.15.1, bioimageio.core 0.5.11). Networks have the sizes of 2D_versatile_fluo and 2D_versatile_he and seeded random
weights. The exporter fetches two things from the web that stand in here, so that nothing is looked up: a cover picture and the text
of a macro for ImageJ, neither of which a conversion reads.
"""

from __future__ import annotations

import importlib
import pathlib
import subprocess
import sys
import tempfile
import types
import warnings

import numpy as np
import parity
from parity import KINDS, check, convert, equal, field, images, normalized, say

warnings.filterwarnings("ignore")


class Macro:
    """What the server of deepImageJ answers: the lines into which percentiles are written."""

    text = "min_precentile = 1;\nmax_percentile = 99;\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def without_web(folder: pathlib.Path) -> dict[str, list[str]]:
    """Puts the macro in its place, and gives the arguments that put the picture there."""
    import imageio

    building = importlib.import_module("bioimageio.core.build_spec.build_model")
    building.requests = types.SimpleNamespace(get=lambda *_, **__: Macro())
    imageio.imwrite(folder / "cover.png", np.zeros((64, 64, 3), np.uint8))
    return {"covers": [str(folder / "cover.png")]}


def check_kind(folder: pathlib.Path, kind: str) -> None:
    """A package gives the weights of the folder that it was made from, and its label images."""
    import cv2
    from stardist.bioimageio_utils import export_bioimageio
    from stardist.models import StarDist2D

    channels = KINDS[kind]["n_channel_in"]
    original = parity.stardist(folder, kind, **KINDS[kind])
    # An export turns eager execution off, on which this depends.
    original._axes_tile_overlap("YXC")
    axes = "YX" if channels == 1 else "YXC"
    for name, together in [(f"{kind}.zip", "ZYX"), (f"{kind}_together.zip", "ZYXC")]:
        export_bioimageio(
            original,
            folder / name,
            field(5, (256, 256), channels),
            test_input_axes=axes,
            test_input_norm_axes=together,
            min_percentile=2,
            max_percentile=99.5,
            overwrite_spec_kwargs=without_web(folder),
        )
    ours, of_folder = folder / f"{kind}.safetensors", folder / f"{kind}_folder.safetensors"
    said = convert(folder / f"{kind}.zip", ours)
    check(said == "", f"{kind}: {said}")
    convert(folder / kind, of_folder)
    equal(of_folder, ours, f"{kind}: package and folder")
    found = images(folder / f"{kind}_images", channels, 5)
    parity.run("predict", "--model", ours, "--images", folder / f"{kind}_images", "--out", folder / "out")
    original = StarDist2D(None, name=kind, basedir=str(folder))
    counts = []
    for name, image in found.items():
        expected, _ = original.predict_instances(normalized(image, 2, 99.5), show_tile_progress=False, verbose=False)
        own = cv2.imread(str(folder / "out" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        check(np.array_equal(expected, own), f"{kind}: labels of {name}, {(expected != own).sum()} pixels")
        counts.append(int(expected.max()))
    check(min(counts) > 0, f"{kind}: {counts} objects")
    say(f"packages, {kind}: weights of the folder, percentiles 2 and 99.5, {counts} objects, the package's label images")
    said = convert(folder / f"{kind}_together.zip", folder / "together.safetensors")
    check(("together" in said) == (channels > 1), said)


def check_others(folder: pathlib.Path) -> None:
    """The description of a network of another kind, by the program that writes them all, is refused with what it is."""
    from bioimageio.core.build_spec import build_model

    for name in ("weights.onnx", "README.md"):
        (folder / name).write_text("# not read")
    for name, channels in [("in.npy", 1), ("out.npy", 2)]:
        np.save(folder / name, np.zeros((1, channels, 64, 64), np.float32))
    build_model(
        weight_uri=str(folder / "weights.onnx"),
        weight_type="onnx",
        opset_version=13,
        test_inputs=[str(folder / "in.npy")],
        test_outputs=[str(folder / "out.npy")],
        input_axes=["bcyx"],
        output_axes=["bcyx"],
        output_path=folder / "unet.zip",
        name="UNet 2D Nuclei",
        description="foreground and boundaries",
        authors=[{"name": "A. Nobody"}],
        tags=["unet"],
        license="CC-BY-4.0",
        documentation=str(folder / "README.md"),
        cite=[{"text": "nothing", "doi": "10.1000/182"}],
        root=folder,
        **without_web(folder),
    )
    refused = subprocess.run(
        [parity.PROGRAM, "convert", "--from", folder / "unet.zip", "--to", folder / "x.safetensors"], capture_output=True, text=True
    )
    check(refused.returncode == 1, refused.stdout)
    for word in ("UNet 2D Nuclei", "onnx", "bioimage.io"):
        check(word in refused.stderr, f"'{word}' in {refused.stderr}")
    say(f"packages, others: {refused.stderr.strip()}")


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    parity.PROGRAM = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("fluo", "he"):
            check_kind(pathlib.Path(folder), kind)
            parity.shutil.rmtree(pathlib.Path(folder) / "out")
        check_others(pathlib.Path(folder))
    say("packages: all agree")


if __name__ == "__main__":
    main()
