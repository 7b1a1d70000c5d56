"""What a training says while it runs and leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class TrainingEvent(NamedTuple):
    """One optimiser step, as a callback of `train` sees it.

    Returning `False` from the callback stops the training after this step; the weights so far are kept.

    >>> import cellsparse as cs
    >>> field = cs.synthetic.field(seed=1, shape=(64, 64))
    >>> model = cs.StarDist(n_rays=8, n_filter_base=4, n_depth=1, net_conv_after_unet=8)
    >>> def callback(event):
    ...     print(event.step, "of", event.total_steps)
    ...     return event.step < 2
    >>> history = model.train(field.image, field.annotation, steps=9, patch_size=32, progress=False, callback=callback)
    1 of 9
    2 of 9
    >>> history.stopped
    'cancelled'
    """

    step: int
    """Optimiser steps done, from 1."""
    total_steps: int
    """Optimiser steps in all; with a time budget, as many as will fit by the present estimate."""
    epoch: int
    """Validation period, from 1."""
    loss: float
    """Weighted total loss of this step's batch."""
    losses: dict[str, float]
    """The parts of the loss by name, unweighted."""
    learning_rate: float
    """Learning rate of this step."""
    elapsed: float
    """Seconds since the training began."""
    remaining: float
    """Estimated seconds until it ends."""
    validation_loss: float | None
    """Validation loss, in the event of the step after which it was measured."""


class History:
    """Losses and learning rates over the steps of a training, as arrays.

    Attributes
    ----------
    steps : int64 [n]
        Step numbers, counted over all trainings of the model.
    loss, learning_rate : float32 [n]
        Weighted total loss and learning rate of every step.
    losses : dict of float32 [n]
        The parts of the loss by name.
    validation_steps, validation_loss : int64 [m], float32 [m]
        Where the validation loss was measured, and its value.
    seconds : float or None
        Wall time of the training; `None` for the history of a loaded model.
    device : str or None
        Where the training ran.
    precision : str or None
        The numbers that it computed with: `f32`, `tf32` or `bf16`.
    stopped : str or None
        Why it ended: `finished`, `no improvement`, `time budget` or `cancelled`.
    begun : str or None
        What it began with: `random` weights, the `starter` in the library, or a trained `model`.
    kept : str or None
        Whose weights the model has now: the `trained` ones, or those of the `start` where these segment what was drawn better.
    notes : list of str
        What else a user should know, a sentence each. They are `ResultWarning`s of the training as well.

    >>> import cellsparse as cs
    >>> field = cs.synthetic.field(seed=1, shape=(64, 64))
    >>> model = cs.StarDist(n_rays=8, n_filter_base=4, n_depth=1, net_conv_after_unet=8)
    >>> history = model.train(field.image, field.annotation, steps=3, patch_size=32, progress=False)
    >>> history.steps
    array([1, 2, 3])
    >>> sorted(history.losses)
    ['dist', 'prob']
    """

    steps: NDArray[np.int64]
    loss: NDArray[np.float32]
    learning_rate: NDArray[np.float32]
    losses: dict[str, NDArray[np.float32]]
    validation_steps: NDArray[np.int64]
    validation_loss: NDArray[np.float32]
    seconds: float | None
    device: str | None
    precision: str | None
    stopped: str | None
    begun: str | None
    kept: str | None
    notes: list[str]

    def __init__(self, values: dict[str, Any], summary: dict[str, Any] | None = None, after: int = 0) -> None:
        steps = np.asarray(values["steps"], np.int64)
        new = steps > after
        self.steps = steps[new]
        self.loss = np.asarray(values["loss"], np.float32)[new]
        self.learning_rate = np.asarray(values["learning_rate"], np.float32)[new]
        # A part that not every training had (another preset) has fewer values: they belong to the latest steps.
        self.losses = {}
        for name, part in values["losses"].items():
            latest = np.asarray(part, np.float32)
            self.losses[name] = latest[new] if len(latest) == len(new) else latest[len(latest) - int(new.sum()) :]
        validated = np.asarray(values["validation_steps"], np.int64)
        self.validation_steps = validated[validated > after]
        self.validation_loss = np.asarray(values["validation_loss"], np.float32)[validated > after]
        summary = summary or {}
        self.seconds = summary.get("seconds")
        self.device = summary.get("device")
        self.precision = summary.get("precision")
        self.stopped = summary.get("stopped")
        self.begun = summary.get("begun")
        self.kept = summary.get("kept")
        self.notes = list(summary.get("notes", []))

    def __len__(self) -> int:
        return len(self.steps)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws the losses over the steps, on `ax` or the current axes, and returns the axes. Needs matplotlib.

        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> import cellsparse as cs
        >>> field = cs.synthetic.field(seed=1, shape=(64, 64))
        >>> model = cs.StarDist(n_rays=8, n_filter_base=4, n_depth=1, net_conv_after_unet=8)
        >>> history = model.train(field.image, field.annotation, steps=3, patch_size=32, progress=False)
        >>> history.plot().get_xlabel()
        'step'
        """
        from .plot import history

        return history(self, ax)

    def _facts(self) -> list[tuple[str, str]]:
        facts = [("steps", str(len(self)))]
        if len(self):
            facts.append(("loss", f"{self.loss[0]:.4f} → {self.loss[-1]:.4f}"))
        if len(self.validation_loss):
            facts.append(("validation loss", f"{self.validation_loss.min():.4f} (lowest)"))
        if self.seconds is not None:
            facts.append(("time", f"{self.seconds:.1f} s"))
        if self.device is not None:
            facts.append(("device", self.device))
        if self.stopped is not None:
            facts.append(("ended", self.stopped))
        if self.kept == "start":
            facts.append(("kept", "the weights of before"))
        return facts

    def __repr__(self) -> str:
        return "History(" + ", ".join(f"{name} {value}" for name, value in self._facts()) + ")"

    def _repr_html_(self) -> str:
        from ._html import curve, table

        return table("Training", self._facts()) + curve(self.steps, self.loss)
