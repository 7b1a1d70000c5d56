#!/usr/bin/env bash
# A warning in a function that napari's `thread_worker` runs is shown to nobody, and as long as the worker runs, neither is a
# warning of any other thread, the main one included.
#
# superqt's worker replaces `warnings.showwarning` for the whole process while it runs and emits a signal, `warned`, instead.
# napari 0.9.2 has a mixin that shows these as notifications (`napari/_qt/qthreading.py`, `_NotifyingMixin`), but lists it after
# superqt's class (`class FunctionWorker(_qthreading.FunctionWorker[_R], _NotifyingMixin)`), so that with PyQt6 its
# `__init__` is not run and nothing is connected. Who needs the warnings connects `worker.warned`.
#
# Seen with Python 3.11, napari 0.9.2, superqt 0.9.0, PyQt6 6.11.0: "without a worker: shown", "in a worker: not shown, signal
# emitted", "in the main thread beside a worker: not shown, signal emitted".
# Exit status 0: as described. 1: something else was seen.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HOME=$folder NAPARI_CONFIG=$folder/settings.yaml QT_QPA_PLATFORM=offscreen
cat > "$folder/check.py" <<'PY'
import threading
import time
import warnings

import napari
from napari.qt.threading import create_worker
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

application = QApplication([])
heard = []


def shown(text):
    return any(text in record.message for record in notification_manager.records)


def run(function):
    worker = create_worker(function, _start_thread=False)
    worker.warned.connect(lambda values: heard.append(str(values[0])), Qt.ConnectionType.DirectConnection)
    worker.start()
    return worker


def tell(where, text):
    seen = "shown" if shown(text) else "not shown"
    print(f"{where}: {seen}" + (", signal emitted" if text in heard else ""))


def wait(seconds=1.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        application.processEvents()
        time.sleep(0.01)


with notification_manager:
    warnings.warn("first")
    tell("without a worker", "first")

    run(lambda: warnings.warn("second"))
    wait()
    tell("in a worker", "second")

    started, leave = threading.Event(), threading.Event()
    run(lambda: (started.set(), leave.wait(10)))
    started.wait(10)
    warnings.warn("third")
    leave.set()
    wait()
    tell("in the main thread beside a worker", "third")
PY

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  "napari==0.9.2" "superqt==0.9.0" "qtpy==2.4.3" "PyQt6==6.11.0" "PyQt6-Qt6==6.11.2" "numpy==2.4.6"
seen=$("$folder/venv/bin/python" "$folder/check.py")
echo "$seen"
expected="without a worker: shown
in a worker: not shown, signal emitted
in the main thread beside a worker: not shown, signal emitted"
[ "$seen" = "$expected" ] || { echo "not as described" >&2; exit 1; }
