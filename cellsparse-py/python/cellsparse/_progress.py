"""Showing a training while it runs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np

from ._history import TrainingEvent


class Progress:
    """Passes events to a bar or lines, and to a callback."""

    def __init__(self, shown: bool, callback: Callable[[TrainingEvent], object] | None, name: str) -> None:
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be a function of one argument, not {type(callback).__name__}")
        self._callback = callback
        self._show = _shower(name) if shown else None
        self.observer: Callable[..., bool] | None = self._observe if shown or callback else None

    def _observe(self, *values: Any) -> bool:
        event = TrainingEvent(*values)
        if self._show is not None:
            self._show(event)
        answer = None if self._callback is None else self._callback(event)
        return not (answer is False or answer is np.False_)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close = getattr(self._show, "close", None)
        if close is not None:
            close()


def _shower(name: str) -> Callable[[TrainingEvent], None]:
    try:
        with warnings.catch_warnings():
            # Without ipywidgets tqdm falls back to text, which is fine.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm

            return _Bar(tqdm(desc=name, unit="step", file=sys.stderr))
    except ImportError:
        return _Lines(name)


class _Bar:
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def __call__(self, event: TrainingEvent) -> None:
        if self._bar.total != event.total_steps:
            self._bar.total = event.total_steps
        self._bar.set_postfix({"loss": f"{event.loss:.4f}"}, refresh=False)
        self._bar.update(event.step - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _Lines:
    """At most one line a second and one for each percent, but always the first and the last step."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: tuple[float, int] | None = None

    def __call__(self, event: TrainingEvent) -> None:
        percent = 100 * event.step // max(event.total_steps, 1)
        due = self._last is None or event.step >= event.total_steps
        if self._last is not None:
            due = due or (event.elapsed >= self._last[0] + 1 and percent > self._last[1])
        if due and sys.stderr is not None:
            self._last = (event.elapsed, percent)
            print(
                f"{self._name}: step {event.step}/{event.total_steps}, loss {event.loss:.4f}, "
                f"{event.elapsed:.0f} s, about {event.remaining:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
