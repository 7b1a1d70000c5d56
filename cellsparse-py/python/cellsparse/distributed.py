"""Images on several machines, by Dask.

The image is cut into blocks that workers segment on their own, each from the pixels of the block and of what lies around it. What
is taken from the whole image (percentiles, scale, statistics) is measured once; an object belongs to the block that holds its
anchor, and ids are counted when all blocks are there. So the result does not depend on the number of workers, and a block whose
worker was lost is simply segmented again.

Needs `dask` and `distributed` (`pip install dask distributed`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _large, _native

if TYPE_CHECKING:
    from ._large import LargeSegmentation
    from ._models import Model

__all__ = ["predict"]

# How often a block is segmented again when its worker was lost.
RETRIES = 3


def _segment(model: Any, image: Any, blocks: list[int], part: tuple[int, int, int, int], plan: dict[str, Any]) -> Any:
    """The objects of some blocks. Runs on a worker; `image` is a path, or the pixels of `part` as an array."""
    if isinstance(image, str):
        opened: _large.Source = image
    else:
        pixels = _large.source(image)
        assert not isinstance(pixels, str)
        inner = pixels[2]
        first_row, first_column = part[0], part[1]

        def read(level: int, top: int, left: int, height: int, width: int) -> Any:
            return inner(0, top - first_row, left - first_column, height, width)

        opened = (plan["levels"], pixels[1], read)
    return list(zip(blocks, _native.large_blocks(model._model, opened, plan["options"], plan["context"], blocks)))


def predict(
    array: Any,
    model: Model,
    client: Any = None,
    *,
    out: Any = None,
    geojson: str | os.PathLike[str] | None = None,
    csv: str | os.PathLike[str] | None = None,
    callback: Callable[[str, int, int], object] | None = None,
    **options: Any,
) -> LargeSegmentation:
    """Segments an image of any size with the workers of a Dask cluster.

    Parameters
    ----------
    array : array or path
        Anything with a shape that can be sliced: a dask array, zarr, a memory map, NumPy. Workers get slices; those of a dask
        array are computed where they are used. A path has to be readable by every worker.
    model : Model
        It is sent to every worker once.
    client : distributed.Client, optional
        The cluster. Without one, everything is done here, block by block, with the same result.
    out, geojson, csv, callback, **options
        As for `Model.predict_large`. `folder` keeps finished blocks, from which `resume=True` goes on.

    Returns
    -------
    LargeSegmentation
        As from `Model.predict_large`. Cellpose and ELEPHANT give what that gives; StarDist does too, but for single pixels (the
        network's sums are rounded by where a block begins), unless a chain of overlapping candidates is longer than several
        cells.

    >>> import cellsparse as cs
    >>> model = cs.Elephant(widths=[4, 8])
    >>> image = cs.synthetic.field(seed=1, shape=(96, 80)).image
    >>> found = cs.distributed.predict(image, model)
    >>> found.shape
    (96, 80)
    """
    if options.get("folder") is None:
        with tempfile.TemporaryDirectory() as folder:
            options["folder"] = folder
            return predict(
                array, model, client, out=out, geojson=geojson, csv=csv, callback=callback, **options
            )
    taken = {**_large.options(model, options), "image": _large.identity(array)}
    opened = _large.source(array)
    context, groups = _native.large_plan(model._model, opened, taken)
    plan: dict[str, Any] = {
        "options": {name: value for name, value in taken.items() if name not in ("folder", "resume")},
        "context": context,
    }
    folder = taken["folder"]
    done = 0

    def keep(results: Any) -> None:
        nonlocal done
        for block, objects in results:
            _native.large_keep(folder, block, objects)
        done += 1
        if callback is not None:
            callback("blocks", done, len(groups))

    if isinstance(opened, str):
        cut: Callable[[Any], Any] = lambda part: opened  # noqa: E731
    else:
        plan["levels"] = opened[0]
        level = array[_large.place(taken)] if isinstance(array, (list, tuple)) else array

        def cut(part: Any) -> Any:
            top, left, height, width = part
            return level[top : top + height, left : left + width]

    if client is None:
        for blocks, part in groups:
            keep(_segment(model, cut(part), blocks, part, plan))
    else:
        # An extra: absent where types are checked without it.
        from distributed import as_completed  # type: ignore[import-not-found, unused-ignore]

        shared = client.scatter(model, broadcast=True)
        waiting = as_completed()
        # A few blocks for each worker at a time, so that slices do not pile up.
        ahead = 2 * max(1, len(client.scheduler_info()["workers"]))
        rest = iter(groups)

        def submit() -> None:
            for blocks, part in rest:
                waiting.add(
                    client.submit(_segment, shared, cut(part), blocks, part, plan, retries=RETRIES, pure=False)
                )
                return

        for _ in range(ahead):
            submit()
        for future in waiting:
            keep(future.result())
            submit()
    return _large.predict(model, array, out, geojson, csv, callback, {**options, "resume": True})
