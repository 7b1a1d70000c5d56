#!/usr/bin/env bash
# PySide6 6.12.0 takes a reference from `None` that it does not own whenever a method of Qt returns nothing as `None`:
# `QWidget.parent()` of a window, `QComboBox.currentData()` without data, `QObject.property()` of an unknown name. Each call lowers
# the count by one, and after some thousand calls Python 3.10 or 3.11 ends with "Fatal Python error: none_dealloc: deallocating
# None". Python 3.12 and later do not count references to None, which hides it. PySide6 6.11.0 does no such thing.
#
# Seen with Python 3.11 on Linux: "6.11.0: parent +0.00, currentData +0.00, property +0.00; 100000 calls: survived",
# "6.12.0: parent -1.00, currentData -1.00, property -1.00; 100000 calls: aborted".
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
    for _ in range(1000):
        call()
    seen.append(f"{name} {(sys.getrefcount(None) - before) / 1000:+.2f}")
print(f"{PySide6.__version__}: {', '.join(seen)}", flush=True)
# Not by the usual way out, where the count of None matters again.
os._exit(0)
PY
cat > "$folder/many.py" <<'PY'
import os

from PySide6.QtWidgets import QApplication, QWidget

application = QApplication([])
widget = QWidget()
for _ in range(100_000):
    widget.parent()
os._exit(0)
PY

"${PYTHON:-python3}" -m venv "$folder/venv"
seen=""
for version in 6.11.0 6.12.0; do
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "PySide6-Essentials==$version" "shiboken6==$version"
  counts=$("$folder/venv/bin/python" "$folder/count.py")
  # In a shell of its own, which says nothing of the signal.
  end=$(bash -c '"$1" "$2" && echo survived || { [ $? = 134 ] && echo aborted; }' - "$folder/venv/bin/python" "$folder/many.py" 2> "$folder/errors")
  grep -m 1 "Fatal Python error" "$folder/errors" >&2 || true
  seen+="$counts; 100000 calls: $end"$'\n'
done
printf '%s' "$seen"
expected="6.11.0: parent +0.00, currentData +0.00, property +0.00; 100000 calls: survived
6.12.0: parent -1.00, currentData -1.00, property -1.00; 100000 calls: aborted
"
[ "$seen" = "$expected" ] || { echo "not as described" >&2; exit 1; }
