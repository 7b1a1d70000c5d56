"""Every dtype, stride and byte order that an image or a label image can have."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import same, small

import cellsparse as cs

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
FLOATS = ("float16", "float32", "float64", "longdouble")
QUICK = {"steps": 1, "batch_size": 2, "patch_size": 32, "progress": False}


def layouts(array):
    """The same values in many ways."""
    yield "C", np.ascontiguousarray(array)
    yield "Fortran", np.asfortranarray(array)
    yield "other byte order", array.astype(array.dtype.newbyteorder())
    wide = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
    every_second = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    every_second[...] = array
    yield "every second", every_second
    backwards = array[::-1, ::-1].copy()
    yield "negative strides", backwards[::-1, ::-1]
    locked = array.copy()
    locked.flags.writeable = False
    yield "read-only", locked
    packed = np.zeros(array.shape, [("odd", "u1"), ("value", array.dtype)])
    packed["value"] = array
    yield "unaligned", packed["value"]
    yield "subclass", np.ma.masked_array(array)


@pytest.mark.parametrize("dtype", (*INTEGERS, *FLOATS, "bool"))
def test_images_of_every_dtype_and_layout(dtype, model, field):
    image = field.image[:64, :60]
    image = image > 40 if dtype == "bool" else (image // 2).astype(dtype)
    expected = model.predict(image.astype(np.float32), prob_thresh=0.4)
    assert expected.labels.max() > 0
    for name, array in layouts(image):
        assert same(model.predict(array, prob_thresh=0.4), expected), name
        kept = array.copy()
        assert np.array_equal(array, kept)
        np.testing.assert_array_equal(cs.normalize(array, 1, 99), cs.normalize(image, 1, 99), name)


@pytest.mark.parametrize("channels", (1, 2, 3))
def test_channels_and_broadcast_views(channels, field):
    model = small(n_channels=channels)
    image = np.broadcast_to(field.image[:64, :64, np.newaxis], (64, 64, channels))
    expected = model.predict(np.array(image), prob_thresh=0.4)
    assert same(model.predict(image, prob_thresh=0.4), expected)
    assert same(model.predict(np.moveaxis(np.moveaxis(image, 2, 0).copy(), 0, 2), prob_thresh=0.4), expected)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_of_every_dtype_and_layout(dtype, field):
    truth = np.where(field.truth > 100, 0, field.truth)[:64, :70].astype(dtype)
    plain = truth.astype(np.int32)
    calls = {
        "edt_prob": cs.stardist.edt_prob,
        "star_dist": lambda labels: cs.stardist.star_dist(labels, 8, (2, 2)),
        "flows": cs.cellpose.masks_to_flows,
        "clean": cs.cellpose.fill_holes_and_remove_small_masks,
        "classes": cs.elephant.class_labels,
        "distances": cs.distance_transform_edt,
        "small": lambda labels: cs.remove_small_labels(labels, 50),
        "sparse": lambda labels: cs.sparsify(labels, field.image[:64, :70], 1),
        "flooded": lambda labels: cs.watershed(labels, labels, labels),
    }
    for call_name, call in calls.items():
        expected = call(plain)
        for name, array in layouts(truth):
            np.testing.assert_array_equal(call(array), expected, f"{call_name}, {name}")
    for _, array in layouts(truth):
        assert cs.to_geojson(array) == cs.to_geojson(plain)
        assert cs.metrics.matching(array, array) == cs.metrics.matching(plain, plain)


@pytest.mark.parametrize("dtype", ("int8", "int16", "int32", "int64", "float32", "float64"))
def test_training_labels_of_every_signed_dtype(dtype, field):
    annotation = np.where(field.annotation > 120, -1, field.annotation)
    expected = small().train(field.image, annotation, **QUICK)
    for name, array in layouts(annotation.astype(dtype)):
        assert np.array_equal(small().train(field.image, array, **QUICK).loss, expected.loss), name


@pytest.mark.parametrize("dtype", ("uint8", "uint16", "uint32", "uint64"))
def test_complete_training_labels_of_any_unsigned_type(dtype, field):
    expected = small().train(field.image, field.truth, **QUICK)
    found = small().train(field.image, field.truth.astype(dtype), label_encoding="dense", **QUICK)
    assert np.array_equal(found.loss, expected.loss)
    with pytest.raises(cs.LabelsError, match='label_encoding="cells"'):
        small().train(field.image, field.truth.astype(dtype), **QUICK)


def test_the_wire_encoding(field):
    expected = small().train(field.image, field.annotation, **QUICK)
    wire = (field.annotation + 1).astype(np.uint16)
    found = small().train(field.image, wire, label_encoding="wire", **QUICK)
    assert np.array_equal(found.loss, expected.loss)


def test_lists_stacks_and_single_images(field):
    other = cs.synthetic.field(seed=4, shape=(96, 130))
    small().train([field.image, other.image], [field.annotation, other.annotation], **QUICK)
    small().train((field.image,), (field.annotation,), **QUICK)
    small().train(iter([field.image]), iter([field.annotation]), **QUICK)
    losses = [
        small().train(images, labels, **QUICK).loss[0]
        for images, labels in (
            (field.image, field.annotation),
            ([field.image], [field.annotation]),
            (field.image[np.newaxis], field.annotation[np.newaxis]),
            (field.image[np.newaxis, ..., np.newaxis], [field.annotation]),
            (field.image[..., np.newaxis], field.annotation),
            (field.image[np.newaxis], field.annotation),
            (field.image.tolist(), field.annotation.tolist()),
        )
    ]
    assert len(set(losses)) == 1
    stack = np.stack([field.image, cs.synthetic.field(seed=5, shape=(128, 128)).image])
    labels = np.stack([field.annotation] * 2)
    small().train(stack, labels, **QUICK)
    small(n_channels=2).train(np.stack([stack, stack], axis=-1), labels, **QUICK)
    with pytest.raises(cs.ImageError, match="2 images and 1 label image"):
        small().train(stack, field.annotation[:64], **QUICK)


def test_scores_take_lists_and_stacks(field):
    pair = cs.metrics.matching_dataset([field.truth], [field.truth])
    assert pair == cs.metrics.matching_dataset(field.truth, field.truth)
    assert pair == cs.metrics.matching_dataset(field.truth[np.newaxis], [field.truth])


def test_nothing_given_is_written_to(field):
    for call in (
        lambda labels: cs.remove_small_labels(labels, 50),
        cs.cellpose.fill_holes_and_remove_small_masks,
        lambda labels: cs.watershed(labels, labels),
    ):
        labels = field.truth.copy()
        call(labels)
        assert np.array_equal(labels, field.truth)


def test_empty_results_have_their_shape():
    points, scores, dist = cs.stardist.non_maximum_suppression(np.ones((8, 8, 5)), np.zeros((8, 8)))
    assert points.shape == (0, 2) and scores.shape == (0,) and dist.shape == (0, 5)
    assert cs.stardist.dist_to_coord(dist, points).shape == (0, 2, 5)
    assert not cs.stardist.polygons_to_label(dist, points, (4, 5), scores).any()
    assert cs.to_geojson(np.zeros((4, 4), int)) == []
    for b in (0, None, 3, ((1, 2), (0, 3))):
        cs.stardist.non_maximum_suppression(np.ones((8, 8, 5)), np.ones((8, 8)), b=b)


def test_drawn_worlds():
    image, labels = cs.draw_world(seed=1, size=(64, 48), kinds=["nuclei"], channels="grey")
    again, _ = cs.draw_world(seed=1, size=(64, 48), kinds="nuclei", channels="grey")
    assert image.shape == labels.shape == (64, 48) and labels.dtype == np.int32
    assert np.array_equal(image, again)
    empty, nothing = cs.draw_world(seed=1, size=(64, 48), kinds=["empty"], channels="colour")
    assert empty.shape == (64, 48, 3) and nothing.max() == 0
