"""What the models of all algorithms share."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from . import _arrays, _large, _native
from ._data import Arrays, PixelSizes, dataset
from ._errors import AnnotationWarning, ConfigError, ImageError, ResultWarning
from ._history import History, TrainingEvent
from ._large import LargeSegmentation
from ._progress import Progress
from ._results import Object, Objects, Segmentation
from ._words import counted

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

AnyModel = TypeVar("AnyModel", bound="Model")


class PredictOptions(TypedDict, total=False):
    """Options of `predict` that belong to single algorithms. Without them the values stored with the model are taken."""

    prob_thresh: float
    nms_thresh: float
    flow_threshold: float
    cellprob_threshold: float
    diameter: float
    augment: bool
    postprocess: Literal["watershed", "ellipse"]


# Thresholds are stored under short names; users see those of the options of `predict`.
_THRESHOLDS = {
    "stardist": {"prob_thresh": "prob", "nms_thresh": "nms", "smallest_object": "smallest_object"},
    "cellpose": {
        "flow_threshold": "flow",
        "cellprob_threshold": "cellprob",
        "diameter": "diameter",
        "smallest_object": "smallest_object",
    },
    "elephant": {"prob_thresh": "center", "foreground_thresh": "foreground", "smallest_object": "smallest_object"},
}


class Model:
    """What `StarDist`, `Cellpose` and `Elephant` have in common. Models are made by these classes and by `load`.

    Models can be pickled, copied (`copy.copy`) and sent to other processes. Many threads may predict with one model at a
    time, also while it is being trained: they use the weights from before. Ctrl-C during a training or a prediction ends
    it within a step; what a training has reached is kept.

    Attributes
    ----------
    device : str
        Where the model runs: `auto`, `cpu`, `cuda`, `cuda:N` or `metal`.
    """

    device: str
    _model: _native.Model
    _seed: int
    _init: str = "starter"

    def __init__(self) -> None:
        raise TypeError("a model is made by StarDist, Cellpose or Elephant, or by load")

    def _create(
        self, algorithm: str, config: dict[str, Any], seed: int, device: str, init: str | os.PathLike[str] = "starter"
    ) -> None:
        self._seed = _arrays.whole("seed", seed)
        self.device = device
        self._model = _native.Model.create(json.dumps({"algorithm": algorithm, "config": config}), self._seed)
        if init in ("starter", "none"):
            self._init = str(init)
            return
        own = json.loads(self._model.info())
        self._model = _native.Model.load(os.fspath(init))
        found = json.loads(self._model.info())
        if (found["algorithm"], found["config"]) != (own["algorithm"], own["config"]):
            raise ConfigError(
                f"init: {os.fspath(init)} holds a {found['algorithm']} network with {found['config']}; "
                f"asked for was {own['algorithm']} with {own['config']}"
            )

    @classmethod
    def _wrap(cls, model: _native.Model, seed: int, device: str, init: str = "starter") -> Self:
        wrapped = cls.__new__(cls)
        wrapped._model, wrapped._seed, wrapped.device, wrapped._init = model, seed, device, init
        return wrapped

    def train(
        self,
        images: Arrays,
        labels: Arrays,
        validation: tuple[Arrays, Arrays] | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        patch_size: int | None = None,
        learning_rate: float | None = None,
        preset: Literal["default", "reference"] = "default",
        time_budget: float | None = None,
        callback: Callable[[TrainingEvent], object] | None = None,
        progress: bool = True,
        *,
        label_encoding: Literal["auto", "wire", "cells", "dense", "signed"] = "auto",
        classes: Sequence[Mapping[int, int | None]] | None = None,
        init: Literal["starter", "none"] | None = None,
        seed: int | None = None,
        resume: bool = False,
        pixel_size: PixelSizes = None,
        rescale: bool = True,
        checkpoint: str | os.PathLike[str] | None = None,
        precision: Literal["auto", "f32", "tf32", "bf16"] = "auto",
        threads: int | None = None,
        memory: int | str | None = None,
        level: int | str | None = None,
    ) -> History:
        """Trains on annotated images, from the weights the model has now.

        Afterwards the thresholds of the post-processing are chosen on the annotations and stored with the model.

        Parameters
        ----------
        images : list of [H, W] or [H, W, C], a stack [N, H, W(, C)], or one image
            Images may differ in size. They are scaled by their own percentiles (`normalization`). Beside arrays of NumPy, these
            are anything with a shape that can be sliced, such as a memory map or an array of zarr or dask, and paths. Of a
            large one (more than 2**24 pixels outside of the memory, or more than fits into it) only the parts around what was
            drawn are read, and are scaled by the percentiles of the whole image.
        labels : list of [H, W], a stack [N, H, W], or one label image
            Arrays of these kinds, or paths of files that `read_annotations` takes, such as outlines drawn in QuPath.
            Below 0 unlabelled (ignored), 0 background, 1 and up cells. Without values below 0, `label_encoding` says what 0
            and 1 mean. Ids need not be consecutive. Images without a cell are welcome beside others.
        validation : (images, labels), optional
            The weights with the lowest validation loss are kept.
        steps : int, optional
            Optimiser steps (batches). `None`: 800 steps of small batches, fewer when the loss falls no more; with a
            `time_budget` the budget alone decides; with the reference preset 200.
        batch_size : int, optional
            Patches in a batch, 1 to 256. `None`: 8 when `steps` are given and with the reference preset, otherwise 4.
        patch_size : int, optional
            Side of the square training patches in pixels; a few cells should fit in. `None`: 224 when `steps` are given
            and with the reference preset, otherwise 128; and no more than the side of the largest image.
        learning_rate : float, optional
            That of the preset by default.
        preset : {"default", "reference"}
            `default`: what measures best from a few annotations. `reference`: the settings of the original program.
        time_budget : float, optional
            Seconds that the training takes in all, or less when the loss falls no more; the learning rate is scheduled to
            fit.
        callback : callable, optional
            Called after every step with a `TrainingEvent`; returning `False` stops the training. An exception stops it
            too, and is raised here.
        progress : bool
            Whether to show a bar (tqdm, if installed) or lines on standard error.
        label_encoding : {"auto", "wire", "cells", "dense", "signed"}
            What the numbers in `labels` mean; see `read_labels`. By default values below 0 mean `signed`, and otherwise
            values, coverage and shapes decide: the choice is said with the progress, and a doubtful one is an error that
            names the encodings in question.
        classes : list of dict, optional
            For each image, the class (1 and up) of objects by id, for a StarDist model with `n_classes`.
        init : {"starter", "none"}, optional
            Weights that a model which was never trained begins with: those in the library, which were learned on drawn
            fields, or those it has. By default what the model was made with; the reference preset has random ones.
        seed : int, optional
            Of sampling and augmentation; that of the model by default.
        resume : bool
            Continue with the optimiser's state and schedule of the last training.
        pixel_size : float, (height, width), or list of these or None for each image, optional
            Micrometres per pixel, as `image_info` tells; kept with the model. Images of different pixel sizes are brought to
            one: the median, or that of a model which was trained before.
        rescale : bool
            Whether they are. If not, a model of different images keeps no pixel size.
        checkpoint : path, optional
            The model is written there after the first step, every 25 steps (200 with the reference preset), and in
            between as often as takes a twentieth of the time.
        precision : {"auto", "f32", "tf32", "bf16"}
            Numbers to compute with. With "bf16" factors of products have 16 bits; "auto" takes it where the CPU is quicker
            with it, and 32 bits elsewhere. CUDA devices alone have "tf32".
        threads : int, optional
            Compute threads, one per core by default. The result does not depend on it.
        memory : int or str, optional
            Bytes to take at most, or a text such as "4G"; half of what is free by default. Work that would take more is done
            in smaller pieces, or refused with LimitError before it begins.
        level : int or str, optional
            Resolution of pyramids that are given as paths, also of those of `validation`: a level, 0 for the largest, or
            micrometres per pixel, like "0.5um", as of `predict_large`. Only the parts of it around what was drawn are read;
            shapes and `pixel_size` are in the pixels of level 0, and a label image needs a level of the same size.

        Returns
        -------
        History
            Losses and learning rates of this training.

        Raises
        ------
        ImageError, LabelsError, ConfigError
            For unusable data; for options out of range.
        DeviceError, DivergedError, LimitError
            For an absent device; when the loss is no longer finite; when a batch would not fit into memory. The model is
            then as it was before.
        BusyError
            When the model is being trained already.

        Warns
        -----
        AnnotationWarning
            When the annotations could be better, for example without any background, or look wrongly read.
        ResultWarning
            The `notes` of the history.

        >>> import cellsparse as cs
        >>> field = cs.synthetic.field(seed=1, shape=(64, 64))
        >>> model = cs.StarDist(n_rays=8, n_filter_base=4, n_depth=1, net_conv_after_unet=8)
        >>> history = model.train([field.image], [field.annotation], steps=2, patch_size=32, progress=False)
        >>> len(history), model.steps
        (2, 2)
        """
        patch = None if patch_size is None else _arrays.whole("patch_size", patch_size, 1, 4096)
        data = dataset(images, labels, label_encoding, classes, pixel_size, patch, memory, level)
        checked = None
        if validation is not None:
            try:
                images, labels = validation
            except (TypeError, ValueError):
                raise ConfigError("option: validation must be a pair (images, labels)") from None
            # A list belongs to the images of the training alone.
            sizes = None if isinstance(pixel_size, list) else pixel_size
            checked = dataset(images, labels, label_encoding, None, sizes, patch, memory, level)
        encoding, meaning, reason = data.encoding()
        if progress and label_encoding == "auto" and encoding != "signed":
            print(f"labels: {encoding} ({meaning}), because {reason}", file=sys.stderr)
        for hint in data.advice():
            warnings.warn(hint, AnnotationWarning, stacklevel=2)
        for part in [data] if checked is None else [data, checked]:
            read, unused = part.notes()
            for what in unused:
                warnings.warn(f"not used of {what}", AnnotationWarning, stacklevel=2)
            for note in read if progress else ():
                print(note, file=sys.stderr)
        before = self.steps
        with Progress(progress, callback, str(self.algorithm)) as shown:
            summary = self._model.train(
                data,
                checked,
                steps=None if steps is None else _arrays.whole("steps", steps, 1),
                batch_size=None if batch_size is None else _arrays.whole("batch_size", batch_size, 1, 256),
                patch_size=patch,
                learning_rate=None if learning_rate is None else _arrays.number("learning_rate", learning_rate),
                preset=preset,
                init=self._init if init is None else init,
                time_budget=None if time_budget is None else _arrays.number("time_budget", time_budget),
                seed=self._seed if seed is None else _arrays.whole("seed", seed),
                resume=bool(resume),
                rescale=bool(rescale),
                checkpoint=None if checkpoint is None else os.fspath(checkpoint),
                device=self.device,
                precision=precision,
                threads=None if threads is None else _arrays.whole("threads", threads, 1, 1024),
                memory=None if memory is None else str(memory),
                observer=shown.observer,
            )
        history = History(json.loads(self._model.history()), json.loads(summary), after=before)
        for note in history.notes:
            warnings.warn(note, ResultWarning, stacklevel=2)
        return history

    def predict(
        self,
        image: ArrayLike,
        min_area: float = 0,
        tile: int | None = None,
        *,
        pixel_size: float | tuple[float, float] | None = None,
        rescale: bool = True,
        precision: Literal["auto", "f32", "tf32", "bf16"] = "auto",
        threads: int | None = None,
        memory: int | str | None = None,
        **thresholds: Unpack[PredictOptions],
    ) -> Segmentation:
        """Segments one image.

        Parameters
        ----------
        image : [H, W] or [H, W, C]
            With as many channels as the model has.
        min_area : float
            Objects with fewer pixels are removed, beyond those much smaller than any annotated cell.
        tile : int, optional
            Side of the tiles in pixels in which large images are read; chosen by default.
        pixel_size : float or (height, width), optional
            Micrometres per pixel of the image, as `image_info` tells. An image whose pixels have another size than those of
            the training is seen scaled, if that one is known too; the result is in the pixels of the image.
        rescale : bool
            Whether it is, and whether Cellpose sees an image by the size of its cells, where that of the pixels is not known.
        precision : {"auto", "f32", "tf32", "bf16"}
            Numbers to compute with. With "bf16" factors of products have 16 bits, which is quicker on some CPUs; "auto"
            takes 32 bits. CUDA devices alone have "tf32".
        threads : int, optional
            Compute threads, one per core by default. The result does not depend on it.
        memory : int or str, optional
            Bytes to take at most, or a text such as "4G"; half of what is free by default. Work that would take more is done
            in smaller pieces, or refused with LimitError before it begins.
        prob_thresh, nms_thresh : float
            StarDist: smallest probability of an object, largest overlap of two. ELEPHANT has the first alone, for centres.
        flow_threshold, cellprob_threshold, diameter : float
            Cellpose: largest flow error of a cell, smallest cell-probability logit of a pixel, cell diameter in pixels.
        augment : bool
            Cellpose: average the answers to overlapping, mirrored tiles.
        postprocess : {"watershed", "ellipse"}
            ELEPHANT: how probabilities become cells.

        Returns
        -------
        Segmentation
            Unpacks into `labels` (int32 [H, W], 0 background) and `objects` (a list of `Object`); its `notes` say what is
            to be known of the result.

        Raises
        ------
        ImageError, ConfigError
            For an unusable image or other channels than the model's; for an option out of range or of another algorithm.
        DeviceError, LimitError
            For an absent device; for work that the memory does not suffice for.

        Warns
        -----
        ResultWarning
            The `notes` of the result.

        >>> import cellsparse as cs
        >>> model = cs.Elephant(widths=[4, 8])
        >>> labels, objects = model.predict(cs.synthetic.field(seed=1, shape=(64, 64)).image, prob_thresh=0.6)
        >>> len(objects) == int(labels.max())
        True
        """
        unknown = sorted(set(thresholds) - set(PredictOptions.__annotations__))
        if unknown:
            known = ", ".join(PredictOptions.__annotations__)
            raise TypeError(
                f"predict has no option {unknown[0]!r}; its options are min_area, tile, pixel_size, rescale, "
                f"precision, threads, memory, {known}"
            )
        values: dict[str, float | None] = {}
        for name in ("prob_thresh", "nms_thresh", "flow_threshold", "cellprob_threshold", "diameter"):
            value = thresholds.get(name)
            values[name] = None if value is None else _arrays.number(name, value)
        if isinstance(image, (list, tuple)) and image and np.ndim(image[0]) >= 2:
            raise ImageError(
                f"image: a list of {counted(len(image), 'image')}; predict takes one, so call it for each: "
                "[model.predict(image) for image in images]"
            )
        labels, (ids, polygons, probabilities, classes), notes = self._model.predict(
            _arrays.image(image),
            min_area=_arrays.number("min_area", min_area),
            tile=None if tile is None else _arrays.whole("tile", tile),
            augment=bool(thresholds.get("augment", False)),
            postprocess=thresholds.get("postprocess"),
            pixel_size=_arrays.pixel_size(pixel_size),
            rescale=bool(rescale),
            device=self.device,
            precision=precision,
            threads=None if threads is None else _arrays.whole("threads", threads, 1, 1024),
            memory=None if memory is None else str(memory),
            **values,
        )
        for note in notes:
            warnings.warn(note, ResultWarning, stacklevel=2)
        return Segmentation(labels, Objects(map(Object, ids, polygons, probabilities, classes), notes))

    def predict_large(
        self,
        image: Any,
        out: Any = None,
        *,
        geojson: str | os.PathLike[str] | None = None,
        csv: str | os.PathLike[str] | None = None,
        callback: Callable[[str, int, int], object] | None = None,
        **options: Any,
    ) -> LargeSegmentation:
        """Segments an image that does not fit into the memory, part by part, with the result of the whole.

        Parameters
        ----------
        image : path, array, or list of arrays
            A TIFF of any size, an OME-Zarr folder, or anything with a shape `[H, W]` or `[H, W, C]` that can be sliced: NumPy, a memory map, zarr,
            dask. A list holds the levels of a pyramid, the largest first.
        out : path or array, optional
            Where labels go: a `.tif` or `.ome.tif` file (tiled, 32 bit, with smaller copies), an `.ome.zarr` folder, or an
            array `[H, W]` that can be written to by slices. Without it, a new NumPy array.
        geojson, csv : path, optional
            Outlines for QuPath, in pixels of level 0; measurements.
        callback : callable, optional
            Called as `callback(phase, done, total)` after every part; returning `False` stops.
        **options
            `level` (0): the level that is segmented, by its number, or by micrometres per pixel like "0.5um" in files that
            tell them; `pixel_size` is that of level 0. `region`: `(left, top, width, height)` or a GeoJSON file, in pixels of
            level 0; objects whose middle lies outside are left out. `skip_empty` (True): leave out parts in which nothing as
            large as a cell stands out. `folder`: keeps finished parts, from which `resume=True` goes on. And those of
            `predict`.

        Returns
        -------
        LargeSegmentation
            `labels`, `n_objects`, `shape`, `pixel_size` and `notes`.

        Raises
        ------
        ImageError, ConfigError, FileError, LimitError, DeviceError, CancelledError
            As `predict`; for finished parts of another run; when the callback returned `False`.

        >>> import cellsparse as cs
        >>> model = cs.StarDist(n_rays=8, n_filter_base=4, n_depth=1)
        >>> image = cs.synthetic.field(seed=1, shape=(96, 80)).image
        >>> found = model.predict_large(image)
        >>> found.shape == image.shape[:2] and found.n_objects == int(found.labels.max())
        True
        """
        return _large.predict(self, image, out, geojson, csv, callback, options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model to one file: weights, configuration, thresholds, history, and the optimiser's state.

        The file is the old one or the new one, never half. It is read without executing anything.

        Raises
        ------
        IoError, NotFoundError
            When it cannot be written; when its folder does not exist.

        >>> import cellsparse as cs, tempfile
        >>> path = tempfile.mkdtemp() + "/cells.safetensors"
        >>> cs.StarDist(n_rays=8, n_filter_base=4, n_depth=1).save(path)
        >>> cs.load(path).n_rays
        8
        """
        self._model.save(os.fspath(path))

    def reset(self, seed: int = 0) -> None:
        """Forgets everything learned: new initial weights from `seed`, default thresholds, no history.

        >>> import cellsparse as cs
        >>> model = cs.StarDist(n_rays=8, n_filter_base=4, n_depth=1)
        >>> model.reset(seed=1)
        >>> model.steps
        0
        """
        number = _arrays.whole("seed", seed)
        self._model.reset(number)
        self._seed = number

    def info(self) -> dict[str, Any]:
        """Everything that can be said about the model without running it.

        >>> import cellsparse as cs
        >>> sorted(cs.Cellpose(widths=[4, 8]).info())
        ['algorithm', 'cell_diameter', 'cell_diameter_um', 'config', 'loss', 'normalization', 'parameters', 'pixel_size', 'resumable', 'steps', 'thresholds']
        """
        info: dict[str, Any] = json.loads(self._model.info())
        names = _THRESHOLDS[info["algorithm"]]
        stored = info["thresholds"][info["algorithm"]]
        info["thresholds"] = {name: stored[key] for name, key in names.items()}
        return info

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments that make a model like this one: those of the architecture, and `seed`, `device` and `init`.

        As in scikit-learn, `type(model)(**model.get_params())` is an untrained model with the same settings. `deep` is
        for scikit-learn and changes nothing.

        >>> import cellsparse as cs
        >>> model = cs.Elephant(widths=[4, 8], seed=3)
        >>> model.get_params()
        {'n_channels': 1, 'widths': [4, 8], 'residual': False, 'seed': 3, 'device': 'auto', 'init': 'starter'}
        >>> cs.Elephant(**model.get_params()).info() == model.info()
        True
        """
        return {**self.config, "seed": self._seed, "device": self.device, "init": self._init}

    @property
    def algorithm(self) -> str:
        """`stardist`, `cellpose` or `elephant`."""
        return str(self.info()["algorithm"])

    @property
    def config(self) -> dict[str, Any]:
        """The architecture: the arguments that the model was made with."""
        return dict(self.info()["config"])

    @property
    def n_channels(self) -> int:
        """Channels of the images."""
        return int(self.config["n_channels"])

    @property
    def n_parameters(self) -> int:
        """Number of weights."""
        return int(self.info()["parameters"])

    @property
    def steps(self) -> int:
        """Optimiser steps of all trainings."""
        return int(self.info()["steps"])

    @property
    def history(self) -> History:
        """Losses and learning rates of all trainings."""
        return History(json.loads(self._model.history()))

    @property
    def thresholds(self) -> dict[str, float]:
        """What `predict` takes unless it is told otherwise; can be set, also in part.

        >>> import cellsparse as cs
        >>> model = cs.StarDist(n_rays=8, n_filter_base=4, n_depth=1)
        >>> model.thresholds = {"prob_thresh": 0.25}
        >>> model.thresholds["prob_thresh"]
        0.25
        """
        return dict(self.info()["thresholds"])

    @thresholds.setter
    def thresholds(self, values: Mapping[str, float]) -> None:
        info = self.info()
        names = _THRESHOLDS[info["algorithm"]]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise ConfigError(
                f"option: {unknown[0]} is not a threshold of {info['algorithm']}; they are {', '.join(names)}"
            )
        merged = {**info["thresholds"], **{name: _arrays.number(name, value) for name, value in values.items()}}
        for name, value in merged.items():
            if not np.isfinite(value):
                raise ConfigError(f"option: {name} is {value}; give a number")
        self._model.set_thresholds(json.dumps({names[name]: value for name, value in merged.items()}))

    @property
    def normalization(self) -> tuple[float, float]:
        """Percentiles of every image, channel by channel, that become 0 and 1; can be set before training."""
        stored = self.info()["normalization"]
        return stored["pmin"], stored["pmax"]

    @normalization.setter
    def normalization(self, percentiles: tuple[float, float]) -> None:
        low, high = percentiles
        self._model.set_normalization(_arrays.number("pmin", low), _arrays.number("pmax", high))

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """Height and width in micrometres of a pixel of the training images, if known; can be set, also to one number.

        >>> import cellsparse as cs
        >>> model = cs.StarDist(n_rays=8, n_filter_base=4, n_depth=1)
        >>> model.pixel_size = 0.5
        >>> model.pixel_size
        (0.5, 0.5)
        """
        size = self.info()["pixel_size"]
        return None if size is None else (size[0], size[1])

    @pixel_size.setter
    def pixel_size(self, size: float | tuple[float, float] | None) -> None:
        self._model.set_pixel_size(_arrays.pixel_size(size))

    def __copy__(self) -> Self:
        return type(self)._wrap(self._model.copy(), self._seed, self.device, self._init)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._model.to_bytes(), self._seed, self.device, self._init)

    def __repr__(self) -> str:
        info = self.info()
        config = ", ".join(f"{name}={value!r}" for name, value in info["config"].items() if value is not None)
        return f"{type(self).__name__}({config}, steps={info['steps']}, device={self.device!r})"

    def _repr_html_(self) -> str:
        from ._html import curve, table

        info, history = self.info(), self.history
        facts = [(name, str(value)) for name, value in info["config"].items() if value is not None]
        facts.append(("parameters", f"{info['parameters']:,}"))
        facts.append(("normalization", "percentiles {} to {}".format(*self.normalization)))
        facts += [(name, f"{value:.4g}") for name, value in info["thresholds"].items()]
        facts.append(("steps", str(info["steps"])))
        facts.append(("device", self.device))
        return table(type(self).__name__, facts) + curve(history.steps, history.loss)


def _restore(cls: type[AnyModel], content: bytes, seed: int, device: str, init: str = "starter") -> AnyModel:
    return cls._wrap(_native.Model.from_bytes(content), seed, device, init)
