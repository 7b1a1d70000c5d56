"""Masks from points and boxes: arrays in and out. What the network says is compared with the original in tests/golden."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import FIXTURES

import cellsparse as cs
from cellsparse import _native

WEIGHTS = FIXTURES / "sam" / "small_weights.safetensors"
built = pytest.mark.skipif(not hasattr(_native, "Sam"), reason="built without the feature sam")


@pytest.fixture(scope="module")
def sam():
    return cs.sam.load(WEIGHTS)


@pytest.fixture(scope="module")
def case(recorded):
    found = recorded("sam/small_masks")
    return found["image"].astype(np.uint8), found.info["prompts"], found


@built
def test_masks_are_those_of_the_original(sam, case):
    image, prompts, recorded = case
    assert (sam.kind, repr(sam)) == ("other", "<Sam other>")
    for place, prompt in enumerate(prompts):
        given = {"points": prompt["points"] or None, "boxes": prompt["box"]}
        masks, scores, logits = sam.masks(image, **given)
        best = int(recorded[f"{place}/best"][0])
        assert (masks.shape, masks.dtype, scores.shape) == ((1, *image.shape[:2]), np.bool_, (1,))
        np.testing.assert_allclose(scores[0], recorded[f"{place}/scores"][best], atol=1e-3)
        np.testing.assert_allclose(logits[0, ::2, ::2], recorded[f"{place}/low"][best], atol=1e-3)
        full = sam.masks(image, **given, return_logits=True).masks
        np.testing.assert_allclose(full[0], recorded[f"{place}/logits"], atol=1e-3)
        assert full.dtype == np.float32 and (masks == (full > 0)).all()
        three = sam.masks(image, **given, multimask=True)
        np.testing.assert_allclose(three.scores, recorded[f"{place}/scores"][1:], atol=1e-3)
        single = sam.masks(image, **given, multimask=False)
        np.testing.assert_allclose(single.scores, recorded[f"{place}/scores"][:1], atol=1e-3)


@built
def test_an_image_is_encoded_once_and_objects_come_in_the_order_of_the_prompts(sam, case):
    image, _, _ = case
    before = sam._made.encoded()
    clicks = [[[20, 30]], [[100, 12]]]
    both = sam.masks(image[::-1], clicks)
    assert sam._made.encoded() == before + 1 and both.masks.shape[0] == 2
    for place, click in enumerate(clicks):
        np.testing.assert_array_equal(sam.masks(image[::-1].copy(), click).masks[0], both.masks[place])
    assert sam._made.encoded() == before + 1
    embedding = sam.encode(image)
    assert embedding.shape == image.shape[:2] and "130" in repr(embedding)
    from_embedding = sam.masks(embedding, boxes=[[5, 5, 60, 40], [30, 10, 120, 60]])
    np.testing.assert_array_equal(from_embedding.masks, sam.masks(image, boxes=[[5, 5, 60, 40], [30, 10, 120, 60]]).masks)
    # A row with the label -1 stands for nothing.
    skipped = sam.masks(image, [[20, 30, 1], [1, 1, -1]])
    np.testing.assert_array_equal(skipped.logits, sam.masks(image, [[20, 30]]).logits)
    grey = image[:, :, 0]
    np.testing.assert_array_equal(
        sam.masks(grey, [[20, 30]]).logits, sam.masks(np.dstack([grey] * 3), [[20, 30]]).logits
    )


@built
def test_an_object_is_outlined_in_a_part_of_a_large_image(sam, case):
    image, prompts, _ = case
    mask, score = found = sam.outline(image, points=[prompts[0]["points"][0][:2]])
    best = sam.masks(image, points=[prompts[0]["points"][0][:2]])
    assert found == cs.sam.Outlined(mask, score) and mask.shape == image.shape[:2] and mask.dtype == np.bool_
    np.testing.assert_allclose(score, best.scores[0])
    assert mask.any() and (mask & ~best.masks[0]).sum() <= mask.sum() // 2, "a part of the mask, with its holes"
    box = sam.outline(image, box=prompts[2]["box"])
    assert box.mask.any() and box.score != score

    large = np.tile(image, (6, 8, 1))
    before = sam._made.encoded()
    points, view = [[400, 300]], (280, 380, 40, 40)
    top, left, height, width = sam._made.part(large.shape[:2], view, ([(400.0, 300.0, True)], None))
    assert (height, width) == (96, 96) and top <= 280 and left <= 380
    part = sam.outline(large, points, view=view)
    alone = sam.masks(large[top : top + height, left : left + width], points=[[400 - left, 300 - top]])
    assert sam._made.encoded() == before + 1
    rows, columns = np.nonzero(part.mask)
    assert len(rows) and rows.min() >= top and rows.max() < top + height and columns.min() >= left and columns.max() < left + width
    np.testing.assert_allclose(part.score, alone.scores[0])
    views = [(1, 2, 3), (-1, 2, 3, 4), (1.5, 2, 3, 4), (2**64, 0, 1, 1), (None,) * 4, "abcd", 5]
    boxes = [[1, 2, 3], [[1, 2], [30, 20]], "abcd", True]
    others = [{"points": [[[1, 1]], [[2, 2]]]}, {"points": [[999, 2]]}, {"points": [[10**400, 2]]}]
    for given in [{"view": view} for view in views] + [{"box": box} for box in boxes] + others:
        with pytest.raises(cs.ConfigError):
            sam.outline(image, **{"points": [[2, 2]], **given})


@built
@pytest.mark.parametrize(
    "given, word",
    [
        ({}, "neither points nor boxes"),
        ({"points": [1, 2]}, "(2,)"),
        ({"points": [[1, 2, 3]]}, "labels of points"),
        ({"points": [[1, 2], [3]]}, "one length"),
        ({"points": [[500, 2]]}, "lies outside"),
        ({"points": [[1, 2, -1]]}, "neither"),
        ({"boxes": [[1, 2, 3]]}, "(1, 3)"),
        ({"boxes": [9, 2, 3, 4]}, "x0 < x1"),
        ({"points": [[1, 2]], "boxes": [[1, 2, 3, 4], [1, 2, 3, 4]]}, "for 1 objects and boxes for 2"),
        ({"points": [[1, 2]], "multimask": "three"}, "multimask"),
    ],
)
def test_what_cannot_be_outlined_is_said(sam, case, given, word):
    with pytest.raises(cs.ConfigError) as raised:
        sam.masks(case[0], **given)
    assert word in str(raised.value)


@built
def test_errors_of_images_memory_and_weights(sam, tmp_path):
    with pytest.raises(cs.ImageError):
        sam.encode(np.zeros((4, 4, 5), np.uint8))
    with pytest.raises(cs.LimitError):
        sam.encode(np.zeros((400, 400), np.uint8), memory=1000)
    embedding = sam.encode(np.zeros((400, 400), np.uint8))
    assert sam.masks(embedding, boxes=[[1, 1, 300, 300]] * 4, memory="4M").masks.shape[0] == 4
    with pytest.raises(cs.LimitError, match="40 of them"):
        sam.masks(embedding, boxes=[[1, 1, 300, 300]] * 40, memory="4M")
    with pytest.raises(cs.FileError, match=r"mobile_sam\.pt"):
        cs.sam.load(tmp_path / "absent.pth")
    with pytest.raises(TypeError):
        cs.sam.Sam()


def test_a_build_without_it_says_how_to_get_it(monkeypatch):
    monkeypatch.delattr(_native, "Sam", raising=False)
    with pytest.raises(cs.DeviceError, match="--features sam"):
        cs.sam.load(WEIGHTS)
