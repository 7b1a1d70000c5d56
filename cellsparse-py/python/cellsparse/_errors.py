"""Exceptions: one class for each kind of error, which is also the built-in that a caller expects."""

from __future__ import annotations

__all__ = [
    "AccessError",
    "AnnotationWarning",
    "BusyError",
    "CancelledError",
    "CellsparseError",
    "ConfigError",
    "DeviceError",
    "DivergedError",
    "FileError",
    "ImageError",
    "InternalError",
    "IoError",
    "LabelsError",
    "LimitError",
    "NotFoundError",
    "ResultWarning",
    "WeightsError",
]


class CellsparseError(Exception):
    """Any error of this package. The message says what was found, what was expected and what to do.

    >>> import cellsparse as cs
    >>> try:
    ...     cs.load("no such file.safetensors")
    ... except cs.CellsparseError as error:
    ...     print(error)
    [Errno 2] no such file or folder: 'no such file.safetensors'
    """


class ImageError(CellsparseError, ValueError):
    """An image has an unusable shape, type or content."""


class LabelsError(CellsparseError, ValueError):
    """A label image or an annotation is unusable."""


class ConfigError(CellsparseError, ValueError):
    """An option is outside its range, or belongs to another algorithm."""


class NotFoundError(CellsparseError, FileNotFoundError):
    """A file or folder does not exist; `filename` is its path."""


class IoError(CellsparseError, OSError):
    """The operating system refused to read or write; `errno` and `filename` say what and where."""


class AccessError(IoError, PermissionError):
    """The operating system refused for lack of rights."""


class FileError(CellsparseError, OSError, ValueError):
    """A file exists and cannot be used: damaged, of another format or of another version."""


class WeightsError(CellsparseError, ValueError):
    """Weights do not fit the network that they are meant for."""


class LimitError(CellsparseError, MemoryError):
    """The work would exceed a limit on memory, pixels or objects; nothing was allocated."""


class DeviceError(CellsparseError, RuntimeError):
    """A device is absent or failed."""


class DivergedError(CellsparseError, ArithmeticError):
    """Training produced a value that is not finite; the model is as it was before the training."""


class CancelledError(CellsparseError, RuntimeError):
    """Work was stopped before there was a result."""


class BusyError(CellsparseError, RuntimeError):
    """The model is being trained by another call, so it cannot be trained, reset or changed now."""


class InternalError(CellsparseError, RuntimeError):
    """A defect of this library; please report it, with the message."""


class AnnotationWarning(UserWarning):
    """Training goes on, but the annotations could be better; the message says how."""


class ResultWarning(UserWarning):
    """What a user should know of a result: nothing was found and why, an image was seen scaled, weights were not kept."""
