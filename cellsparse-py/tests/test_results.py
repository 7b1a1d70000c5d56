"""What is written for other programs, read back by them: scikit-image, shapely, roifile, tifffile."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ALGORITHMS, small

import cellsparse as cs


def blobs(seed, shape=(96, 110), smoothness=3, level=0.0):
    """Rough objects of any shape, with holes and parts that touch at corners."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=shape)
    for _ in range(smoothness):
        noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))) / 4
    inside = noise > level * noise.std()
    return np.where(inside, 1 + (np.indices(shape)[0] // 24) * 8 + np.indices(shape)[1] // 24, 0).astype(np.int32)


def odd_shapes():
    """Label images that are hard to outline."""
    checks = (np.indices((16, 16)).sum(0) % 2).astype(np.int32)
    rings = np.zeros((21, 21), np.int32)
    for width in range(0, 10, 2):
        rings[width : 21 - width, width : 21 - width] = 1
        rings[width + 1 : 20 - width, width + 1 : 20 - width] = 2 if width % 4 else 0
    pixels = np.zeros((9, 9), np.int32)
    pixels[::2, ::2] = np.arange(1, 26).reshape(5, 5)
    rows = ["#...#", "#####", "#.#.#", ".##..", "..###"]
    crossing = np.array([[letter == "#" for letter in row] for row in rows]).astype(np.int32)
    noise = np.random.default_rng(3).integers(0, 5, (40, 40)).astype(np.int32)
    return {"checks": checks, "rings": rings, "pixels": pixels, "crossing": crossing, "noise": noise}


CASES = {**odd_shapes(), "rough": blobs(1), "smooth": blobs(2, smoothness=12), "spread": blobs(5, smoothness=1, level=0.7)}


@pytest.mark.parametrize("name", CASES)
def test_measurements_are_those_of_regionprops(name):
    skimage = pytest.importorskip("skimage.measure")
    labels = CASES[name]
    image = np.random.default_rng(0).integers(0, 60000, (*labels.shape, 2)).astype(np.uint16)
    found = cs.measure(labels, image, pixel_size=(0.5, 0.25))
    derived = {"touches_border", "area_um2"}
    names = {column.split("-")[0] for column in found} - derived
    with np.errstate(invalid="ignore"):
        expected = skimage.regionprops_table(labels, image, properties=sorted(names))
    assert set(expected) == set(found) - derived
    for column, values in expected.items():
        if column == "orientation":
            # Of a round object any direction is as good.
            clear = expected["eccentricity"] > 1e-3
            turned = np.abs(found[column] - values)[clear]
            assert np.minimum(turned, np.abs(turned - np.pi)).max(initial=0) < 1e-6
        elif column == "eccentricity":
            # The square of what is compared is what rounding spoils.
            np.testing.assert_allclose(found[column] ** 2, values**2, atol=1e-9, err_msg=column)
        else:
            np.testing.assert_allclose(found[column], values, rtol=1e-9, atol=1e-6, err_msg=column)
    np.testing.assert_allclose(found["area_um2"], found["area"] * 0.125)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    assert np.array_equal(found["touches_border"], np.isin(found["label"], border))


@pytest.mark.parametrize("tolerance", [None, 0.5, 1, 1.5, 2, 3, 5, 20])
@pytest.mark.parametrize("name", CASES)
def test_outlines_are_valid_geometry(name, tolerance):
    shapely = pytest.importorskip("shapely")
    from shapely.geometry import shape

    labels = CASES[name]
    features = cs.to_geojson(labels, tolerance)
    assert [feature["properties"]["id"] for feature in features] == np.unique(labels[labels > 0]).tolist()
    for feature in features:
        polygon = shape(feature["geometry"])
        assert polygon.is_valid, shapely.is_valid_reason(polygon)
        assert polygon.area > 0 and not polygon.is_empty
        area = np.count_nonzero(labels == feature["properties"]["id"])
        if tolerance is None:
            assert polygon.area == area
        else:
            exact = shape(cs.to_geojson(labels == feature["properties"]["id"])[0]["geometry"])
            assert polygon.boundary.hausdorff_distance(exact.boundary) <= tolerance + 1e-9


def filled(regions, shape):
    """Pixels whose centres lie in an odd number of rings, by label."""
    from matplotlib.path import Path

    centres = np.stack(np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5), -1).reshape(-1, 2)
    labels = np.zeros(shape, np.int32)
    for label, rings in regions.items():
        count = sum(Path(np.vstack([ring, ring[:1]]), closed=True).contains_points(centres) for ring in rings)
        labels[(count % 2 == 1).reshape(shape)] = label
    return labels


@pytest.mark.parametrize("name", CASES)
def test_imagej_regions_cover_the_same_pixels(name, tmp_path):
    roifile = pytest.importorskip("roifile")
    pytest.importorskip("matplotlib")
    labels = CASES[name]
    square = np.zeros((4, 2), np.float32)
    objects = [cs.Object(int(label), square, 0.75) for label in np.unique(labels[labels > 0])]
    path = cs.write_rois(tmp_path / "cells.zip", labels, objects)
    regions = {}
    for roi in roifile.roiread(path):
        label = int(roi.name.split("-")[0])
        rings = roi.coordinates(multi=True)
        regions[label] = [np.asarray(ring, float) for ring in (rings if isinstance(rings, list) else [rings])]
        assert "probability: 0.75" in (roi.props or "")
    assert sorted(regions) == np.unique(labels[labels > 0]).tolist()
    assert np.array_equal(filled(regions, labels.shape), labels)


@pytest.mark.parametrize("largest", [65_535, 65_536])
def test_ome_tiff_keeps_ids_and_pixel_size(largest, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    labels = CASES["smooth"].copy()
    labels[0, 0] = largest
    path = cs.write_labels(tmp_path / "céll <1>.ome.tif", labels, pixel_size=(0.5, 0.325))
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        series = file.series[0]
        assert series.axes == "YX" and series.shape == labels.shape
        assert series.dtype == (np.uint16 if largest == 65_535 else np.uint32)
        assert np.array_equal(file.asarray(), labels)
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        assert pixels["Name"] == "céll <1>"
        pixels = pixels["Pixels"]
        assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeX"]) == (0.5, 0.325)
        assert pixels["PhysicalSizeXUnit"] == "µm"
        numerator, denominator = file.pages[0].tags["XResolution"].value
        assert abs(numerator / denominator - 10_000 / 0.325) < 0.01
    assert np.array_equal(cs.read_labels(path), labels)
    with pytest.raises(cs.ConfigError, match="always dense"):
        cs.write_labels(path, labels, label_encoding="wire")
    with pytest.raises(cs.ConfigError, match="ome.tif"):
        cs.write_labels(tmp_path / "a.png", labels, pixel_size=1)
    with pytest.raises(cs.ConfigError, match="pixel size"):
        cs.write_labels(path, labels, pixel_size=0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_object_has_a_probability(algorithm, field):
    model = small(algorithm)
    model.train(field.image, field.annotation, steps=20, batch_size=2, patch_size=64, progress=False)
    thresholds = {
        "stardist": {"prob_thresh": 0.02},
        "cellpose": {"flow_threshold": 0, "cellprob_threshold": -3},
        "elephant": {"prob_thresh": 0.2},
    }
    labels, objects = model.predict(field.image, **thresholds[algorithm])
    assert objects
    assert all(0 < found.probability <= 1 for found in objects)
    table = cs.measure(labels, field.image, objects)
    np.testing.assert_allclose(table["probability"], [found.probability for found in objects], rtol=1e-6)
    features = cs.to_geojson(labels, objects=objects)
    told = [feature["properties"]["measurements"]["probability"] for feature in features]
    np.testing.assert_allclose(told, table["probability"], atol=1e-6)


def test_tables_without_objects_and_without_images():
    table = cs.measure(np.zeros((4, 5), int), np.zeros((4, 5)))
    assert all(len(values) == 0 for values in table.values()) and "intensity_mean-0" in table
    assert "probability" not in cs.measure([[1, 1]]) and "area_um2" not in cs.measure([[1, 1]])
    with pytest.raises(cs.ImageError, match="one size"):
        cs.measure([[1, 1]], np.zeros((3, 3)))
    with pytest.raises(cs.ConfigError, match="pixel_size"):
        cs.measure([[1, 1]], pixel_size=(1, 2, 3))
    with pytest.raises(cs.ConfigError, match="simplify"):
        cs.write_rois("nowhere.zip", [[1]], simplify=-1)
