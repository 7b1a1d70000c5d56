#!/usr/bin/env python3
"""What runtimes make of ONNX files; run by `runtimes.sh`, which makes the environment, and by `djl.sh` for DJL alone.

    tests/exchange/runtimes.py PROGRAM [RUNTIME ...]

Networks are those of `cellsparse demo` after two steps. Every answer is compared with that of onnxruntime to the file with the scaling
in the metadata, on an image scaled as the library defines it.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino

# What a runtime does not take. The older engine of OpenCV asks shapes of sides that are known beforehand only (ELEPHANT's group
# normalisation, percentiles), the newer one takes Cellpose's style for a map: findings/opencv5-dnn-broadcast-add.sh.
REFUSED = {
    ("stardist", "inside", "OpenCV, ENGINE_CLASSIC"),
    ("cellpose", "metadata", "OpenCV, ENGINE_NEW"),
    ("cellpose", "inside", "OpenCV, ENGINE_NEW"),
    ("cellpose", "inside", "OpenCV, ENGINE_CLASSIC"),
    ("elephant", "metadata", "OpenCV, ENGINE_CLASSIC"),
    ("elephant", "inside", "OpenCV, ENGINE_CLASSIC"),
}
# How far answers may lie apart, relative to the largest value.
TOLERANCE = 1e-4


def measured(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """A channel-first image of spots on an uneven ground, in 16 bits."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    image = 300.0 + columns
    for _ in range(12):
        y, x, light = rng.uniform(0, shape[1]), rng.uniform(0, shape[2]), rng.uniform(2000, 20000)
        image = np.maximum(image, light * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 60))
    several = np.stack([image / (1 + channel) + rng.normal(0, 30, image.shape) for channel in range(shape[0])])
    return several.clip(0, 65535).round().astype(np.float32)


def scaled(batch: np.ndarray, pmin: float, pmax: float) -> np.ndarray:
    low, high = (np.percentile(batch.astype(np.float64), p, axis=(2, 3), keepdims=True).astype(np.float32) for p in (pmin, pmax))
    return np.clip((batch - low) / (high - low + np.float32(1e-20)), -100, 100)


def run_onnxruntime(path: pathlib.Path, batch: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": batch})


def run_openvino(path: pathlib.Path, batch: np.ndarray) -> list[np.ndarray]:
    network = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers = network(batch)
    return [answers[output] for output in network.outputs]


def run_opencv(engine: str):
    def run(path: pathlib.Path, batch: np.ndarray) -> list[np.ndarray]:
        network = cv2.dnn.readNetFromONNX(str(path), engine=getattr(cv2.dnn, engine))
        network.setInput(batch)
        names = [output.name for output in onnx.load(str(path)).graph.output]
        return list(network.forward(names))

    return run


class Djl:
    """The Deep Java Library in a process that keeps what it loaded, so that one predictor answers to several sizes."""

    process = None

    def __call__(self, path: pathlib.Path, batch: np.ndarray) -> list[np.ndarray]:
        if self.process is None:
            # DJL reports its use to its authors unless it is told not to, and looks for engines to fetch unless it is offline.
            options = ["-Doffline=true", "-DOPT_OUT_TRACKING=true", "-cp", os.environ["CELLSPARSE_DJL"]]
            self.process = subprocess.Popen(["java", *options, "Answers"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        image = path.with_suffix(".raw")
        batch.astype("<f4").tofile(image)
        self.process.stdin.write(f"{path}\t{image}\t{','.join(map(str, batch.shape))}\n")
        self.process.stdin.flush()
        shapes = self.process.stdout.readline().split(";")
        if shapes == [""]:
            raise RuntimeError("DJL ended; its words are above")
        return [
            np.fromfile(f"{image}.{index}", "<f4").reshape([int(side) for side in shape.split(",")]) for index, shape in enumerate(shapes)
        ]


RUNTIMES = {
    "onnxruntime": run_onnxruntime,
    "OpenVINO": run_openvino,
    "OpenCV, ENGINE_CLASSIC": run_opencv("ENGINE_CLASSIC"),
    "OpenCV, ENGINE_NEW": run_opencv("ENGINE_NEW"),
}
if "CELLSPARSE_DJL" in os.environ:
    RUNTIMES["DJL"] = Djl()


def check(program: str, folder: pathlib.Path, algorithm: str, names: list[str]) -> None:
    subprocess.run([program, "demo", "--algorithm", algorithm, "--steps", "2", "--out", folder / algorithm], check=True, capture_output=True)
    model = next((folder / algorithm).rglob("*.safetensors"))
    expected = {}
    for place in ("metadata", "inside"):
        config, path = folder / "config.json", folder / f"{algorithm}_{place}.onnx"
        config.write_text(json.dumps({"onnx": {"normalization": place}}))
        subprocess.run([program, "convert", "--from", model, "--to", path, "--config", config], check=True, capture_output=True)
        onnx.checker.check_model(str(path), full_check=True)
        network = onnx.load(str(path))
        facts = json.loads(next(entry.value for entry in network.metadata_props if entry.key == "cellsparse"))
        channels = network.graph.input[0].type.tensor_type.shape.dim[1].dim_value
        percentiles = facts["normalization"]
        for name in names:
            runtime = RUNTIMES[name]
            apart = 0.0
            try:
                # Runtimes that keep a network for a shape are asked for several.
                for sides, count in [((128, 192), 1), ((64, 96), 2), ((256, 128), 1)]:
                    if count > 1 and name.startswith("OpenCV"):
                        continue
                    batch = np.stack([measured((channels, *sides), seed) * (1 + 2 * seed) for seed in range(count)])
                    ready = scaled(batch, percentiles["pmin"], percentiles["pmax"])
                    key = (sides, count)
                    if key not in expected:
                        expected[key] = run_onnxruntime(folder / f"{algorithm}_metadata.onnx", ready)
                    for found, wanted in zip(runtime(path, batch if place == "inside" else ready), expected[key], strict=True):
                        largest = max(1.0, float(np.abs(wanted).max()))
                        apart = max(apart, float(np.abs(np.reshape(found, wanted.shape) - wanted).max()) / largest)
            except (cv2.error, RuntimeError, ValueError) as error:
                said = " ".join(str(error).split())
                if (algorithm, place, name) not in REFUSED:
                    raise SystemExit(f"runtimes: {algorithm}, {place}, {name}: {said}") from error
                print(f"runtimes: {algorithm}, {place}, {name}: refused, as known: {said[:160]}", flush=True)
                continue
            print(f"runtimes: {algorithm}, {place}, {name}: {apart:.1e} apart", flush=True)
            if (algorithm, place, name) in REFUSED:
                raise SystemExit(f"runtimes: {algorithm}, {place}, {name} is taken now: say so in docs/models.md and here")
            if apart > TOLERANCE:
                raise SystemExit(f"runtimes: {algorithm}, {place}, {name}: {apart:.1e} apart")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for algorithm in ("stardist", "cellpose", "elephant"):
            check(sys.argv[1], pathlib.Path(folder), algorithm, sys.argv[2:] or list(RUNTIMES))


if __name__ == "__main__":
    main()
