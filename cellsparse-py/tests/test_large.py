"""Images that are read part by part."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest

import cellsparse as cs


@pytest.fixture(scope="module")
def model():
    field = cs.synthetic.field(seed=1, shape=(128, 160))
    model = cs.StarDist()
    model.train([field.image], [field.annotation], steps=4, batch_size=1, patch_size=96, progress=False)
    return model


class Slices:
    """A shape and slices, and nothing else."""

    def __init__(self, array):
        self.array, self.shape, self.largest = array, array.shape, 0

    def __getitem__(self, place):
        part = self.array[place]
        self.largest = max(self.largest, part.shape[0] * part.shape[1])
        return part


def test_any_object_with_shape_and_slices_gives_the_labels_of_the_whole(model, tmp_path):
    image = cs.synthetic.field(seed=5, shape=(300, 420)).image
    labels, objects = model.predict(image)
    assert len(objects) > 20
    for given in (image, image[:, :, 0] if image.ndim == 3 else image, Slices(image)):
        found = model.predict_large(given, skip_empty=False)
        assert np.array_equal(found.labels, labels) and found.n_objects == len(objects)
    out = np.zeros(labels.shape, np.int64)
    events = []
    found = model.predict_large(
        Slices(image),
        out,
        geojson=tmp_path / "a.geojson",
        csv=tmp_path / "a.csv",
        callback=lambda *event: events.append(event),
        tile=376,
    )
    assert found.labels is out and np.array_equal(out, labels)
    assert len(json.loads((tmp_path / "a.geojson").read_text())) == len(objects)
    assert len((tmp_path / "a.csv").read_text().splitlines()) == len(objects) + 1
    assert {event[0] for event in events} == {"network", "objects", "output"}
    found = model.predict_large(image, tmp_path / "a.ome.tif")
    assert found.labels is None and np.array_equal(cs.read_labels(tmp_path / "a.ome.tif", "dense"), labels)


def test_pyramids_regions_and_refusals(model, tmp_path):
    image = cs.synthetic.field(seed=6, shape=(200, 240)).image
    found = model.predict_large([image, image[::2, ::2]], level=1)
    assert found.shape == (100, 120)
    all_of_it = model.predict_large(image)
    some = model.predict_large(image, region=(0, 0, 120, 100))
    assert 0 < some.n_objects < all_of_it.n_objects
    with pytest.raises(cs.ImageError):
        model.predict_large(3)
    with pytest.raises(cs.ConfigError):
        model.predict_large(image, level=1)
    with pytest.raises(cs.ConfigError):
        model.predict_large(image, tmp_path / "a.png")
    with pytest.raises(TypeError, match="no option 'regoin'"):
        model.predict_large(image, regoin=1)
    with pytest.raises(cs.CancelledError):
        model.predict_large(image, callback=lambda *event: False)
    with pytest.raises(ZeroDivisionError):
        model.predict_large(image, callback=lambda *event: 1 // 0)

    class Broken(Slices):
        def __getitem__(self, place):
            raise OSError("the disk is gone")

    with pytest.raises(cs.ImageError, match="the disk is gone"):
        model.predict_large(Broken(image))


def test_a_run_goes_on_where_it_was(model, tmp_path):
    image = cs.synthetic.field(seed=7, shape=(300, 420)).image
    whole = model.predict_large(image, tile=376)
    with pytest.raises(cs.CancelledError):
        model.predict_large(image, tile=376, folder=tmp_path / "parts", callback=lambda *event: event[0] != "objects")
    found = model.predict_large(image, tile=376, folder=tmp_path / "parts", resume=True)
    assert np.array_equal(found.labels, whole.labels)


@pytest.mark.parametrize("kind", ["here", "dask array", "cluster"])
def test_blocks_are_put_together_wherever_they_were_segmented(model, kind):
    image = cs.synthetic.field(seed=8, shape=(1200, 2200)).image
    whole = model.predict_large(image)
    assert whole.n_objects > 200
    if kind == "here":
        found = cs.distributed.predict(image, model)
        assert np.array_equal(found.labels, whole.labels)
        return
    array = pytest.importorskip("dask.array")
    chunked = array.from_array(image, chunks=(500, 700) + image.shape[2:])
    if kind == "dask array":
        found = cs.distributed.predict(chunked, model)
        assert np.array_equal(found.labels, whole.labels)
        return
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client:
            killed = []

            def kill_one(*event):
                if not killed:
                    killed.extend(worker.pid for worker in cluster.workers.values())
                    os.kill(killed[0], 9)
                    time.sleep(0.2)

            found = cs.distributed.predict(chunked, model, client, callback=kill_one, threads=1)
            assert killed and np.array_equal(found.labels, whole.labels)
