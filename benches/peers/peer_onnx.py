"""The networks that `cellsparse convert` wrote as ONNX, on onnxruntime and OpenVINO. See README.md; normally started by run.py.

Shapes are fixed before the network is prepared, which is no slower in either. `--bf16` is OpenVINO's inference precision.
"""

import collections
import contextlib
import os
import sys

from peer_common import arguments, peak_mb, read_scaled, report, timed

# How often each kernel computes a layer, as OpenVINO tells.
KERNELS = collections.Counter()


def on_onnxruntime(chosen, path, shape):
    """A function from an array [B, C, H, W] to the outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = chosen.threads
    options.inter_op_num_threads = 1
    for name, size in zip(("batch", "height", "width"), (shape[0], *shape[2:])):
        options.add_free_dimension_override_by_name(name, size)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda array: session.run(None, {"input": array})


def on_openvino(chosen, path, shape):
    """A function from an array [B, C, H, W] to the outputs."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape(list(shape))
    settings = {
        "INFERENCE_NUM_THREADS": chosen.threads, "PERFORMANCE_HINT": "LATENCY",
        # Said for 32 bits too: it takes 16 by itself where they are faster.
        "INFERENCE_PRECISION_HINT": "bf16" if chosen.bf16 else "f32",
    }
    network = core.compile_model(model, "CPU", settings)
    for node in network.get_runtime_model().get_ordered_ops():
        about = node.get_rt_info()
        KERNELS[" ".join(about[name].astype(str) for name in ("layerType", "primitiveType", "runtimePrecision"))] += 1
    request = network.create_infer_request()

    def run(array):
        answers = request.infer([array], share_inputs=True, share_outputs=True)
        return [answers[index] for index in range(len(answers))]

    return run


def prepared(chosen, path, shape):
    make = on_onnxruntime if chosen.runtime == "onnxruntime" else on_openvino
    return make(chosen, os.path.join(chosen.folder, path), shape)


def predict(chosen):
    import numpy as np

    image = read_scaled(os.path.join(chosen.folder, "field.png"))[None, None]
    base = peak_mb()
    network = prepared(chosen, "model.onnx", image.shape)
    rays = []

    def one():
        rays[:] = network(image)[1:]

    times = timed(chosen.steps or 5, one)
    return {"ms": {"network": times}, "mean": float(np.abs(rays[0]).mean()), "before_mb": base}


def predict_cellpose(chosen):
    """The package's tiling and blending around the network: its tiles come in batches of 8, the last one smaller."""
    import numpy as np
    from cellpose import core
    from peer_cellpose import over_tiles, read_field

    image = read_field(chosen)
    base = peak_mb()
    networks = {}

    def forward(_, tiles):
        if tiles.shape not in networks:
            networks[tiles.shape] = prepared(chosen, "cellpose.onnx", tiles.shape)
        flows, style = networks[tiles.shape](tiles)
        return np.array(flows), np.array(style).reshape(len(tiles), -1)

    core._forward = forward
    return over_tiles(chosen, Outputs(), image, base)


class Outputs:
    """What the tiling of the package asks of a network."""

    nout = 3


def main():
    tasks = {"predict": predict, "cellpose-predict": predict_cellpose}
    chosen = arguments(__doc__, list(tasks), flags=("bf16",), runtimes=("onnxruntime", "openvino"))
    # The packages print progress; standard output belongs to the result.
    with contextlib.redirect_stdout(sys.stderr):
        result = tasks[chosen.task](chosen)
    from importlib.metadata import version

    report(chosen.runtime, chosen, {chosen.runtime: version(chosen.runtime)}, {**result, "kernels": KERNELS})


if __name__ == "__main__":
    main()
