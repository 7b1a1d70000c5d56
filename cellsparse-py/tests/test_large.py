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
    found = model.predict_large(image, tmp_path / "a.ome.zarr")
    assert found.labels is None and (tmp_path / "a.ome.zarr").is_dir() and found.n_objects == len(objects)


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


def shared(labels, others):
    """The share of the pixels of all objects that lies in the one object of `others` that covers most of theirs."""
    both = np.stack([labels[labels > 0], others[labels > 0]])
    (ids, _), counts = np.unique(both[:, both[1] > 0], axis=1, return_counts=True)
    most = [counts[ids == id].max() for id in np.unique(ids)]
    return sum(most) / both.shape[1]


def test_blocks_are_put_together_wherever_they_were_segmented(model):
    image = cs.synthetic.field(seed=8, shape=(1200, 2200)).image
    whole = model.predict_large(image)
    here = cs.distributed.predict(image, model)
    # The network's sums are rounded by where a block begins, which may change the order of two objects or choose between two.
    assert whole.n_objects > 200 and abs(here.n_objects - whole.n_objects) < 0.003 * whole.n_objects
    assert np.count_nonzero((here.labels > 0) != (whole.labels > 0)) < 0.003 * np.count_nonzero(whole.labels)
    assert shared(here.labels, whole.labels) > 0.997

    array = pytest.importorskip("dask.array")
    chunked = array.from_array(image, chunks=(500, 700) + image.shape[2:])
    assert np.array_equal(cs.distributed.predict(chunked, model).labels, here.labels)

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
            assert killed and np.array_equal(found.labels, here.labels)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["tiles", "strips", "one strip", "subifds", "pages", "jpeg", "float", "big-endian"])
def test_files_of_the_ecosystems_writer_are_read_by_parts(model, tmp_path, kind):
    tifffile = pytest.importorskip("tifffile")
    image = np.squeeze(cs.synthetic.field(seed=9, shape=(700, 620)).image)
    path = tmp_path / "a.tif"
    options = {
        "tiles": {"tile": (128, 64), "compression": "deflate", "predictor": True},
        "strips": {"rowsperstrip": 7, "compression": "lzw"},
        "one strip": {"rowsperstrip": 700},
        "subifds": {"tile": (128, 128), "subifds": 2, "compression": "zstd"},
        "pages": {"tile": (128, 128)},
        "jpeg": {"tile": (128, 128), "compression": "jpeg"},
        "float": {"tile": (64, 64), "compression": "deflate", "predictor": 3},
        "big-endian": {"tile": (64, 64)},
    }[kind]
    if kind in ("tiles", "strips", "subifds", "jpeg", "float"):
        pytest.importorskip("imagecodecs")
    pixels = image.astype(np.float32) if kind == "float" else image
    with tifffile.TiffWriter(path, bigtiff=kind == "tiles", byteorder=">" if kind == "big-endian" else None) as file:
        file.write(pixels, **options)
        if kind in ("subifds", "pages"):
            subfile = 1 if kind == "subifds" else 0
            for step in (2, 4):
                file.write(pixels[::step, ::step], tile=(128, 128), subfiletype=subfile)
    out = np.zeros(image.shape, np.int32)
    found = model.predict_large(path, out, tile=376)
    labels, _ = model.predict(cs.read_image(path), tile=376)
    assert found.n_objects > 50 and np.array_equal(out, labels)
    if kind in ("subifds", "pages"):
        half = model.predict_large(path, tmp_path / "half.tif", level=1)
        assert half.shape == (350, 310)
        assert np.array_equal(tifffile.imread(tmp_path / "half.tif"), cs.read_labels(tmp_path / "half.tif", "dense"))


