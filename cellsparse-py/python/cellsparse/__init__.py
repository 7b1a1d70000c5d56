"""Cell segmentation networks trained from sparse labels.

Draw a handful of cells and a few strokes of background, train for a minute, segment the rest:

>>> import cellsparse as cs
>>> field = cs.synthetic.field(seed=1, shape=(96, 96))        # a drawn microscope image with its annotation
>>> model = cs.StarDist(n_rays=8, n_filter_base=4, n_depth=1, net_conv_after_unet=8)
>>> history = model.train(field.image, field.annotation, steps=2, patch_size=32, progress=False)
>>> labels, objects = model.predict(field.image)
>>> labels.shape, labels.dtype
((96, 96), dtype('int32'))

Conventions: images are `[H, W]` or `[H, W, C]`, of any bool, integer or floating-point dtype. Label images are `[H, W]`:
below 0 unlabelled, 0 background, 1 and up cells; ids need not be consecutive. Positions are row, column (`y, x`), pixel
centres lie at whole numbers. Errors are subclasses of `CellsparseError` and of the built-in exception one expects.

Every function may be called from many threads; while it works, other Python threads go on. An array must not be written
to while a call reads it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._errors import (
    AccessError,
    AnnotationWarning,
    BusyError,
    CancelledError,
    CellsparseError,
    ConfigError,
    DeviceError,
    DivergedError,
    FileError,
    ImageError,
    InternalError,
    IoError,
    LabelsError,
    LimitError,
    NotFoundError,
    ResultWarning,
    WeightsError,
)
from ._native import __version__

if TYPE_CHECKING:
    from . import cellpose, distributed, elephant, metrics, plot, sam, stardist, synthetic
    from ._algorithms import Cellpose, Choice, Elephant, StarDist, choose_algorithm, load
    from ._files import (
        ImageInfo,
        convert,
        image_info,
        read_annotations,
        read_image,
        read_labels,
        write_labels,
        write_rois,
    )
    from ._functions import (
        distance_transform_edt,
        measure,
        normalize,
        remove_small_labels,
        sparsify,
        starters,
        to_geojson,
        watershed,
    )
    from ._history import History, TrainingEvent
    from ._large import LargeSegmentation
    from ._models import Model
    from ._results import Object, Objects, Segmentation
    from .synthetic import draw_world

# Loaded when first used: NumPy takes longer to import than this package may.
_MODULES = ("cellpose", "distributed", "elephant", "metrics", "plot", "sam", "stardist", "synthetic")
_NAMES = {
    "_algorithms": ("Cellpose", "Choice", "Elephant", "StarDist", "choose_algorithm", "load"),
    "_files": (
        "ImageInfo",
        "convert",
        "image_info",
        "read_annotations",
        "read_image",
        "read_labels",
        "write_labels",
        "write_rois",
    ),
    "_functions": (
        "distance_transform_edt",
        "measure",
        "normalize",
        "remove_small_labels",
        "sparsify",
        "starters",
        "to_geojson",
        "watershed",
    ),
    "_history": ("History", "TrainingEvent"),
    "_large": ("LargeSegmentation",),
    "_models": ("Model",),
    "_results": ("Object", "Objects", "Segmentation"),
    "synthetic": ("draw_world",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "AccessError",
    "AnnotationWarning",
    "BusyError",
    "CancelledError",
    "Cellpose",
    "CellsparseError",
    "Choice",
    "ConfigError",
    "DeviceError",
    "DivergedError",
    "Elephant",
    "FileError",
    "History",
    "ImageError",
    "ImageInfo",
    "InternalError",
    "IoError",
    "LabelsError",
    "LargeSegmentation",
    "LimitError",
    "Model",
    "NotFoundError",
    "Object",
    "Objects",
    "ResultWarning",
    "Segmentation",
    "StarDist",
    "TrainingEvent",
    "WeightsError",
    "__version__",
    "cellpose",
    "choose_algorithm",
    "distance_transform_edt",
    "distributed",
    "draw_world",
    "elephant",
    "image_info",
    "load",
    "measure",
    "metrics",
    "normalize",
    "plot",
    "read_image",
    "read_annotations",
    "read_labels",
    "remove_small_labels",
    "sam",
    "sparsify",
    "stardist",
    "starters",
    "synthetic",
    "to_geojson",
    "watershed",
    "write_labels",
    "write_rois",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _HOME:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
