from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "__version__",
    "Dataset",
    "Model",
    "Sam",
    "SamEmbedding",
    "predict_large",
    "is_large",
    "large_plan",
    "large_blocks",
    "large_keep",
    "geojson",
    "sparsify",
    "remove_small_labels",
    "normalize",
    "choose_algorithm",
    "starters",
    "convert",
    "watershed",
    "distance_transform_edt",
    "class_labels",
    "overlay",
    "image_info",
    "read_image",
    "read_annotations",
    "read_labels",
    "write_labels",
    "measure",
    "write_rois",
    "write_ome_labels",
    "matching",
    "matching_dataset",
    "edt_prob",
    "star_dist",
    "non_maximum_suppression",
    "dist_to_coord",
    "polygons_to_label",
    "masks_to_flows",
    "follow_flows",
    "compute_masks",
    "fill_holes_and_remove_small_masks",
    "field",
    "draw_world",
]

__version__: str

_Array = NDArray[Any]
_Objects = tuple[list[int], list[NDArray[np.float32]], list[float], list[int | None]]

@final
class Dataset:
    def __new__(
        cls,
        images: list[Any],
        labels: list[Any],
        encoding: str,
        classes: list[dict[int, int | None]] | None,
        pixel_sizes: list[tuple[float, float] | None] | None,
        patch: int | None,
        memory: str | None,
        level: str | None,
    ) -> Dataset: ...
    def advice(self) -> list[str]: ...
    def encoding(self) -> tuple[str, str, str]: ...
    def notes(self) -> tuple[list[str], list[str]]: ...
    def channels(self) -> int: ...
    def __len__(self) -> int: ...

@final
class Model:
    @staticmethod
    def create(architecture: str, seed: int) -> Model: ...
    @staticmethod
    def load(path: str) -> Model: ...
    def save(self, path: str) -> None: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(bytes: bytes) -> Model: ...
    def copy(self) -> Model: ...
    def reset(self, seed: int) -> None: ...
    def info(self) -> str: ...
    def history(self) -> str: ...
    def set_thresholds(self, thresholds: str) -> None: ...
    def set_normalization(self, pmin: float, pmax: float) -> None: ...
    def set_pixel_size(self, size: tuple[float, float] | None) -> None: ...
    def train(
        self,
        data: Dataset,
        validation: Dataset | None,
        *,
        steps: int | None,
        batch_size: int | None,
        patch_size: int | None,
        learning_rate: float | None,
        preset: str,
        init: str,
        time_budget: float | None,
        seed: int,
        resume: bool,
        rescale: bool,
        checkpoint: str | None,
        device: str,
        precision: str,
        threads: int | None,
        memory: str | None,
        observer: Callable[..., bool] | None,
    ) -> str: ...
    def predict(
        self,
        image: _Array,
        *,
        min_area: float,
        tile: int | None,
        prob_thresh: float | None,
        nms_thresh: float | None,
        flow_threshold: float | None,
        cellprob_threshold: float | None,
        diameter: float | None,
        augment: bool,
        postprocess: str | None,
        pixel_size: tuple[float, float] | None,
        rescale: bool,
        device: str,
        precision: str,
        threads: int | None,
        memory: str | None,
    ) -> tuple[NDArray[np.int32], _Objects, list[str]]: ...

_Prompt: TypeAlias = tuple[list[tuple[float, float, bool]], tuple[float, float, float, float] | None]
_Source: TypeAlias = str | tuple[list[tuple[int, int]], int, Callable[[int, int, int, int, int], Any]]

@final
class Sam:
    """In builds with the feature `sam` alone."""

    @staticmethod
    def load(path: str, device: str) -> Sam: ...
    def kind(self) -> str: ...
    def encode(self, image: _Array, memory: str | None) -> SamEmbedding: ...
    def masks(
        self,
        embedding: SamEmbedding,
        prompts: list[_Prompt],
        outputs: str,
        logits: bool,
        memory: str | None,
    ) -> tuple[_Array, NDArray[np.float32], NDArray[np.float32]]: ...
    def encoded(self) -> int: ...
    def part(self, size: tuple[int, int], view: tuple[int, int, int, int] | None, asked: _Prompt) -> list[int]: ...
    def outline(
        self, pixels: _Array, part: list[int], size: tuple[int, int], asked: _Prompt, memory: str | None
    ) -> tuple[float, list[list[int]]]: ...

@final
class SamEmbedding:
    """In builds with the feature `sam` alone."""

    def shape(self) -> list[int]: ...

