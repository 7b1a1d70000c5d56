#!/usr/bin/env bash
# What `pip install bioimageio.core` gives in November 2026 refuses every valid model package.
#
# bioimageio.core 0.11.0 requires bioimageio.spec 0.5.12.0, which sets no upper bound on pydantic. With pydantic 2.14.4 the same
# package, which is valid, has the status `failed` ("TypeError: 'index_key' is expected to be an integer or a string, got
# 'SerializationInfo(...)'" out of `package_file_descr_serializer`); with pydantic 2.12.5 it has `valid-format`. bioimageio.spec
# 0.5.14.3 takes it with pydantic 2.14.4 too.
#
# Seen with Python 3.11: "0.5.12.0 2.14.4 failed", "0.5.12.0 2.12.5 valid-format", "0.5.14.3 2.14.4 valid-format".
# Exit status 0: as described. 1: something else was seen.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HOME=$folder
cat > "$folder/check.py" <<'PY'
import sys, warnings, zipfile
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")
folder = Path(sys.argv[1])
axes = "[{type: batch}, {type: channel, channel_names: [c]}, {type: space, id: y, size: 8}, {type: space, id: x, size: 8}]"
np.save(folder / "a.npy", np.ones((1, 1, 8, 8), np.float32))
(folder / "README.md").write_text("# A model\n\n## Validation\n\nNone.\n")
(folder / "weights.onnx").write_bytes(b"not looked at when the format is checked")
(folder / "rdf.yaml").write_text(f"""
type: model
format_version: 0.5.4
name: Some model
description: A model
authors: [{{name: Nobody}}]
cite: [{{text: nothing, doi: 10.1000/182}}]
license: CC0-1.0
documentation: README.md
inputs:
- {{id: input, axes: {axes}, test_tensor: {{source: a.npy}}, data: {{type: float32}}}}
outputs:
- {{id: output, axes: {axes}, test_tensor: {{source: a.npy}}, data: {{type: float32}}}}
weights: {{onnx: {{source: weights.onnx, opset_version: 13}}}}
""")
with zipfile.ZipFile(folder / "package.zip", "w") as package:
    for name in ["rdf.yaml", "README.md", "weights.onnx", "a.npy"]:
        package.write(folder / name, name)

import bioimageio.spec
import pydantic

summary = bioimageio.spec.load_description(folder / "package.zip").validation_summary
for detail in summary.details:
    for error in detail.errors:
        print("   ", error.msg.replace("\n", " ")[:200], file=sys.stderr)
print(bioimageio.spec.__version__, pydantic.VERSION, summary.status)
PY

seen=""
for pair in "0.5.12.0 2.14.4" "0.5.12.0 2.12.5" "0.5.14.3 2.14.4"; do
  read -r spec pydantic <<< "$pair"
  rm -rf "$folder/venv"
  "${PYTHON:-python3}" -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "bioimageio.spec==$spec" "pydantic==$pydantic" "numpy==2.4.6"
  seen+=$("$folder/venv/bin/python" "$folder/check.py" "$folder" | tail -1)$'\n'
done
printf '%s' "$seen"
expected="0.5.12.0 2.14.4 failed
0.5.12.0 2.12.5 valid-format
0.5.14.3 2.14.4 valid-format
"
[ "$seen" = "$expected" ] || { echo "not as described" >&2; exit 1; }
