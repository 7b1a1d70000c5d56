"""Scores of predicted objects, with the names and fields of `stardist.matching`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, overload

from numpy.typing import ArrayLike

from . import _arrays, _native
from ._errors import LabelsError

__all__ = ["DatasetMatching", "Matching", "MatchingWithPairs", "matching", "matching_dataset"]


class Matching(NamedTuple):
    """Counts and scores of one pair of label images at one threshold.

    >>> import cellsparse as cs
    >>> cs.metrics.matching([[1, 0], [1, 2]], [[5, 0], [5, 0]])._asdict()["fn"]
    1
    """

    criterion: str
    """How agreement is measured: `iou`, `iot` or `iop`."""
    thresh: float
    """Agreement from which a pair counts as matched (inclusive)."""
    fp: int
    """Predicted objects without a partner."""
    tp: int
    """Matched pairs."""
    fn: int
    """True objects without a partner."""
    precision: float
    """`tp / (tp + fp)`, 0 without true positives."""
    recall: float
    """`tp / (tp + fn)`."""
    accuracy: float
    """`tp / (tp + fp + fn)`, also called average precision."""
    f1: float
    """`2 tp / (2 tp + fp + fn)`."""
    n_true: int
    """True objects."""
    n_pred: int
    """Predicted objects."""
    mean_true_score: float
    """Sum of the agreement of the matched pairs over `n_true`."""
    mean_matched_score: float
    """Sum of the agreement of the matched pairs over `tp`."""
    panoptic_quality: float
    """Sum of the agreement of the matched pairs over `tp + fp / 2 + fn / 2`."""


class MatchingWithPairs(NamedTuple):
    """As `Matching`, with the assigned pairs (`report_matches=True`).

    >>> import cellsparse as cs
    >>> cs.metrics.matching([[1, 2]], [[7, 8]], report_matches=True).matched_pairs
    ((1, 7), (2, 8))
    """

    criterion: str
    thresh: float
    fp: int
    tp: int
    fn: int
    precision: float
    recall: float
    accuracy: float
    f1: float
    n_true: int
    n_pred: int
    mean_true_score: float
    mean_matched_score: float
    panoptic_quality: float
    matched_pairs: tuple[tuple[int, int], ...]
    """Ids in `y_true` and `y_pred` of the assigned pairs that share pixels."""
    matched_scores: tuple[float, ...]
    """Their agreement."""
    matched_tps: tuple[int, ...]
    """Places in the list of those that reach the threshold."""


class DatasetMatching(NamedTuple):
    """As `Matching`, over several images.

    >>> import cellsparse as cs
    >>> cs.metrics.matching_dataset([[[1, 2]]], [[[7, 7]]]).by_image
    False
    """

    criterion: str
    thresh: float
    fp: int
    tp: int
    fn: int
    precision: float
    recall: float
    accuracy: float
    f1: float
    n_true: int
    n_pred: int
    mean_true_score: float
    mean_matched_score: float
    panoptic_quality: float
    by_image: bool
    """Whether scores are means of the images' scores instead of scores of the summed counts."""


def _fields(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in Matching._fields}


def _one(result: dict[str, Any]) -> Matching | MatchingWithPairs:
    pairs = result.get("matches")
    if pairs is None:
        return Matching(**_fields(result))
    return MatchingWithPairs(
        **_fields(result),
        matched_pairs=tuple((pair["true_id"], pair["pred_id"]) for pair in pairs),
        matched_scores=tuple(pair["score"] for pair in pairs),
        matched_tps=tuple(place for place, pair in enumerate(pairs) if pair["is_true_positive"]),
    )


@overload
def matching(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    thresh: float = 0.5,
    criterion: Literal["iou", "iot", "iop"] = "iou",
    report_matches: Literal[False] = False,
) -> Matching: ...


@overload
def matching(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    thresh: float = 0.5,
    criterion: Literal["iou", "iot", "iop"] = "iou",
    *,
    report_matches: Literal[True],
) -> MatchingWithPairs: ...


@overload
def matching(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    thresh: Sequence[float],
    criterion: Literal["iou", "iot", "iop"] = "iou",
    report_matches: bool = False,
) -> tuple[Matching | MatchingWithPairs, ...]: ...


