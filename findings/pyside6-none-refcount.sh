#!/usr/bin/env bash
# PySide6 6.12.0 takes a reference from `None` that it does not own whenever a method of Qt returns nothing as `None`:
# `QWidget.parent()` of a window, `QComboBox.currentData()` without data, `QObject.property()` of an unknown name. Each call lowers
# the count by one, so a Python that counts references to `None`, 3.10 and 3.11, can come to a fatal error in a program that does
# nothing wrong. Python 3.12 and later do not count them, which hides it. PySide6 6.11.0 does no such thing.
#
# Seen with Python 3.11 on Linux: "6.11.0: parent +0.00, currentData +0.00, property +0.00",
# "6.12.0: parent -1.00, currentData -1.00, property -1.00".
# Exit status 0: as described. 1: something else was seen. 2: this Python does not count references to None.
set -euo pipefail

"${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info >= (3, 12))' || {
  echo "this needs Python 3.10 or 3.11; name one with PYTHON=..." >&2
  exit 2
}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HOME=$folder QT_QPA_PLATFORM=offscreen
cat > "$folder/count.py" <<'PY'
import os
import sys

import PySide6
from PySide6.QtWidgets import QApplication, QComboBox, QWidget

application = QApplication([])
widget, box = QWidget(), QComboBox()
calls = {"parent": widget.parent, "currentData": box.currentData, "property": lambda: widget.property("none")}
seen = []
for name, call in calls.items():
    call()
    before = sys.getrefcount(None)
    for _ in range(100):
        call()
    seen.append(f"{name} {(sys.getrefcount(None) - before) / 100:+.2f}")
print(f"{PySide6.__version__}: {', '.join(seen)}", flush=True)
# Not by the usual way out, where the count of None matters again.
os._exit(0)
PY
"${PYTHON:-python3}" -m venv "$folder/venv"
seen=""
for version in 6.11.0 6.12.0; do
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "PySide6-Essentials==$version" "shiboken6==$version"
  counts=$("$folder/venv/bin/python" "$folder/count.py")
  seen+="$counts"$'\n'
done
printf '%s' "$seen"
expected="6.11.0: parent +0.00, currentData +0.00, property +0.00
6.12.0: parent -1.00, currentData -1.00, property -1.00
"
[ "$seen" = "$expected" ] || { echo "not as described" >&2; exit 1; }
