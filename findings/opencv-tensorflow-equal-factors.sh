#!/usr/bin/env bash
# OpenCV's dnn module refuses a valid frozen graph of TensorFlow 2: Keras' UpSampling2D by the same factor along both axes.
#
# TensorFlow 2.15.1 stores the factors [2, 2] as a tensor of two elements with one value: a tensor that ends with equal values may
# leave out all but the first of them (tensor.proto). OpenCV takes the values that are written for all values and finds that the
# factors are not two ("factorsMat.total()"). Unequal factors, which are stored as bytes, are read. So every U-Net that
# convert_variables_to_constants_v2 freezes is refused; the frozen graphs of TensorFlow 1 write both values.
#
# Seen with Python 3.11, OpenCV 4.11.0 and 4.14.0: "tensorflow runs both", "equal factors: 1 value for 2 elements, refused",
# "unequal factors: read".
# Exit status 0: as described. 1: something else was seen.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for name in tensorflow opencv; do "${PYTHON:-python3.11}" -m venv "$folder/$name"; done
"$folder/tensorflow/bin/pip" install --quiet --disable-pip-version-check "tensorflow-cpu==2.15.1" "numpy==1.26.4"
cat > "$folder/freeze.py" <<'PY'
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

for name, factors in [("equal", (2, 2)), ("unequal", (2, 4))]:
    model = tf.keras.Sequential(
        [tf.keras.layers.InputLayer((None, None, 1)), tf.keras.layers.Conv2D(4, 3), tf.keras.layers.UpSampling2D(factors)]
    )
    function = tf.function(model).get_concrete_function(tf.TensorSpec((1, None, None, 1), tf.float32))
    frozen = convert_variables_to_constants_v2(function)
    answer = frozen(tf.zeros((1, 16, 16, 1)))[0]
    assert answer.shape == (1, 14 * factors[0], 14 * factors[1], 4)
    graph = frozen.graph.as_graph_def()
    for node in graph.node:
        if node.op == "Const" and node.name.endswith("up_sampling2d/Const"):
            tensor = node.attr["value"].tensor
            elements = np.prod([side.size for side in tensor.tensor_shape.dim])
            print(f"{len(tensor.int_val)} value for {elements} elements")
    with open(os.path.join(sys.argv[1], name + ".pb"), "wb") as file:
        file.write(graph.SerializeToString())
print("tensorflow runs both")
PY
cat > "$folder/read.py" <<'PY'
import sys

import cv2
import numpy as np

for name in ("equal", "unequal"):
    try:
        net = cv2.dnn.readNetFromTensorflow(f"{sys.argv[1]}/{name}.pb")
        net.setInput(np.zeros((1, 1, 16, 16), np.float32))
        print(name, "read", net.forward().shape)
    except cv2.error as error:
        print(name, "refused", "factorsMat.total()" in str(error))
PY
seen=$("$folder/tensorflow/bin/python" "$folder/freeze.py" "$folder" 2> "$folder/log") || { cat "$folder/log" >&2; exit 1; }
echo "$seen"
expected=$'1 value for 2 elements\ntensorflow runs both'
[ "$seen" = "$expected" ] || { echo "not as described" >&2; exit 1; }
for version in 4.11.0.86 4.14.0.94; do
  "$folder/opencv/bin/pip" install --quiet --disable-pip-version-check "opencv-python-headless==$version" "numpy==2.2.6"
  seen=$("$folder/opencv/bin/python" "$folder/read.py" "$folder" 2> /dev/null)
  echo "OpenCV $version: $seen"
  expected=$'equal refused True\nunequal read (1, 4, 28, 56)'
  [ "$seen" = "$expected" ] || { echo "not as described" >&2; exit 1; }
done
echo "as described"
