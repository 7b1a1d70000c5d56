#!/usr/bin/env bash
# Gives the ONNX files of every algorithm, with the scaling of intensities in the metadata and inside, to the programs that run them:
# the checker of onnx, onnxruntime, OpenVINO and both engines of OpenCV.
#
#   tests/exchange/runtimes.sh PROGRAM [RUNTIME ...]      PROGRAM is the command `cellsparse`; without names, all
#
# The programs come from PyPI into a virtual environment under target/bioimageio.
set -euo pipefail

program=$(realpath "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=$here/../../target/bioimageio/runtimes
if [ ! -e "$home/ready" ]; then
  "${PYTHON:-python3}" -m venv --clear "$home"
  "$home/bin/python" -m pip install --quiet --disable-pip-version-check \
    onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 opencv-python-headless==5.0.0.93
  touch "$home/ready"
fi
exec "$home/bin/python" "$here/runtimes.py" "$program" "${@:2}"
