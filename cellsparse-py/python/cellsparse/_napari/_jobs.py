"""A training or a prediction in a thread of its own, and what of it can be seen from outside.

The thread writes into a `Job` and the panel reads it by a timer. So no signal can reach a panel that is gone, and a quick
training does not flood the window with events.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari.qt.threading import create_worker  # type: ignore[import-not-found, import-untyped, unused-ignore]
from qtpy.QtCore import Qt  # type: ignore[import-not-found, attr-defined, unused-ignore]

import cellsparse as cs

from ._layers import Drawn, Found, Source, found, joined

# Seconds between two previews at least; a slow one is followed by twice its own time without.
PREVIEW_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """How to train."""

    algorithm: Literal["auto", "stardist", "cellpose", "elephant"] = "auto"
    init: Literal["starter", "none"] = "starter"
    seconds: float | None = 60.0
    """Time budget; `None` takes the steps."""
    steps: int | None = None


@dataclass
class Job:
    """Work under way. Fields are written by its thread and may be read at any time."""

    kind: Literal["train", "predict", "outline"]
    stopped: threading.Event = field(default_factory=threading.Event)
    doing: str = ""
    """The phase, in words, where there is no step to tell."""
    event: cs.TrainingEvent | None = None
    losses: list[float] = field(default_factory=list)
    previews: deque[Found] = field(default_factory=lambda: deque(maxlen=1))
    results: deque[Found] = field(default_factory=deque)
    model: cs.Model | None = None
    sam: cs.sam.Sam | None = None
    outlined: cs.sam.Outlined | None = None
    history: cs.History | None = None
    notes: list[str] = field(default_factory=list)
    hints: deque[str] = field(default_factory=deque)
    """How the annotation could be better."""
    error: BaseException | None = None
    done: bool = False

    def stop(self) -> None:
        """Asks the work to end: a training after the running step, a prediction after the running plane."""
        self.stopped.set()

    def hear(self, warning: tuple[Any, ...]) -> None:
        """Keeps a warning about the annotation. Those about results are in their notes."""
        message, category = warning[:2]
        if issubclass(category, cs.AnnotationWarning):
            self.hints.append(str(message))

    def run(self, work: Callable[[Job], None]) -> None:
        """Does the work, and keeps what went wrong."""
        try:
            work(self)
        except BaseException as error:  # noqa: B902
            self.error = error
        finally:
            self.done = True


def start(job: Job, work: Callable[[Job], None]) -> None:
    """Runs the work in a thread of napari's pool."""
    worker = create_worker(job.run, work, _start_thread=False)
    # Warnings in a worker become this signal, and nothing else hears it. It is answered in the thread, before the work is done.
    worker.warned.connect(job.hear, Qt.ConnectionType.DirectConnection)
    worker.start()


def train(job: Job, model: cs.Model | None, plan: Plan, data: Drawn, image: Source, place: tuple[int, ...]) -> None:
    """Trains the model, or a new one, and segments the plane in view with it: now and then meanwhile, and at the end."""
    seconds = plan.seconds
    if model is None:
        began = time.monotonic()
        model = _new(job, plan, data)
        if seconds is not None:
            seconds = max(1.0, seconds - (time.monotonic() - began))
    if job.stopped.is_set():
        raise cs.CancelledError("Stopped before the first step; nothing was learned.")
    job.doing = "preparing"
    seen = image.plane(place)
    with tempfile.TemporaryDirectory(prefix="cellsparse-") as folder, ThreadPoolExecutor(1) as pool:
        path = Path(folder) / "so-far.safetensors"
        preview = _Preview(job, path, pool, lambda early: _predict(early, image, place, seen, _few_threads()))

        def callback(event: cs.TrainingEvent) -> bool:
            job.losses.append(event.loss)
            job.event = event
            if job.stopped.is_set():
                job.doing = "choosing thresholds"
                return False
            preview.step()
            return True

        job.history = model.train(
            data.images,
            data.labels,
            label_encoding="signed",
            steps=plan.steps if seconds is None else None,
            time_budget=seconds,
            pixel_size=data.pixel_size,
            callback=callback,
            progress=False,
            checkpoint=path,
        )
        preview.end()
    job.model = model
    job.notes += job.history.notes
    job.doing = "segmenting"
    job.results.append(_predict(model, image, place, seen))


def predict(job: Job, model: cs.Model, images: list[tuple[Source, list[tuple[int, ...]], bool]]) -> None:
    """Segments planes of images: for each, its source, the places, and whether these are all planes."""
    total = sum(len(places) for _, places, _ in images)
    count = 0
    for image, places, whole in images:
        results = []
        for place in places:
            if job.stopped.is_set():
                return
            count += 1
            job.doing = f"segmenting {image.name}{image.where(place)}" + (f", {count} of {total}" if total > 1 else "")
            try:
                results.append(_predict(model, image, place, image.plane(place)))
            except cs.CellsparseError as error:
                if len(images) == 1:
                    raise
                # The others can be segmented.
                job.notes.append(f"{image.name}: {error}.")
                break
        else:
            job.results.append(joined(image, results) if whole else results[0])


def _new(job: Job, plan: Plan, data: Drawn) -> cs.Model:
    if plan.algorithm == "auto":
        job.doing = "trying the algorithms"
        choice = cs.choose_algorithm(
            data.images,
            data.labels,
            label_encoding="signed",
            init=plan.init,
            time_budget=plan.seconds,
            pixel_size=data.pixel_size,
        )
        job.notes.append(choice.reason)
        return choice.model(init=plan.init)
    made = {"stardist": cs.StarDist, "cellpose": cs.Cellpose, "elephant": cs.Elephant}[plan.algorithm]
    channels = 1 if data.images[0].ndim == 2 else data.images[0].shape[2]
    model: cs.Model = made(n_channels=channels, init=plan.init)
    return model


def _predict(
    model: cs.Model, image: Source, place: tuple[int, ...], pixels: Any, threads: int | None = None
) -> Found:
    result = model.predict(pixels, pixel_size=image.pixel_size, threads=threads)
    return found(image, place, result)


def _few_threads() -> int:
    return max(1, (os.cpu_count() or 1) // 2)


class _Preview:
    """Segments with the weights so far, beside the training.

    During a training, `predict` has the weights from before, so they are taken from the checkpoint. It is written and, in the
    callback, read by the same thread, one after the other.
    """

    def __init__(self, job: Job, path: Path, pool: ThreadPoolExecutor, segment: Callable[[cs.Model], Found]) -> None:
        self._job, self._path, self._pool, self._segment = job, path, pool, segment
        self._running: Future[None] | None = None
        self._written = 0
        self._due = 0.0

    def step(self) -> None:
        """Begins a preview if none is under way, one is due, and the weights are new."""
        if (self._running is not None and not self._running.done()) or time.monotonic() < self._due:
            return
        try:
            written = self._path.stat().st_mtime_ns
            if written == self._written:
                return
            early = cs.load(self._path)
        except OSError:
            return
        self._written = written
        self._running = self._pool.submit(self._run, early)

    def end(self) -> None:
        """Waits for the preview under way; one that begins no more is not shown after the result."""
        if self._running is not None:
            self._running.result()

    def _run(self, early: cs.Model) -> None:
        began = time.monotonic()
        try:
            preview = self._segment(early)
        except cs.CellsparseError:
            # Too little memory beside the training, say: the result at the end says what is wrong.
            return
        finally:
            now = time.monotonic()
            self._due = now + max(PREVIEW_SECONDS, 2 * (now - began))
        self._job.previews.append(preview)
