"""The low-level calls against the recorded results of the original packages, with their axis orders and dtypes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import FIXTURES

import cellsparse as cs


def same_cells(a, b):
    """Whether two label images have the same cells under other numbers."""
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist()))
    return len({p for p, _ in pairs}) == len(pairs) == len({q for _, q in pairs}) and (0, 0) in pairs | {(0, 0)}


def test_stardist_targets(recorded):
    fixture = recorded("stardist/targets")
    compared = 0
    for case in fixture.cases(".edt_prob"):
        label = fixture[f"{case}.label"]
        found = cs.stardist.edt_prob(label)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, fixture[f"{case}.edt_prob"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            cs.stardist.edt_prob(label[::2, ::2]), fixture[f"{case}.edt_prob_g22"], rtol=0, atol=1e-6
        )
        for name in fixture.tensors:
            if name.startswith(f"{case}.star_dist_r"):
                rays, grid = name.split("_r")[1].split("_g")
                found = cs.stardist.star_dist(label & 0xFFFF, int(rays), (int(grid[0]), int(grid[1])))
                assert found.dtype == np.float32 and found.shape == fixture[name].shape
                np.testing.assert_allclose(found, fixture[name], rtol=0, atol=1e-5)
                compared += 1
    assert compared >= 6


def test_stardist_suppression(recorded):
    fixture = recorded("stardist/nms")
    compared = 0
    for case in [case for case in fixture.cases(".dist") if case.startswith("dense_")]:
        prob, dist = fixture[f"{case}.prob"], fixture[f"{case}.dist"]
        grid = (2, 2) if case.endswith("g22") else (1, 1)
        for result in [name[:-7] for name in fixture.tensors if name.startswith(f"{case}.p") and name.endswith(".points")]:
            p, n = result.rsplit(".p", 1)[1].split("_n")
            points, scores, kept = cs.stardist.non_maximum_suppression(
                dist, prob, grid, prob_thresh=int(p) / 100, nms_thresh=int(n) / 100
            )
            assert points.dtype == np.int64 and scores.dtype == kept.dtype == np.float32
            np.testing.assert_array_equal(points, fixture[f"{result}.points"])
            np.testing.assert_array_equal(scores, fixture[f"{result}.prob"])
            coord = cs.stardist.dist_to_coord(kept, points)
            np.testing.assert_array_equal(coord, fixture[f"{result}.coord"])
            if f"{result}.labels" in fixture:
                expected = fixture[f"{result}.labels"]
                drawn = cs.stardist.polygons_to_label(kept, points, expected.shape, scores)
                assert drawn.dtype == np.int32
                np.testing.assert_array_equal(drawn, expected)
            compared += 1
    assert compared >= 4


def test_stardist_drawing(recorded):
    fixture = recorded("stardist/render")
    for case in fixture.cases(".dist"):
        dist, points, prob = (fixture[f"{case}.{name}"] for name in ("dist", "points", "prob"))
        draw = lambda *options, **named: cs.stardist.polygons_to_label(dist, *options, **named)
        np.testing.assert_array_equal(draw(points, (40, 44), prob), fixture[f"{case}.labels"])
        np.testing.assert_array_equal(draw(points, (40, 44)), fixture[f"{case}.labels_noprob"])
        drawn = draw(points * (2, 0.5), (40, 44), prob, scale_dist=(0.5, 2))
        np.testing.assert_array_equal(drawn, fixture[f"{case}.labels_scale"])
        middle = float(np.median(prob))
        kept = prob > middle
        expected = cs.stardist.polygons_to_label(dist[kept], points[kept], (40, 44), prob[kept])
        ids = np.concatenate([[0], np.flatnonzero(kept) + 1])
        np.testing.assert_array_equal(draw(points, (40, 44), prob, thr=middle), ids[expected])


def test_matching(recorded):
    fixture = recorded("stardist/matching")
    fields, thresholds = fixture.info["fields"], fixture.info["thresholds"]
    true, pred = fixture["y_true"], fixture["y_pred"]
    for k in range(len(true)):
        for j, result in enumerate(cs.metrics.matching(true[k], pred[k], thresholds)):
            found = [result._asdict()[field] for field in fields]
            np.testing.assert_allclose(found, fixture["per_image_iou"][k, j], atol=1e-6)
    for criterion in ("iou", "iot", "iop"):
        for by_image in (False, True):
            expected = fixture[f"dataset_{criterion}" + ("_by_image" if by_image else "")]
            results = cs.metrics.matching_dataset(list(true), pred, thresholds, criterion, by_image)
            for result, row in zip(results, expected):
                np.testing.assert_allclose([getattr(result, field) for field in fields], row, atol=1e-6)
                assert (result.criterion, result.by_image) == (criterion, by_image)
    result = cs.metrics.matching(true[0], pred[0], report_matches=True)
    expected = {tuple(fixture["pairs_image0"][k]) for k in fixture["pairs_image0_tp"]}
    assert {result.matched_pairs[k] for k in result.matched_tps} == expected
    single = cs.metrics.matching(true[0], pred[0])
    assert list(single._asdict())[:5] == ["criterion", "thresh", "fp", "tp", "fn"]


@pytest.mark.parametrize(
    "name", ["border", "concave", "disconnected_gaps", "long", "single_disc", "tiny", "touching"]
)
def test_cellpose_flows(recorded, name):
    fixture = recorded(f"cellpose/flows_{name}")
    flows = cs.cellpose.masks_to_flows(fixture["labels"])
    assert flows.dtype == np.float32
    stable = fixture["stable_v3_cpu"]
    np.testing.assert_allclose(flows * stable, fixture["v3_cpu"] * stable, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["noisy", "nointerp"])
def test_cellpose_masks(recorded, name):
    fixture = recorded(f"cellpose/dynamics_{name}")
    info, dP, cellprob = fixture.info, fixture["dP"], fixture["cellprob"]
    inside = cellprob > info["cellprob_threshold"]
    ends = cs.cellpose.follow_flows(dP * inside / 5, niter=info["niter"], interp=info["interp"])
    assert ends.dtype == np.float32 and ends.shape == dP.shape
    y, x = fixture["v3_inds"]
    distance = np.abs(ends[:, y, x] - fixture["v3_p"]).max(axis=0)
    assert (distance > 1e-3).mean() <= 0.01 and distance.max() < 0.1
    masks = cs.cellpose.compute_masks(
        dP,
        cellprob,
        niter=info["niter"],
        cellprob_threshold=info["cellprob_threshold"],
        flow_threshold=info["flow_threshold"],
        min_size=info["min_size_v3"],
        interp=info["interp"],
        max_size_fraction=info["max_size_fraction"],
    )
    assert masks.dtype == np.int32 and masks.max() > 5
    assert same_cells(masks, fixture["v3_masks_fixed"])


def test_cellpose_cleaning(recorded):
    fixture = recorded("cellpose/fill_holes")
    compared = 0
    for name in fixture.tensors:
        if ".v3fixed_min" in name:
            case, size = name.split(".v3fixed_min")
            found = cs.cellpose.fill_holes_and_remove_small_masks(fixture[f"{case}.in"], int(size))
            assert same_cells(found, fixture[name]), name
            compared += 1
    assert compared >= 3


def test_elephant_classes(recorded):
    fixture = recorded("elephant/three_class")
    for case in fixture.cases(".seg"):
        other = {"center_ratio": 0.3, "min_area": 4} if case.endswith("_cr03_min4") else {}
        found = cs.elephant.class_labels(fixture[f"{case}.label"].astype(np.int64), **other)
        # elephant-core counts from 0 for ignored pixels.
        differ = found != fixture[f"{case}.seg"].astype(int) - 1
        ambiguous = fixture[f"{case}.ambiguous"] if f"{case}.ambiguous" in fixture else np.zeros_like(found)
        assert not differ[ambiguous == 0].any(), case


def test_watershed(recorded):
    fixture = recorded("elephant/watershed")
    for case in fixture.cases(".markers"):
        mask = fixture[f"{case}.mask"] if f"{case}.mask" in fixture else None
        image, markers = fixture[f"{case}.image"], fixture[f"{case}.markers"]
        connectivity = fixture.info["cases"][case]["connectivity"]
        for dtype in (image.dtype, np.float64):
            found = cs.watershed(image.astype(dtype), markers, mask, connectivity)
            assert found.dtype == np.int32
            np.testing.assert_array_equal(found, fixture[f"{case}.labels"], case)


def test_distances(recorded):
    fixture = recorded("elephant/edt_cc")
    for case in fixture.cases(".mask"):
        found = cs.distance_transform_edt(fixture[f"{case}.mask"])
        assert found.dtype == np.float64
        if case == "full":
            assert np.isinf(found).all()
        else:
            np.testing.assert_array_equal(found, np.sqrt(fixture[f"{case}.edt_sq"].astype(float)))


def test_normalize(recorded):
    fixture = recorded("cellsparse/normalize")
    for case in fixture.cases(".in"):
        for low, high in ((0, 100), (1, 99.8), (3, 99.8)):
            found = cs.normalize(fixture[f"{case}.in"], low, high)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, fixture[f"{case}.p{low}_{high}"], rtol=0, atol=1e-6)


def test_sparsify(recorded):
    fixture = recorded("cellsparse/to_sparse")
    compared = 0
    for name in fixture.tensors:
        case, *options = name.split(".")
        if len(options) == 3:
            mode, k, background = options
            found = cs.sparsify(fixture[f"{case}.label"], fixture[f"{case}.image"], int(k), mode, background == "bg")
            assert found.dtype == np.int32
            np.testing.assert_array_equal(found, fixture[name], name)
            compared += 1
    assert compared >= 30


def test_remove_small_labels(recorded):
    fixture = recorded("cellsparse/remove_small_labels")
    for name in fixture.tensors:
        case, area = name.split(".", 1)
        if area != "label":
            labels = fixture[f"{case}.label"]
            found = cs.remove_small_labels(labels, float(area), literal=True)
            np.testing.assert_array_equal(found, fixture[name], name)
            sizes = np.bincount(labels.ravel())
            expected = np.where(sizes[labels] < float(area), 0, labels)
            np.testing.assert_array_equal(cs.remove_small_labels(labels, float(area)), expected)


def test_geojson(recorded):
    fixture = recorded("cellsparse/geojson_labels")
    compared = 0
    for case, labels in fixture.tensors.items():
        for text in ("none", "0.5", "1.0", "2.0"):
            path = FIXTURES / f"cellsparse/geojson_{case}_tol{text}.json"
            if path.is_file():
                features = cs.to_geojson(labels, None if text == "none" else float(text), outline="literal")
                assert json.dumps(features, separators=(",", ":")) == path.read_text().strip().replace(", ", ",").replace(
                    ": ", ":"
                )
                compared += 1
        exact = cs.to_geojson(labels)
        assert [f["properties"]["id"] for f in exact] == sorted(set(labels[labels > 0].tolist()))
    assert compared >= 16
