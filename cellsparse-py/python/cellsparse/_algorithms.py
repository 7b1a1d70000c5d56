"""Models: one class for each algorithm."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from . import _arrays, _native
from ._data import PixelSizes, dataset
from ._errors import ConfigError
from ._models import Model


class StarDist(Model):
    """Star-convex polygons: for round cells, also crowded ones.

    Parameters
    ----------
    n_channels : int
        Channels of the images.
    n_rays : int
        Rays of a polygon, 3 or more.
    grid : (int, int)
        Pixels between two candidates in rows and columns, powers of 2.
    n_filter_base : int
        Filters of the first level.
    seed : int
        Of the initial weights, and of the training unless it is given another one.
    device : str
        `auto` (the best that this build and machine have), `cpu`, `cuda`, `cuda:N` or `metal`.
    init : {"starter", "none"} or path
        Weights of the first training: those in the library, learned on drawn fields, where they fit the network; random
        ones; or those of a model file.
    n_depth, n_conv_per_depth : int
        Levels of the U-Net, convolutions at each.
    net_conv_after_unet : int
        Filters of the convolution after the U-Net; 0 leaves it out.
    batch_norm : bool
        Batch normalisation in the U-Net.
    n_classes : int, optional
        Object classes.

    Raises
    ------
    ConfigError
        For values that no network can have.

    >>> import cellsparse as cs
    >>> cs.StarDist(n_rays=16, n_filter_base=32, seed=7).n_parameters
    1423121
    """

    def __init__(
        self,
        n_channels: int = 1,
        n_rays: int = 32,
        grid: tuple[int, int] = (2, 2),
        n_filter_base: int = 32,
        seed: int = 0,
        device: str = "auto",
        *,
        init: str | os.PathLike[str] = "starter",
        n_depth: int = 3,
        n_conv_per_depth: int = 2,
        net_conv_after_unet: int = 128,
        batch_norm: bool = False,
        n_classes: int | None = None,
    ) -> None:
        config = {
            "n_channels": _arrays.whole("n_channels", n_channels),
            "n_rays": _arrays.whole("n_rays", n_rays),
            "grid": list(_arrays.two("grid", grid)),
            "n_filter_base": _arrays.whole("n_filter_base", n_filter_base),
            "n_depth": _arrays.whole("n_depth", n_depth),
            "n_conv_per_depth": _arrays.whole("n_conv_per_depth", n_conv_per_depth),
            "net_conv_after_unet": _arrays.whole("net_conv_after_unet", net_conv_after_unet),
            "batch_norm": bool(batch_norm),
            "n_classes": None if n_classes is None else _arrays.whole("n_classes", n_classes),
        }
        self._create("stardist", config, seed, device, init)

    @property
    def n_rays(self) -> int:
        """Rays of a polygon."""
        return int(self.config["n_rays"])

    @property
    def grid(self) -> tuple[int, int]:
        """Pixels between two candidates in rows and columns."""
        rows, columns = self.config["grid"]
        return rows, columns


class Cellpose(Model):
    """Flows towards cell centres: for cells of any shape and similar size.

    Parameters
    ----------
    n_channels : int
        Channels of the images.
    seed : int
        Of the initial weights, and of the training unless it is given another one.
    device : str
        `auto` (the best that this build and machine have), `cpu`, `cuda`, `cuda:N` or `metal`.
    init : {"starter", "none"} or path
        Weights of the first training: those in the library, learned on drawn fields, where they fit the network; random
        ones; or those of a model file.
    widths : sequence of int
        Channels of each level, from the finest. The network of the Cellpose package has 32, 64, 128, 256.
    diam_mean : float
        Diameter in pixels to which cells are scaled for the network.

    Raises
    ------
    ConfigError
        For values that no network can have.

    >>> import cellsparse as cs
    >>> cs.Cellpose(n_channels=2, widths=[8, 16]).widths
    [8, 16]
    """

    def __init__(
        self,
        n_channels: int = 1,
        seed: int = 0,
        device: str = "auto",
        *,
        init: str | os.PathLike[str] = "starter",
        widths: Sequence[int] = (16, 32, 64, 128),
        diam_mean: float = 30.0,
    ) -> None:
        diameter = _arrays.number("diam_mean", diam_mean)
        if not np.isfinite(diameter):
            raise ConfigError(f"option: diam_mean is {diameter}; it must lie between 2 and 1000")
        config = {
            "n_channels": _arrays.whole("n_channels", n_channels),
            "widths": [_arrays.whole("widths", width) for width in widths],
            "diam_mean": diameter,
        }
        self._create("cellpose", config, seed, device, init)

    @property
    def widths(self) -> list[int]:
        """Channels of each level, from the finest."""
        return list(self.config["widths"])

    @property
    def diameter(self) -> float:
        """Diameter in pixels of the cells in the images, as chosen from the annotations."""
        return float(self.thresholds["diameter"])


class Elephant(Model):
    """Background, border and centre: the smallest and fastest of the three.

    Parameters
    ----------
    n_channels : int
        Channels of the images.
    seed : int
        Of the initial weights, and of the training unless it is given another one.
    device : str
        `auto` (the best that this build and machine have), `cpu`, `cuda`, `cuda:N` or `metal`.
    init : {"starter", "none"} or path
        Weights of the first training: those in the library, learned on drawn fields, where they fit the network; random
        ones; or those of a model file.
    widths : sequence of int
        Channels of each level, from the finest.
    residual : bool
        Residual blocks.

    Raises
    ------
    ConfigError
        For values that no network can have.

    >>> import cellsparse as cs
    >>> cs.Elephant(widths=[4, 8]).algorithm
    'elephant'
    """

    def __init__(
        self,
        n_channels: int = 1,
        seed: int = 0,
        device: str = "auto",
        *,
        init: str | os.PathLike[str] = "starter",
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        residual: bool = False,
    ) -> None:
        config = {
            "n_channels": _arrays.whole("n_channels", n_channels),
            "widths": [_arrays.whole("widths", width) for width in widths],
            "residual": bool(residual),
        }
        self._create("elephant", config, seed, device, init)

    @property
    def widths(self) -> list[int]:
        """Channels of each level, from the finest."""
        return list(self.config["widths"])


_CLASSES: dict[str, type[Model]] = {"stardist": StarDist, "cellpose": Cellpose, "elephant": Elephant}


def load(path: str | os.PathLike[str], device: str = "auto") -> StarDist | Cellpose | Elephant:
    """A model from a file that `save`, or the command line, wrote. Nothing in the file is executed.

    Raises
    ------
    NotFoundError, IoError, FileError
        When the file is absent, unreadable, damaged, of another format or of a later version.

    >>> import cellsparse as cs, tempfile
    >>> path = tempfile.mkdtemp() + "/cells.safetensors"
    >>> cs.Cellpose(widths=[4, 8]).save(path)
    >>> type(cs.load(path)).__name__
    'Cellpose'
    """
    model = _native.Model.load(os.fspath(path))
    found = _CLASSES[json.loads(model.info())["algorithm"]]
    return found._wrap(model, 0, device)  # type: ignore[return-value]


@dataclass(frozen=True)
class Choice:
    """The algorithm that found drawn cells best that it had not been shown.

    Attributes
    ----------
    algorithm : {"stardist", "cellpose", "elephant"}
        Which one.
    scores : dict of float
        What each reached, best first: the mean overlap (0 to 1) of the left-out cells with the objects found.
    reason : str
        The same in a sentence.
    n_channels : int
        Channels of the images.

    Examples
    --------
    >>> import cellsparse as cs
    >>> choice = cs.Choice("cellpose", {"cellpose": 0.8, "stardist": 0.7}, "cellpose found the left-out cells best")
    >>> choice.model().n_channels
    1
    """

    algorithm: Literal["stardist", "cellpose", "elephant"]
    scores: dict[str, float]
    reason: str
    n_channels: int = 1

    def model(self, **options: Any) -> StarDist | Cellpose | Elephant:
        """A model of that algorithm for such images; `options` are those of its class."""
        made = _CLASSES[self.algorithm](**{"n_channels": self.n_channels, **options})
        return made  # type: ignore[return-value]


def choose_algorithm(
    images: Any,
    labels: Any,
    *,
    label_encoding: Literal["auto", "wire", "cells", "dense", "signed"] = "auto",
    init: Literal["starter", "none"] = "starter",
    time_budget: float | None = None,
    pixel_size: PixelSizes = None,
    rescale: bool = True,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    memory: int | str | None = None,
    level: int | str | None = None,
) -> Choice:
    """Tries every algorithm on the drawn cells and tells which one to train; `auto` of the command line.

    Each trains 20 small steps on half of the cells and is scored on the other half, then the halves change places.

    Parameters
    ----------
    images, labels, label_encoding, pixel_size, rescale, threads, memory, level
        As of `Model.train`.
    init : {"starter", "none"}
        Weights that the trials begin with.
    time_budget : float, optional
        Seconds of the training to come, of which the trials take three tenths at most.
    seed, device
        As of the models.

    Raises
    ------
    ImageError, LabelsError, ConfigError, DeviceError, LimitError
        As `Model.train`.

    >>> import cellsparse as cs
    >>> field = cs.synthetic.field(seed=1, shape=(96, 96))
    >>> choice = cs.choose_algorithm(field.image, field.annotation, time_budget=0.1)
    >>> sorted(choice.scores)
    ['cellpose', 'elephant', 'stardist']
    >>> choice.model(seed=3).algorithm == choice.algorithm
    True
    """
    data = dataset(images, labels, label_encoding, None, pixel_size, None, memory, level)
    found = json.loads(
        _native.choose_algorithm(
            data,
            init=init,
            time_budget=None if time_budget is None else _arrays.number("time_budget", time_budget),
            seed=_arrays.whole("seed", seed),
            rescale=bool(rescale),
            device=device,
            threads=None if threads is None else _arrays.whole("threads", threads, 1, 1024),
            memory=None if memory is None else str(memory),
        )
    )
    scores = {trial["algorithm"]: trial["score"] for trial in found["trials"]}
    return Choice(found["algorithm"], scores, found["reason"], data.channels())
