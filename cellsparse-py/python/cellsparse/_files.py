"""Image files, so that nothing else has to be installed for PNG, TIFF and JPEG."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arrays, _native
from ._errors import AnnotationWarning, ConfigError
from ._results import Object, known


def read_image(
    path: str | os.PathLike[str],
    *,
    channels: Sequence[int] | None = None,
    plane: int | None = None,
    frame: int | None = None,
) -> NDArray[Any]:
    """An image file (PNG, TIFF, JPEG) as `[H, W]` or `[H, W, C]` of uint8, uint16 or float32.

    Pages of a TIFF are channels where its metadata (ImageJ, OME-XML, tifffile's axes) says so. Transparency is dropped; what
    is left out or changed is said in a warning.

    Parameters
    ----------
    path : str or path
    channels : sequence of int, optional
        The channels in the order wanted, **counted from 1** as ImageJ does; without it all but transparency. In a TIFF that
        does not tell what its pages are, pages.
    plane, frame : int, optional
        The plane (Z) and time point (T) of a stack, counted from 1. In a TIFF that does not tell what its pages are, `plane`
        is a page.

    Raises
    ------
    NotFoundError, IoError, FileError, LimitError
        When the file is absent, unreadable, not an image of these formats, or too large; a stack of which no plane was chosen.

    >>> import cellsparse as cs, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> path = cs.write_labels(folder + "/cells.png", [[0, 1], [2, 3]])
    >>> cs.read_image(path)
    array([[0, 1],
           [2, 3]], dtype=uint16)
    """
    chosen = None if channels is None else [_number("channels", channel) for channel in channels]
    numbers = [None if n is None else _number(name, n) for name, n in (("plane", plane), ("frame", frame))]
    pixels, _, notes = _native.read_image(os.fspath(path), chosen, *numbers)
    for note in notes:
        warnings.warn(f"{os.fspath(path)}: {note}", stacklevel=2)
    return pixels


def _number(name: str, value: int) -> int:
    number = operator.index(value)
    if number < 1:
        raise ConfigError(f"option: {name} has {number}; channels, planes and frames are counted from 1")
    return number


class ImageInfo(NamedTuple):
    """What the header of an image file tells.

    Examples
    --------
    >>> import cellsparse as cs
    >>> cs.ImageInfo(planes=1, frames=3, pixel_size=(0.5, 0.5)).frames
    3
    """

    planes: int
    """Planes (Z); of a TIFF that does not tell what its pages are, pages."""
    frames: int
    """Time points (T)."""
    pixel_size: tuple[float, float] | None
    """Height and width of a pixel in micrometres, if they are told."""


def image_info(path: str | os.PathLike[str]) -> ImageInfo:
    """Planes, time points and pixel size of an image file, without reading its pixels.

    Raises
    ------
    NotFoundError, IoError, FileError, LimitError
        As `read_image`.

    >>> import cellsparse as cs, tempfile
    >>> path = cs.write_labels(tempfile.mkdtemp() + "/cells.ome.tif", [[0, 1], [2, 3]], pixel_size=0.5)
    >>> cs.image_info(path)
    ImageInfo(planes=1, frames=1, pixel_size=(0.5, 0.5))
    """
    return ImageInfo(*_native.image_info(os.fspath(path)))


def read_labels(
    path: str | os.PathLike[str],
    label_encoding: Literal["auto", "wire", "cells", "dense", "signed"] | None = None,
    *,
    plane: int | None = None,
    frame: int | None = None,
) -> NDArray[np.int32]:
    """A label file (PNG or TIFF) as int32 `[H, W]`: below 0 unlabelled, 0 background, 1 and up cells.

    The number that is stored counts: the index of a colour table, not its colour; "0 is white" is not turned around; signed
    numbers that ImageJ stored as unsigned ones are signed again.

    Parameters
    ----------
    path : str or path
    label_encoding : {"auto", "wire", "cells", "dense", "signed"}, optional
        What the numbers mean. `wire`: 0 unlabelled, 1 background, 2 and up cells, as the sparse labels that QuPath writes
        for cellsparse; `cells`: 0 unlabelled, 1 and up cells, no background; `dense`: 0 background, 1 and up cells;
        `signed`: below 0 unlabelled; `auto`: what the values and shapes say. With one of them the labels are checked as
        those for training are; by default the values are returned as they are.
    plane, frame : int, optional
        Of a stack, counted from 1. A file with one plane is read whatever they are.

    Raises
    ------
    NotFoundError, IoError, FileError, LimitError
        When the file is absent, unreadable, not a label file, or contradicts the encoding.

    >>> import cellsparse as cs, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> path = cs.write_labels(folder + "/sparse.png", [[-1, 0], [3, 3]], label_encoding="wire")
    >>> cs.read_labels(path).tolist(), cs.read_labels(path, "wire").tolist()
    ([[0, 1], [4, 4]], [[-1, 0], [3, 3]])
    """
    numbers = [None if n is None else _number(name, n) for name, n in (("plane", plane), ("frame", frame))]
    return _native.read_labels(os.fspath(path), label_encoding, *numbers)


def read_annotations(
    path: str | os.PathLike[str],
    shape: tuple[int, int] | None = None,
    *,
    label_encoding: Literal["auto", "wire", "cells", "dense", "signed"] = "auto",
    image: str | None = None,
    foreground: str | None = None,
    background: str | None = None,
    plane: int | None = None,
    frame: int | None = None,
) -> NDArray[np.int32]:
    """The annotations of one image as int32 `[H, W]`: below 0 unlabelled, 0 background, 1 and up cells.

    Takes label images (PNG, TIFF, `.npy`, HDF5 of ilastik), GeoJSON of QuPath, `.roi` and `RoiSet.zip` of ImageJ, `_seg.npy` and `_masks` of
    Cellpose, JSON of COCO and LabelMe, and folders of `.roi` files. A drawn shape takes the pixels whose centres lie inside;
    what was not drawn is unlabelled.

    Parameters
    ----------
    path : str or path
    shape : (rows, columns), optional
        Of the image. Without it as the file says, or as far as its shapes reach.
    label_encoding : {"auto", "wire", "cells", "dense", "signed"}
        What the numbers of a label image mean; see `read_labels`. With `dense`, what was not drawn is background.
    image : str, optional
        File name of the image, in a COCO file for several.
    foreground, background : str, optional
        The classes of cells and of background. By default `Foreground` (in GeoJSON; otherwise everything else) and
        `Background`. Classes derived from them count too, such as `Foreground: Positive`.
    plane, frame : int, optional
        Of a stack of labels, and of shapes that were drawn on several planes or time points, counted from 1. Labels of one
        plane are read whatever they are.

    Returns
    -------
    [H, W] of int32
        Labels to train with.

    Raises
    ------
    NotFoundError, IoError, FileError, LimitError
        When the file is absent, unreadable, of no known kind, without anything to use, or too large.

    Warns
    -----
    AnnotationWarning
        For what was not used, such as points and other classes.

    >>> import cellsparse as cs, json, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.geojson"
    >>> path.write_text(json.dumps(cs.to_geojson([[0, 7, 7]]))) > 0
    True
    >>> cs.read_annotations(path, (2, 3)).tolist()
    [[-1, 1, 1], [-1, -1, -1]]
    """
    size = None if shape is None else _arrays.two("shape", shape, 1)
    numbers = [None if n is None else _number(name, n) for name, n in (("plane", plane), ("frame", frame))]
    labels, unused = _native.read_annotations(os.fspath(path), size, label_encoding, image, foreground, background, *numbers)
    for what in unused:
        warnings.warn(f"not used of {os.fspath(path)}: {what}", AnnotationWarning, stacklevel=2)
    return labels


def write_labels(
    path: str | os.PathLike[str],
    labels: ArrayLike,
    label_encoding: Literal["dense", "wire"] = "dense",
    pixel_size: float | tuple[float, float] | None = None,
) -> Path:
    """Writes a label image as 16-bit PNG, or as 32-bit TIFF when an id exceeds 65,535. ImageJ and QuPath read both.

    Parameters
    ----------
    path : str or path
        With the ending `.ome.tif` or `.ome.tiff`, an OME-TIFF of 16 or 32 bit is written; other endings are replaced by
        that of the format. An existing file is replaced as a whole.
    labels : [H, W]
    label_encoding : {"dense", "wire"}
        `dense` cannot hold unlabelled pixels, `wire` can; see `read_labels`. An OME-TIFF is always `dense`.
    pixel_size : float or (height, width), optional
        Of a pixel in micrometres, for an OME-TIFF.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    LabelsError, ConfigError, IoError, NotFoundError
        For unlabelled pixels in a dense file; for a pixel size that the file cannot hold; when the file cannot be written.

    >>> import cellsparse as cs, tempfile
    >>> cs.write_labels(tempfile.mkdtemp() + "/cells", [[0, 70000]]).suffix
    '.tif'
    """
    if label_encoding not in ("dense", "wire"):
        raise ConfigError(f"option: label_encoding is {label_encoding!r}; labels are written as dense or wire")
    target = Path(path)
    size = _arrays.pixel_size(pixel_size)
    if target.name.lower().endswith((".ome.tif", ".ome.tiff")):
        if label_encoding != "dense":
            raise ConfigError("option: an OME-TIFF of labels is always dense; write wire labels as .png or .tif")
        name = target.name[: target.name.lower().rindex(".ome.")]
        _native.write_ome_labels(os.fspath(target), name, _arrays.labels(labels), size)
        return target
    if size is not None:
        raise ConfigError("option: pixel_size is for OME-TIFF files; give a path that ends in .ome.tif")
    stem = target.stem if target.suffix.lower() in (".png", ".tif", ".tiff") else target.name
    array = _arrays.labels(labels)
    return Path(_native.write_labels(os.fspath(target.parent), stem, array, label_encoding == "wire"))


def write_rois(
    path: str | os.PathLike[str],
    labels: ArrayLike,
    objects: Iterable[Object] | None = None,
    simplify: float | None = None,
) -> Path:
    """Writes the outlines of a label image as a zip archive of regions that ImageJ's and Fiji's ROI Manager open.

    Parameters
    ----------
    path : str or path
        By custom it ends in `.zip`; an existing file is replaced as a whole.
    labels : [H, W]
        Values above 0 are cells. Each becomes a polygon, or a composite region when it has holes or several parts, and
        covers the same pixels. It is named `ID-Y-X`.
    objects : iterable of Object, optional
        Their probabilities and classes are written as properties of the regions.
    simplify : float, optional
        Tolerance in pixels, as of `to_geojson`.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    LabelsError, ConfigError, LimitError, IoError, NotFoundError
        For unusable labels; for a negative tolerance; above 65,534 cells; when the file cannot be written.

    >>> import cellsparse as cs, tempfile
    >>> cs.write_rois(tempfile.mkdtemp() + "/cells.zip", [[0, 1], [2, 2]]).name
    'cells.zip'
    """
    tolerance = 0.0 if simplify is None else _arrays.number("simplify", simplify)
    if not 0 <= tolerance < float("inf"):
        raise ConfigError(f"option: simplify is {tolerance}; expected a tolerance in pixels, 0 or more")
    _native.write_rois(os.fspath(path), _arrays.labels(labels), known(objects), tolerance)
    return Path(path)


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    config: str | os.PathLike[str] | None = None,
) -> list[str]:
    """Turns a model of one program into one of another.

    Parameters
    ----------
    source : path
        Its content says what it is: a model of cellsparse, a model of StarDist (folder, `.zip`, `.h5` beside its `config.json`,
        package of bioimage.io, `TF_SavedModel.zip` or frozen `.pb` of TensorFlow), weights of Cellpose 2 or 3 or elephant-core
        (PyTorch or safetensors).
    target : path
        Its ending says what is written: `.safetensors` (a model of cellsparse), `.pth` (PyTorch), `.onnx`, `.zip` (package of
        bioimage.io); of networks of StarDist also no ending or `/` (folder of its package), `SavedModel.zip` (TensorFlow, Fiji) and
        `.pb` (frozen graph of TensorFlow, QuPath).
    config : path, optional
        A JSON file with what the source does not tell: `config.json` of StarDist, `normalization` (`{"pmin", "pmax"}`),
        `diameter`, `pixel_size`; for packages `package` (`{"name", "description", "authors", "license", "training_data"}`);
        for ONNX `onnx` (`{"normalization": "inside"}`: the network scales intensities itself; otherwise `"metadata"`).

    Returns
    -------
    list of str
        What you should know: what was chosen, left out or taken for granted.

    Raises
    ------
    NotFoundError, IoError, FileError, LimitError
        When a file is absent, unreadable, damaged, too large or of a kind that is not converted.
    WeightsError, ConfigError
        For networks that cellsparse or the other program does not have, and settings out of range.

    >>> import cellsparse as cs, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> cs.Elephant(widths=[4, 8]).save(folder + "/nuclei.safetensors")
    >>> cs.convert(folder + "/nuclei.safetensors", folder + "/nuclei.onnx")
    []
    """
    return _native.convert(os.fspath(source), os.fspath(target), None if config is None else os.fspath(config))