def is_large(shape: tuple[int, int, int], in_memory: bool, memory: str | None) -> bool: ...
def predict_large(
    model: Model,
    source: _Source,
    given: dict[str, Any],
    *,
    labels: str | None,
    put: Callable[[int, int, Any], None] | None,
    geojson: str | None,
    csv: str | None,
    callback: Callable[[str, int, int], object] | None,
) -> tuple[int, tuple[int, int], tuple[float, float] | None, list[str]]: ...
def large_plan(
    model: Model, source: _Source, given: dict[str, Any]
) -> tuple[str, list[tuple[list[int], tuple[int, int, int, int]]]]: ...
def large_blocks(
    model: Model, source: _Source, given: dict[str, Any], context: str, blocks: list[int]
) -> list[bytes]: ...
def large_keep(folder: str, block: int, bytes: bytes) -> None: ...
def geojson(
    labels: _Array, simplify: float | None, outline: str, objects: list[tuple[int, float | None, str | None]]
) -> str: ...
def sparsify(labels: _Array, image: _Array, k: int, mode: str, background: bool) -> NDArray[np.int32]: ...
def remove_small_labels(labels: _Array, min_area: float, literal: bool) -> NDArray[np.int32]: ...
def choose_algorithm(
    data: Dataset,
    *,
    init: str,
    time_budget: float | None,
    seed: int,
    rescale: bool,
    device: str,
    threads: int | None,
    memory: str | None,
) -> str: ...
def starters() -> list[str]: ...
def convert(source: str, target: str, config: str | None) -> list[str]: ...
def normalize(image: _Array, pmin: float, pmax: float) -> NDArray[np.float32]: ...
def watershed(
    elevation: _Array, markers: _Array, mask: _Array | None, connectivity: int
) -> NDArray[np.int32]: ...
def distance_transform_edt(mask: _Array, sampling: tuple[float, float]) -> NDArray[np.float64]: ...
def class_labels(labels: _Array, center_ratio: float, min_area: int | None) -> NDArray[np.int32]: ...
def overlay(image: _Array, labels: _Array, annotations: _Array | None) -> NDArray[np.uint8]: ...
def image_info(path: str) -> tuple[int, int, tuple[float, float] | None]: ...
def read_image(
    path: str, channels: list[int] | None = None, plane: int | None = None, frame: int | None = None
) -> tuple[_Array, tuple[float, float] | None, list[str]]: ...
def read_annotations(
    path: str,
    shape: tuple[int, int] | None,
    encoding: str,
    image: str | None,
    foreground: str | None,
    background: str | None,
    plane: int | None,
    frame: int | None,
) -> tuple[NDArray[np.int32], list[str]]: ...
def read_labels(
    path: str, encoding: str | None, plane: int | None = None, frame: int | None = None
) -> NDArray[np.int32]: ...
def write_labels(folder: str, stem: str, labels: _Array, wire: bool) -> Path: ...
def measure(
    labels: _Array,
    image: _Array | None,
    objects: list[tuple[int, float | None, str | None]],
    pixel_size: tuple[float, float] | None,
) -> dict[str, Any]: ...
def write_rois(
    path: str, labels: _Array, objects: list[tuple[int, float | None, str | None]], simplify: float
) -> None: ...
def write_ome_labels(path: str, name: str, labels: _Array, pixel_size: tuple[float, float] | None) -> None: ...
def matching(
    y_true: _Array, y_pred: _Array, thresholds: list[float], criterion: str, report_matches: bool
) -> str: ...
def matching_dataset(
    y_true: list[_Array], y_pred: list[_Array], thresholds: list[float], criterion: str, by_image: bool
) -> str: ...
def edt_prob(labels: _Array) -> NDArray[np.float32]: ...
def star_dist(labels: _Array, n_rays: int, grid: tuple[int, int]) -> NDArray[np.float32]: ...
def non_maximum_suppression(
    dist: _Array,
    prob: _Array,
    grid: tuple[int, int],
    border: tuple[tuple[int, int], tuple[int, int]],
    prob_thresh: float,
    nms_thresh: float,
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]: ...
def dist_to_coord(dist: _Array, points: _Array, scale: tuple[float, float]) -> NDArray[np.float32]: ...
def polygons_to_label(
    dist: _Array, points: _Array, shape: tuple[int, int], prob: list[float] | None, scale: tuple[float, float]
) -> NDArray[np.int32]: ...
def masks_to_flows(masks: _Array) -> NDArray[np.float32]: ...
def follow_flows(flows: _Array, steps: int, interpolate: bool) -> NDArray[np.float32]: ...
def compute_masks(
    flows: _Array,
    cellprob: _Array,
    steps: int,
    cellprob_threshold: float,
    flow_threshold: float,
    min_size: int,
    interpolate: bool,
    max_size_fraction: float,
) -> NDArray[np.int32]: ...
def fill_holes_and_remove_small_masks(masks: _Array, min_size: int) -> NDArray[np.int32]: ...
def field(
    seed: int, shape: tuple[int, int], density: float, radius: float, cells: int, strokes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32]]: ...
def draw_world(
    seed: int, size: tuple[int, int], kinds: list[str] | None, channels: str
) -> tuple[_Array, NDArray[np.int32]]: ...