def matching(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    thresh: float | Sequence[float] = 0.5,
    criterion: Literal["iou", "iot", "iop"] = "iou",
    report_matches: bool = False,
) -> Matching | MatchingWithPairs | tuple[Matching | MatchingWithPairs, ...]:
    """Compares two label images object by object, with the assignment that is best overall.

    Parameters
    ----------
    y_true, y_pred : [H, W]
        Label images. Pixels that are unlabelled (below 0) in `y_true` are left out of both.
    thresh : float or sequence of float
        Agreement from which a pair is a true positive.
    criterion : {"iou", "iot", "iop"}
        Intersection over union, over the true, or over the predicted object.
    report_matches : bool
        Whether the result holds the assigned pairs.

    Returns
    -------
    Matching, MatchingWithPairs, or a tuple of them
        A tuple for several thresholds.

    Raises
    ------
    LabelsError, ConfigError
        For unusable labels or different sizes; for an unknown criterion or a threshold that is not a number.

    >>> import cellsparse as cs
    >>> result = cs.metrics.matching([[1, 1, 0], [0, 0, 2]], [[4, 4, 0], [0, 0, 0]])
    >>> result.tp, result.fn, result.accuracy
    (1, 1, 0.5)
    """
    values, single = _arrays.thresholds(thresh)
    true, pred = _arrays.labels(y_true, "y_true"), _arrays.labels(y_pred, "y_pred")
    results = tuple(map(_one, json.loads(_native.matching(true, pred, values, criterion, bool(report_matches)))))
    return results[0] if single else results


@overload
def matching_dataset(
    y_true: Sequence[ArrayLike] | ArrayLike,
    y_pred: Sequence[ArrayLike] | ArrayLike,
    thresh: float = 0.5,
    criterion: Literal["iou", "iot", "iop"] = "iou",
    by_image: bool = False,
) -> DatasetMatching: ...


@overload
def matching_dataset(
    y_true: Sequence[ArrayLike] | ArrayLike,
    y_pred: Sequence[ArrayLike] | ArrayLike,
    thresh: Sequence[float],
    criterion: Literal["iou", "iot", "iop"] = "iou",
    by_image: bool = False,
) -> tuple[DatasetMatching, ...]: ...


def matching_dataset(
    y_true: Sequence[ArrayLike] | ArrayLike,
    y_pred: Sequence[ArrayLike] | ArrayLike,
    thresh: float | Sequence[float] = 0.5,
    criterion: Literal["iou", "iot", "iop"] = "iou",
    by_image: bool = False,
) -> DatasetMatching | tuple[DatasetMatching, ...]:
    """Compares the label images of a data set pair by pair; all objects are counted together.

    Parameters
    ----------
    y_true, y_pred : sequences of [H, W], or [N, H, W]
        Label images, as many of each.
    thresh : float or sequence of float
        Agreement from which a pair is a true positive.
    criterion : {"iou", "iot", "iop"}
        As in `matching`.
    by_image : bool
        Whether to take the mean of the images' scores instead of the scores of the summed counts.

    Returns
    -------
    DatasetMatching, or a tuple of them
        A tuple for several thresholds.

    Raises
    ------
    LabelsError, ConfigError
        As `matching`.

    >>> import cellsparse as cs
    >>> scores = cs.metrics.matching_dataset([[[1, 2]], [[1, 0]]], [[[1, 2]], [[0, 0]]], thresh=[0.5, 0.9])
    >>> [round(score.recall, 2) for score in scores]
    [0.67, 0.67]
    """
    values, single = _arrays.thresholds(thresh)
    true = [_arrays.labels(item, f"y_true[{k}]") for k, item in enumerate(_arrays.label_images(y_true))]
    pred = [_arrays.labels(item, f"y_pred[{k}]") for k, item in enumerate(_arrays.label_images(y_pred))]
    if len(true) != len(pred):
        raise LabelsError(f"labels: {len(true)} true and {len(pred)} predicted label images; give as many of each")
    raw = json.loads(_native.matching_dataset(true, pred, values, criterion, bool(by_image)))
    results = tuple(DatasetMatching(**_fields(result), by_image=result["by_image"]) for result in raw)
    return results[0] if single else results
