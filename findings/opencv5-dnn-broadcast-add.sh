#!/usr/bin/env bash
# The default engine of OpenCV 5.0.0's dnn module refuses a valid ONNX network: a convolution whose result is added to one number
# for each channel, [N, C, 1, 1], which ONNX broadcasts.
#
# It fuses the sum into the convolution as a residual and then finds that "residual added after convolution must have the same
# shape". onnx.checker takes the file, onnxruntime 1.32.0 runs it, and so does OpenCV 5.0.0 itself with ENGINE_CLASSIC.
#
# Seen with Python 3.11: "checker ok", "onnxruntime ok", "classic ok", "default refused".
# Exit status 0: as described. 1: something else was seen.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  "opencv-python-headless==5.0.0.93" "onnx==1.23.2" "onnxruntime==1.32.0" "numpy==2.4.6"
cat > "$folder/check.py" <<'PY'
import sys

import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

path = sys.argv[1] + "/net.onnx"
rng = np.random.default_rng(0)
kernel = rng.random((4, 2, 3, 3), dtype=np.float32)
graph = helper.make_graph(
    [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Conv", ["mean", "project"], ["style"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["x", "kernel"], ["map"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["map", "style"], ["y"]),
    ],
    "net",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, "h", "w"])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, "h", "w"])],
    [
        numpy_helper.from_array(kernel, "kernel"),
        numpy_helper.from_array(rng.random((4, 2, 1, 1), dtype=np.float32), "project"),
    ],
)
model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
onnx.checker.check_model(model, full_check=True)
print("checker ok")
onnx.save(model, path)
x = rng.random((1, 2, 16, 16), dtype=np.float32)
expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
print("onnxruntime ok")
for name, engine in [("classic", cv2.dnn.ENGINE_CLASSIC), ("default", cv2.dnn.ENGINE_AUTO)]:
    try:
        net = cv2.dnn.readNetFromONNX(path, engine=engine)
        net.setInput(x, "x")
        print(name, "ok" if np.allclose(net.forward(), expected, atol=1e-4) else "wrong")
    except cv2.error as error:
        print(name, "refused")
        print(str(error).strip()[:300], file=sys.stderr)
PY
seen=$("$folder/venv/bin/python" "$folder/check.py" "$folder")
echo "$seen"
expected="checker ok
onnxruntime ok
classic ok
default refused"
[ "$seen" = "$expected" ] || { echo "not as described" >&2; exit 1; }