def test_the_ecosystems_reader_reads_labels_and_their_copies(model, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    image = cs.synthetic.field(seed=10, shape=(1100, 1300)).image
    found = model.predict_large(image, tmp_path / "a.ome.tif", pixel_size=0.5)
    labels = model.predict_large(image).labels
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.is_ome and file.is_bigtiff and len(file.series) == 1
        levels = file.series[0].levels
        assert [level.shape for level in levels] == [(1100, 1300), (550, 650)]
        assert np.array_equal(levels[0].asarray(), labels)
        assert np.array_equal(levels[1].asarray(), labels[::2, ::2])
        assert 'PhysicalSizeX="0.5"' in file.ome_metadata
    assert found.n_objects == labels.max()


def test_zarr_arrays_are_read_and_written_as_they_are(model, tmp_path):
    zarr = pytest.importorskip("zarr")
    image = np.squeeze(cs.synthetic.field(seed=12, shape=(300, 420)).image)
    source = zarr.open(str(tmp_path / "a.zarr"), mode="w", shape=image.shape, chunks=(100, 90), dtype=image.dtype)
    source[:] = image
    target = zarr.open(str(tmp_path / "b.zarr"), mode="w", shape=image.shape, chunks=(128, 128), dtype="int32")
    found = model.predict_large(source, target)
    assert found.labels is target
    assert np.array_equal(target[:], model.predict(image)[0])


class Slide:
    """An image that is made where it is looked at, with drawn cells at two places; counts what is looked at."""

    def __init__(self, side, field, elsewhere, dtype):
        self.shape, self.dtype, self.field, self.elsewhere = (side, side), np.dtype(dtype), field, elsewhere
        self.places = [(640, 1280), (side - 400, side - 200)]
        self.read = 0

    def __getitem__(self, place):
        (top, bottom, _), (left, right, _) = (axis.indices(self.shape[0]) for axis in place)
        self.read += (bottom - top) * (right - left)
        rows, columns = np.arange(top, bottom)[:, np.newaxis], np.arange(left, right)
        part = np.broadcast_to(self.elsewhere(rows, columns), (bottom - top, right - left)).astype(self.dtype)
        for y, x in self.places:
            height, width = self.field.shape
            first, last = max(y, top), min(y + height, bottom)
            begin, end = max(x, left), min(x + width, right)
            if first < last and begin < end:
                part[first - top : last - top, begin - left : end - left] = self.field[first - y : last - y, begin - x : end - x]
        return part


def small(**options):
    return {"steps": 1, "batch_size": 1, "patch_size": 96, "progress": False, **options}


def texture(rows, columns):
    return (31 * rows + 17 * columns) % 60


@pytest.mark.filterwarnings("ignore")
def test_training_reads_of_a_slide_what_is_around_the_drawn_cells(tmp_path, capsys):
    field = cs.synthetic.field(seed=1, shape=(128, 160))
    pixels = np.squeeze(field.image)
    # Outlines as QuPath exports them, on an image of 4,294 megapixels.
    image = Slide(65536, pixels, texture, pixels.dtype)
    drawn = []
    for y, x in image.places:
        for feature in cs.to_geojson(np.where(field.truth <= 6, field.truth, 0)):
            rings = feature["geometry"]["coordinates"]
            assert feature["geometry"]["type"] == "Polygon"
            feature["geometry"]["coordinates"] = [[[px + x, py + y] for px, py in ring] for ring in rings]
            drawn.append(feature)
    (tmp_path / "slide.geojson").write_text(json.dumps(drawn))
    model = cs.Elephant(widths=[4, 8])
    model.train(image, tmp_path / "slide.geojson", **small(progress=True))
    assert 0 < image.read < 0.01 * 65536**2
    said = capsys.readouterr().err
    assert "image 0: 2 parts around what was drawn" in said and "of 4295 megapixels" in said
    assert model.steps == 1

    # A label image of the same kind; of the image itself, parts and a sample for its percentiles are read.
    image = Slide(8192, pixels, texture, pixels.dtype)
    labels = Slide(8192, field.annotation, lambda rows, columns: -1, np.int32)
    model.train([image], [labels], **small())
    assert 0 < image.read - 2**24 < 0.02 * 8192**2
    assert labels.read < 1.1 * 8192**2

    # Beside an image in the memory, and as validation.
    outlines = tmp_path / "slide.geojson"
    model.train([image, pixels], [outlines, field.annotation], ([image], [outlines]), **small(pixel_size=[0.5, None]))
    assert model.pixel_size == (0.5, 0.5)
    image.places, labels.places = [(0, 0)], [(0, 0)]
    labels.field = np.where(field.truth == 3, 1, -1)
    assert cs.choose_algorithm(image, labels, time_budget=0.1).n_channels == 1


@pytest.mark.filterwarnings("ignore")
def test_parts_of_an_array_train_like_the_whole_of_it(tmp_path):
    field = cs.synthetic.field(seed=1, shape=(300, 320))
    pixels = np.squeeze(field.image)
    stored = np.memmap(tmp_path / "a.raw", dtype=pixels.dtype, mode="w+", shape=pixels.shape)
    stored[:] = pixels
    weights = []
    # Small arrays of any kind are read whole. So is what lies around the cells, where these are everywhere.
    for image, labels, memory in [
        (pixels, field.annotation, None),
        (stored, field.annotation, None),
        (Slices(pixels), Slices(field.annotation), None),
        ([Slices(pixels)], [field.annotation], None),
        (pixels[np.newaxis], field.annotation[np.newaxis], None),
    ]:
        model = cs.Elephant(widths=[4, 8])
        model.train(image, labels, **small(memory=memory))
        weights.append(model._model.to_bytes())
    assert all(other == weights[0] for other in weights)
    cs.write_labels(tmp_path / "a.png", pixels.astype(np.int32))
    cs.write_labels(tmp_path / "b.png", field.annotation, label_encoding="wire")
    model = cs.Elephant(widths=[4, 8])
    model.train(tmp_path / "a.png", tmp_path / "b.png", **small(label_encoding="wire"))
    assert model.steps == 1


def test_unusable_slides_are_refused(tmp_path):
    nothing = np.zeros((1, 1), np.uint8)
    image = Slide(8192, nothing, texture, np.uint8)
    model = cs.Elephant(widths=[4, 8])
    with pytest.raises(cs.LabelsError, match="label image 0: nothing is drawn inside of the image"):
        model.train(image, Slide(8192, nothing, lambda rows, columns: -1, np.int32), **small())
    with pytest.raises(cs.LabelsError, match="8192 x 8192 pixels .* and the annotations are for 4096 x 4096"):
        model.train(image, Slide(4096, nothing, lambda rows, columns: 1, np.int32), **small())
    with pytest.raises(cs.LabelsError, match="0.5 is no label"):
        model.train(image, Slide(8192, nothing, lambda rows, columns: 0.5, np.float32), **small())
    with pytest.raises(cs.LabelsError, match=r"it must be \[H, W\]"):
        model.train([image], [np.zeros((2, 2, 2), np.int32)], **small())
    with pytest.raises(cs.ImageError, match="1 and 2 label images"):
        model.train([image], [nothing, nothing], **small())
    with pytest.raises(cs.NotFoundError):
        model.train(image, tmp_path / "absent.geojson", **small())

    class Broken(Slide):
        def __getitem__(self, place):
            raise OSError("the disk is gone")

    labels = Slide(8192, np.full((20, 20), 3, np.int32), lambda rows, columns: -1, np.int32)
    with pytest.raises(cs.ImageError, match="image 0: .*the disk is gone"):
        model.train(Broken(8192, nothing, texture, np.uint8), labels, **small())
    assert model.steps == 0


def test_zarr_arrays_are_trained_on_as_they_are(tmp_path):
    zarr = pytest.importorskip("zarr")
    field = cs.synthetic.field(seed=1, shape=(128, 160))
    pixels = np.squeeze(field.image)
    image = zarr.open(str(tmp_path / "a.zarr"), mode="w", shape=(8192, 8192), chunks=(512, 512), dtype=pixels.dtype)
    labels = zarr.open(
        str(tmp_path / "b.zarr"), mode="w", shape=(8192, 8192), chunks=(512, 512), dtype="int32", fill_value=-1
    )
    image[5000:5128, 700:860] = pixels
    labels[5000:5128, 700:860] = field.annotation
    model = cs.Elephant(widths=[4, 8])
    model.train(image, labels, **small())
    assert model.steps == 1


def pyramid_tiff(path, pixels, micrometres):
    """An OME-TIFF with a copy of half the size."""
    tifffile = pytest.importorskip("tifffile")
    sizes = {"PhysicalSizeX": micrometres, "PhysicalSizeY": micrometres, "axes": "YX"}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(pixels, tile=(128, 128), subifds=1, metadata=sizes)
        file.write(pixels[::2, ::2], tile=(128, 128), subfiletype=1)


def pyramid_zarr(path, pixels, micrometres):
    """An OME-Zarr with a copy of half the size."""
    zarr = pytest.importorskip("zarr")
    root = zarr.open_group(str(path), mode="w", zarr_format=2)
    datasets = []
    for level, array in enumerate([pixels, pixels[::2, ::2]]):
        stored = root.create_array(str(level), shape=array.shape, chunks=(100, 100), dtype=array.dtype)
        stored[:] = array
        scale = [micrometres * 2**level] * 2
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    root.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("write", [pyramid_tiff, pyramid_zarr])
def test_a_level_of_a_pyramid_is_trained_on_and_segmented(tmp_path, capsys, write):
    field = cs.synthetic.field(seed=1, shape=(500, 620))
    pixels = np.squeeze(field.image)
    path = tmp_path / ("a.ome.tif" if write is pyramid_tiff else "a.ome.zarr")
    write(path, pixels, 0.5)
    # What the level shows, as an image of its own: all of it is around the cells, which are everywhere.
    half, drawn = np.ascontiguousarray(pixels[::2, ::2]), np.ascontiguousarray(field.annotation[::2, ::2])
    alone = cs.Elephant(widths=[4, 8])
    loss = alone.train(half, drawn, pixel_size=1.0, **small()).loss
    for level in (1, "1um"):
        model = cs.Elephant(widths=[4, 8])
        history = model.train(path, drawn, level=level, **small(progress=True))
        assert np.allclose(history.loss, loss, rtol=1e-4)
        assert "since a level was chosen" in capsys.readouterr().err
        assert model.pixel_size == (1.0, 1.0)
    # What is said of the size of the pixels is about those of level 0, and shapes are in these, too.
    features = cs.to_geojson(np.where(field.truth <= 9, field.truth, 0))
    (tmp_path / "a.geojson").write_text(json.dumps(features))
    model = cs.Elephant(widths=[4, 8])
    model.train([path], [tmp_path / "a.geojson"], ([path], [tmp_path / "a.geojson"]), level=1, pixel_size=0.4, **small())
    assert model.pixel_size == (0.8, 0.8)
    diameter = model.info()["cell_diameter"]
    model.train(path, tmp_path / "a.geojson", level=0, **small(init="none"))
    whole = cs.Elephant(widths=[4, 8])
    whole.train(path, tmp_path / "a.geojson", level="0.5um", **small())
    assert whole.pixel_size == (0.5, 0.5) and whole.info()["cell_diameter"] > 1.7 * diameter
    assert cs.choose_algorithm(path, drawn, level=1, time_budget=0.1).n_channels == 1
    for level in (1, "1um"):
        assert alone.predict_large(path, tmp_path / "out.tif", level=level).shape == (250, 310)


def test_levels_that_are_not_there_are_refused(tmp_path):
    field = cs.synthetic.field(seed=1, shape=(128, 160))
    pixels = np.squeeze(field.image)
    pyramid_tiff(tmp_path / "a.ome.tif", pixels, 0.5)
    model = cs.Elephant(widths=[4, 8])
    model.train(pixels, field.annotation, level=0, **small())
    with pytest.raises(cs.ConfigError, match="image 0: level 2 was asked for and the image has 2"):
        model.train(tmp_path / "a.ome.tif", field.annotation, level=2, **small())
    with pytest.raises(cs.ConfigError, match="image 1: level 1 was asked for and the array has 1"):
        model.train([tmp_path / "a.ome.tif", pixels], [field.annotation[::2, ::2]] * 2, level=1, **small())
    with pytest.raises(cs.ConfigError, match="image 0: an array does not tell how large its pixels are"):
        model.train(pixels, field.annotation, level="1um", **small())
    with pytest.raises(cs.ConfigError, match="level is 'half'; expected a level from 0 on"):
        model.train(pixels, field.annotation, level="half", **small())
    with pytest.raises(cs.LabelsError, match="level 1 64 x 80: none of its levels fits"):
        model.train(tmp_path / "a.ome.tif", field.annotation, level=1, **small())
    with pytest.raises(TypeError, match="level must be a whole number"):
        model.train(pixels, field.annotation, level=0.5, **small())
    with pytest.raises(cs.ConfigError, match="does not tell how large its pixels are"):
        model.predict_large([pixels, pixels[::2, ::2]], level="1um")
    assert model.steps == 1
