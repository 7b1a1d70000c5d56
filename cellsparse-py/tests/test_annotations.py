"""Annotations as the programs of their kind write them, and the documented way from each to a model."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import small

import cellsparse as cs

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "annotate.md"
QUICK = {"steps": 1, "batch_size": 2, "patch_size": 32, "progress": False}


def shapes():
    """Cells of every kind: round, with a hole, in two parts, bent, one pixel; touching and at the border."""
    labels = np.zeros((40, 50), np.int32)
    y, x = np.mgrid[:40, :50]
    labels[(y - 8) ** 2 + (x - 8) ** 2 <= 30] = 1
    labels[3:14, 20:34] = 2
    labels[6:10, 24:30] = 0
    labels[20:25, 0:8] = 3
    labels[28:33, 4:12] = 3
    labels[18:30, 20:24] = 4
    labels[27:30, 20:40] = 4
    labels[17, 45] = 5
    labels[14:18, 20:34] = 6
    return labels


def masks(labels):
    """Only the cells, the rest unlabelled."""
    return np.where(labels > 0, labels, -1)


def polygons(labels, number):
    """The exact parts of a cell: rings `[n, 2]` of x and y, the exterior first."""
    (feature,) = cs.to_geojson(np.where(labels == number, 1, 0))
    geometry = feature["geometry"]
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return [[np.array(ring)[:-1] for ring in part] for part in parts]


def numbers(labels):
    return range(1, labels.max() + 1)


def read(path, labels, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.AnnotationWarning)
        return cs.read_annotations(path, labels.shape, **options)


@pytest.mark.parametrize("version", ("0.5", "0.7"))
def test_qupath(tmp_path, version):
    shapely = pytest.importorskip("shapely")
    labels = shapes()
    features = []
    for number in numbers(labels):
        boxes = [shapely.box(x, y, x + 1, y + 1) for y, x in zip(*np.nonzero(labels == number))]
        geometry = json.loads(shapely.to_geojson(shapely.union_all(boxes)))
        color = {"colorRGB": -3670016} if version == "0.5" else {"color": [200, 0, 0]}
        properties = {"objectType": "annotation", "classification": {"name": "Foreground", **color}}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    line = {"type": "LineString", "coordinates": [[1, 36.5], [49, 36.5]]}
    background = {"classification": {"name": "Background"}}
    features.append({"type": "Feature", "geometry": line, "properties": background})
    root = features if version == "0.5" else {"type": "FeatureCollection", "features": features}
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(root))
    expected = masks(labels)
    expected[36, 1:49] = 0
    assert np.array_equal(read(path, labels), expected)
    assert np.array_equal(read(path, labels, label_encoding="dense"), labels)


def roi(roifile, labels, number, sub_pixel):
    parts = polygons(labels, number)
    if len(parts) == 1 and len(parts[0]) == 1:
        points = parts[0][0].astype(np.float32 if sub_pixel else int)
        return roifile.ImagejRoi.frompoints(points, name=f"cell {number}")
    path = []
    for ring in (ring for part in parts for ring in part):
        path += [value for k, point in enumerate(ring) for value in (float(k > 0), *point)] + [4.0]
    rows, columns = np.nonzero(labels == number)
    return roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.RECT,
        name=f"cell {number}",
        top=int(rows.min()),
        left=int(columns.min()),
        bottom=int(rows.max()) + 1,
        right=int(columns.max()) + 1,
        shape_roi_size=len(path),
        multi_coordinates=np.array(path, np.float32),
    )


@pytest.mark.parametrize("sub_pixel", (False, True))
def test_imagej(tmp_path, sub_pixel):
    roifile = pytest.importorskip("roifile")
    labels = shapes()
    regions = [roi(roifile, labels, number, sub_pixel) for number in numbers(labels)]
    one = tmp_path / "one.roi"
    regions[0].tofile(one)
    assert np.array_equal(read(one, labels), np.where(labels == 1, 1, -1))
    regions.append(roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, name="Background-2", top=36, left=1, bottom=37, right=49))
    roifile.roiwrite(tmp_path / "RoiSet.zip", regions)
    expected = masks(labels)
    expected[36, 1:49] = 0
    assert np.array_equal(read(tmp_path / "RoiSet.zip", labels), expected)
    with zipfile.ZipFile(tmp_path / "RoiSet.zip") as archive:
        names = archive.namelist()
        with zipfile.ZipFile(tmp_path / "deflated.zip", "w", zipfile.ZIP_DEFLATED) as packed:
            for name in names:
                packed.writestr(name, archive.read(name))
    assert np.array_equal(read(tmp_path / "deflated.zip", labels), expected)


def test_imagej_ovals_take_the_pixels_inside(tmp_path):
    roifile = pytest.importorskip("roifile")
    oval = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL, name="oval", top=5, left=6, bottom=20, right=21)
    oval.tofile(tmp_path / "oval.roi")
    found = cs.read_annotations(tmp_path / "oval.roi", (40, 50))
    y, x = np.mgrid[:40, :50]
    assert np.array_equal(found > 0, (y - 12) ** 2 + (x - 13) ** 2 <= 7.5**2)


@pytest.mark.parametrize("kind", ("LINE", "POLYLINE", "FREELINE"))
def test_lines_of_imagej_are_background_through_the_centres_of_pixels(tmp_path, kind):
    roifile = pytest.importorskip("roifile")
    labels = shapes()
    regions = [roi(roifile, labels, number, False) for number in numbers(labels)]
    kind_of = getattr(roifile.ROI_TYPE, kind)
    if kind == "LINE":
        line = roifile.ImagejRoi(roitype=kind_of, x1=1, y1=36, x2=48, y2=36, name="a line")
    else:
        line = roifile.ImagejRoi.frompoints(np.array([[1, 36], [30, 36], [48, 36]]), name="a line")
        line.roitype = kind_of
    regions.append(line)
    roifile.roiwrite(tmp_path / "RoiSet.zip", regions)
    expected = masks(labels)
    expected[36, 1:49] = 0
    assert np.array_equal(read(tmp_path / "RoiSet.zip", labels), expected)
    # A width of 3, as it is drawn.
    regions[-1].stroke_width = 3
    roifile.roiwrite(tmp_path / "wide.zip", regions)
    expected[35:38, 1:49] = np.where(labels[35:38, 1:49] > 0, labels[35:38, 1:49], 0)
    assert np.array_equal(read(tmp_path / "wide.zip", labels), expected)


def test_regions_of_several_planes_are_chosen(tmp_path):
    roifile = pytest.importorskip("roifile")
    labels = shapes()
    for field, option in (("position", "plane"), ("position", "frame"), ("z_position", "plane"), ("t_position", "frame")):
        regions = [roi(roifile, labels, number, False) for number in numbers(labels)]
        for number, region in enumerate(regions):
            setattr(region, field, 1 + number % 2)
        roifile.roiwrite(tmp_path / "RoiSet.zip", regions)
        for place in (1, 2):
            found = read(tmp_path / "RoiSet.zip", labels, **{option: place})
            assert np.array_equal(found > 0, (labels > 0) & (labels % 2 == place % 2)), (field, option)
        with pytest.warns(cs.AnnotationWarning, match="3 x shape on another plane or time point"):
            cs.read_annotations(tmp_path / "RoiSet.zip", labels.shape, **{option: 1})
        with pytest.raises(cs.FileError, match=r"RoiSet.zip: its shapes were drawn on 2 .*, 1, 2; choose a .*pass (plane|frame)=N"):
            read(tmp_path / "RoiSet.zip", labels)


def test_stacks_of_label_images_are_chosen_from(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    labels = shapes().astype(np.uint16)
    path = tmp_path / "labels.tif"
    for axes, option in (("ZYX", "plane"), ("TYX", "frame")):
        tifffile.imwrite(path, np.stack([labels * 0, labels]), imagej=True, metadata={"axes": axes})
        assert np.array_equal(read(path, labels, label_encoding="dense", **{option: 2}), labels)
        with pytest.raises(cs.FileError, match=f"pass {option}=N"):
            read(path, labels)


@pytest.mark.parametrize("packed", ("gz", "zip"))
def test_packed_qupath_with_planes_and_derived_classes(tmp_path, packed):
    labels = shapes()
    features = cs.to_geojson(labels)
    for number, feature in enumerate(features):
        plane = {"plane": {"c": -1, "z": 1, "t": 0}} if number % 2 else {}
        names = ["Foreground", "Positive"] if number else ["Foreground"]
        feature["geometry"].update(plane)
        feature["properties"] = {"objectType": "annotation", "isLocked": True, "classification": {"names": names, "color": [1, 2, 3]}}
    text = json.dumps({"type": "FeatureCollection", "features": features})
    path = tmp_path / f"a.geojson.{packed}"
    if packed == "gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.geojson", text)
    for plane in (1, 2):
        found = read(path, labels, plane=plane)
        assert np.array_equal(found > 0, (labels > 0) & (labels % 2 == plane % 2))
    with pytest.raises(cs.FileError, match="2 planes"):
        read(path, labels)
    # The second name is a class of its own, too.
    found = read(path, labels, plane=1, foreground="Foreground: Positive")
    assert np.array_equal(np.unique(labels[found > 0]), [3, 5])


def test_files_as_ilastik_exports_them(tmp_path):
    labels = shapes()
    folder = DOCUMENT.parents[1] / "tests" / "fixtures" / "annotations"
    truth = np.array(json.loads((folder / "truth.json").read_text())["labels"])
    for name in ("ilastik.h5", "ilastik_turned.h5"):
        assert np.array_equal(read(folder / name, truth, label_encoding="dense"), np.maximum(truth, 0)), name
    np.save(tmp_path / "a.npy", labels.astype(np.uint32)[..., None])
    assert np.array_equal(read(tmp_path / "a.npy", labels, label_encoding="dense"), labels)
    tifffile = pytest.importorskip("tifffile")
    for axes, shape in (("ZYXC", (1, *labels.shape, 1)), ("TZCYX", (1, 1, 1, *labels.shape)), ("YX", labels.shape)):
        stored = labels.astype(np.uint8).reshape(shape)
        tifffile.imwrite(tmp_path / "a.tif", stored, metadata={"axes": axes}, photometric="minisblack")
        assert np.array_equal(read(tmp_path / "a.tif", labels, label_encoding="dense"), labels), axes
    (tmp_path / "a.ilp").write_bytes((folder / "ilastik.h5").read_bytes())
    with pytest.raises(cs.FileError, match="a project of ilastik"):
        cs.read_annotations(tmp_path / "a.ilp")


@pytest.mark.parametrize("form", ("polygons", "compressed", "uncompressed"))
def test_coco(tmp_path, form):
    coco = pytest.importorskip("pycocotools.mask")
    labels = shapes()
    annotations, expected = [], masks(labels)
    for number in numbers(labels):
        mask = np.asfortranarray(labels == number, np.uint8)
        if form == "polygons":
            parts = polygons(labels, number)
            if any(len(part) > 1 for part in parts):
                expected[labels == number] = -1
                continue
            segmentation = [part[0].ravel().tolist() for part in parts]
            there = coco.decode(coco.merge(coco.frPyObjects(segmentation, *labels.shape)))
            assert np.array_equal(there, mask), "pycocotools means the same pixels"
        elif form == "compressed":
            encoded = coco.encode(mask)
            segmentation = {"size": encoded["size"], "counts": encoded["counts"].decode()}
        else:
            flat = np.concatenate([[0], mask.ravel("F"), [2]])
            ends = np.flatnonzero(np.diff(flat.astype(int)))
            segmentation = {"size": list(labels.shape), "counts": np.diff([0, *ends]).tolist()}
            assert np.array_equal(coco.decode(coco.frPyObjects(segmentation, *labels.shape)), mask)
        annotations.append({"id": number, "image_id": 2, "category_id": 1, "iscrowd": 0, "segmentation": segmentation})
    images = [{"id": id, "file_name": name, "height": 40, "width": 50} for id, name in ((1, "other.png"), (2, "a.png"))]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}))
    found = read(path, labels, image="a.png")
    assert np.array_equal(found > 0, expected > 0)
    for number in numbers(labels):
        assert len(np.unique(found[expected == number])) <= 1
    with pytest.raises(cs.FileError, match="2 images"):
        read(path, labels)
    with pytest.raises(cs.FileError, match="nothing in it"):
        read(path, labels, image="other.png")


def test_labelme(tmp_path):
    labels = shapes()
    drawn, expected = [], masks(labels)
    for number in numbers(labels):
        parts = polygons(labels, number)
        if any(len(part) > 1 for part in parts):
            expected[labels == number] = -1
            continue
        for (ring,) in parts:
            drawn.append({"label": "cell", "points": ring.tolist(), "group_id": number, "shape_type": "polygon"})
    drawn.append({"label": "cell", "points": [[45.5, 8.5], [49, 8.5]], "group_id": None, "shape_type": "circle"})
    drawn.append({"label": "background", "points": [[1, 36.5], [49, 36.5]], "group_id": None, "shape_type": "linestrip"})
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"shapes": drawn, "imagePath": "a.png", "imageHeight": 40, "imageWidth": 50}))
    y, x = np.mgrid[:40, :50]
    expected[(y - 8) ** 2 + (x - 45) ** 2 <= 3.5**2] = 9
    expected[36, 1:49] = 0
    found = read(path, labels)
    assert np.array_equal(np.sign(found), np.sign(expected))
    assert len(np.unique(found)) == len(np.unique(expected))


def test_odd_files_of_labelme(tmp_path):
    """With the image inside, from another folder, shapes that reach out of it, lines and points."""
    square = [[-5.0, -5.0], [6.0, -5.0], [6.0, 7.0], [-5.0, 7.0]]
    shapes = [
        {"label": "cell", "points": square, "shape_type": "polygon", "group_id": None, "flags": {}, "description": ""},
        {"label": "cell", "points": [[30.0, 20.0], [20.0, 10.0]], "shape_type": "rectangle"},
        {"label": "cell", "points": [[1, 30], [40, 30]], "shape_type": "line"},
        {"label": "Background", "points": [[0.5, 35.5], [49.5, 35.5]], "shape_type": "line"},
        {"label": "cell", "points": [[60, 50], [70, 50], [70, 60]], "shape_type": "polygon"},
        {"label": "cell", "points": [[1, 1]], "shape_type": "point"},
    ]
    root = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": "..\\images\\a.png",
        "imageData": base64.b64encode(b"x" * 5000).decode(),
        "imageHeight": 40,
        "imageWidth": 50,
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(root))
    expected = np.full((40, 50), -1)
    expected[35] = 0
    expected[:7, :6], expected[10:20, 20:30] = 1, 2
    with pytest.warns(cs.AnnotationWarning) as told:
        found = cs.read_annotations(path, (40, 50))
    assert np.array_equal(found, expected)
    told = " ".join(str(one.message) for one in told)
    assert "1 shape of the type 'line'" in told and "1 shape of the type 'point'" in told and "outside of the image" in told


def test_masks_of_labelme(tmp_path):
    """As labelme 5.5 keeps what its AI tools find: a PNG of one bit, and its first and last pixel."""
    pictures = pytest.importorskip("PIL.Image")
    labels = shapes()
    drawn = []
    for number in numbers(labels):
        rows, columns = np.nonzero(labels == number)
        top, left, bottom, right = rows.min(), columns.min(), rows.max(), columns.max()
        content = io.BytesIO()
        pictures.fromarray((labels == number)[top : bottom + 1, left : right + 1]).save(content, "PNG")
        mask = base64.b64encode(content.getvalue()).decode()
        points = [[float(left), float(top)], [float(right), float(bottom)]]
        drawn.append({"label": "cell", "points": points, "group_id": None, "shape_type": "mask", "mask": mask})
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"shapes": drawn, "imagePath": "a.png", "imageHeight": 40, "imageWidth": 50}))
    assert np.array_equal(read(path, labels), masks(labels))


def test_labkit(tmp_path):
    labels = shapes()
    pixels = {f"cell {number}": np.argwhere(labels.T == number).tolist() for number in numbers(labels)}
    pixels["background"] = [[x, 36] for x in range(1, 49)]
    root = {
        "interval": {"min": [0, 0], "max": [49, 39], "n": 2},
        "pixelSizes": [{"size": 1.0, "unit": "pixel"}] * 2,
        "labels": pixels,
        "colors": {"background": "#004AFF"},
    }
    path = tmp_path / "a.tif.labeling"
    path.write_text(json.dumps(root))
    expected = masks(labels)
    expected[36, 1:49] = 0
    found = read(path, labels)
    assert np.array_equal(np.sign(found), np.sign(expected))
    assert all(len(np.unique(found[labels == number])) == 1 for number in numbers(labels))
    # Cells painted with the one label that Labkit begins with: every part is one.
    root["labels"] = {"foreground": np.argwhere(np.isin(labels, (1, 2, 3)).T).tolist()}
    path.write_text(json.dumps(root))
    assert len(np.unique(read(path, labels))) == 1 + 4
    (tmp_path / "a.bsdf").write_bytes(b"\xe5\x91\x00")
    with pytest.raises(cs.FileError, match="in Labkit, save it as .labeling or as .tif"):
        cs.read_annotations(tmp_path / "a.bsdf")


def test_files_that_cellpose_itself_wrote():
    folder = DOCUMENT.parents[1] / "tests" / "fixtures" / "annotations"
    truth = np.array(json.loads((folder / "truth.json").read_text())["labels"])
    cells = np.maximum(truth, 0)
    for name in ("field_seg.npy", "many_seg.npy", "field_cp_masks.png", "field_cp_masks.tif"):
        path = folder / "cellpose31" / name
        assert np.array_equal(read(path, truth, label_encoding="dense"), cells), name
        assert np.array_equal(read(path, truth, label_encoding="cells"), masks(cells)), name


@pytest.mark.parametrize("protocol", (3, 4, 5))
def test_cellpose(tmp_path, protocol):
    labels = shapes()
    content = {
        "outlines": np.zeros(labels.shape, np.uint16),
        "masks": labels.astype(np.uint16),
        "chan_choose": [0, 0],
        "ismanual": np.zeros(6, bool),
        "filename": "a.tif",
        "flows": [np.zeros((1, 4, 4, 3), np.uint8), [], np.zeros((3, 4, 4), np.float32)],
        "diameter": np.float32(12.5),
        "model_path": Path("models/cyto3"),
        "normalize_params": {"percentile": [1.0, 99.0]},
    }
    path = tmp_path / "a_seg.npy"
    np.save(path, content)
    if protocol != 4:
        import pickle

        header = path.read_bytes()[: path.read_bytes().index(b"\n") + 1]
        path.write_bytes(header + pickle.dumps(np.array(content, object), protocol=protocol))
    assert np.array_equal(read(path, labels, label_encoding="dense"), labels)
    assert np.array_equal(read(path, labels, label_encoding="cells"), masks(labels))


def test_cellpose_itself(tmp_path):
    cellpose = pytest.importorskip("cellpose.io")
    labels = shapes().astype(np.uint16)
    flows = [np.zeros((*labels.shape, 3), np.uint8), np.zeros((2, *labels.shape), np.float32), np.zeros(labels.shape, np.float32)]
    cellpose.masks_flows_to_seg(np.zeros(labels.shape), labels, flows, str(tmp_path / "a.tif"))
    cellpose.save_masks(np.zeros(labels.shape), labels, flows, str(tmp_path / "a.tif"), png=True, tif=True)
    for name in ("a_seg.npy", "a_cp_masks.png", "a_cp_masks.tif"):
        assert np.array_equal(read(tmp_path / name, labels, label_encoding="dense"), labels), name


@pytest.mark.parametrize("dtype", ("uint8", "uint16", "uint32", "int8", "int16", "int32"))
def test_label_images_of_tifffile_and_numpy(tmp_path, dtype):
    tifffile = pytest.importorskip("tifffile")
    labels = shapes()
    tifffile.imwrite(tmp_path / "a.tif", labels.astype(dtype))
    np.save(tmp_path / "a.npy", labels.astype(dtype))
    np.save(tmp_path / "b.npy", np.asfortranarray(labels.astype(np.dtype(dtype).newbyteorder())))
    for name in ("a.tif", "a.npy", "b.npy"):
        assert np.array_equal(read(tmp_path / name, labels, label_encoding="cells"), masks(labels)), name


def test_label_images_of_pillow(tmp_path):
    images = pytest.importorskip("PIL.Image")
    labels = shapes()
    grey = images.fromarray(labels.astype(np.uint8))
    grey.save(tmp_path / "a.png")
    grey.putpalette(list(range(256)) * 3)
    grey.save(tmp_path / "palette.png")
    images.fromarray(labels.astype(np.uint16)).save(tmp_path / "deep.png")
    for name in ("a.png", "palette.png", "deep.png"):
        assert np.array_equal(read(tmp_path / name, labels, label_encoding="cells"), masks(labels)), name


def test_what_cannot_be_used_is_said(tmp_path):
    path = tmp_path / "a.geojson"
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}}
    path.write_text(json.dumps([*cs.to_geojson([[0, 1, 1]]), point]))
    with pytest.warns(cs.AnnotationWarning, match="a.geojson: 1 point"):
        cs.read_annotations(path)
    path.write_text(json.dumps([point]))
    with pytest.raises(cs.FileError, match="nothing in it can be used: only 1 point"):
        cs.read_annotations(path)
    np.save(tmp_path / "a.npy", shapes())
    with pytest.raises(cs.FileError, match="40 x 50 pixels and 41 x 50"):
        cs.read_annotations(tmp_path / "a.npy", (41, 50), label_encoding="cells")


def discs(count, first=1):
    labels = np.zeros((160, 160), np.uint16)
    y, x = np.mgrid[:160, :160]
    for number in range(count):
        labels[(y - 20 - 30 * (number // 5)) ** 2 + (x - 20 - 30 * (number % 5)) ** 2 <= 36] = first + number
    return labels


def test_encodings_are_chosen_said_and_asked_about(capsys):
    images = [np.random.default_rng(seed).random((160, 160)) for seed in range(3)]
    options = {**QUICK, "progress": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.AnnotationWarning)
        small().train(images, [discs(3), discs(4), discs(5)], **options)
        assert "labels: cells (0 unlabelled, 1 and up cells, no background), because" in capsys.readouterr().err
        wire = discs(4, first=2)
        wire[100:103, 10:90] = wire[120:123, 10:90] = 1
        small().train(images[0], wire, **options)
        assert "labels: wire" in capsys.readouterr().err
        small().train(images[0], np.where(discs(5) == 0, -1, discs(5).astype(int)), **options)
        assert "labels: " not in capsys.readouterr().err
        small().train(images[0], discs(4), label_encoding="cells", **QUICK)
    with pytest.raises(cs.LabelsError, match='use label_encoding="cells" .*, or label_encoding="wire"'):
        small().train(images[0], discs(4), **QUICK)


@pytest.mark.parametrize("algorithm", ("stardist", "cellpose", "elephant"))
def test_cells_without_background_and_empty_fields_are_trained_on(algorithm):
    field = cs.synthetic.field(seed=2, shape=(128, 128))
    few = np.where(np.isin(field.annotation, np.unique(field.annotation[field.annotation > 0])), field.annotation, 0)
    dark = np.full((128, 128), field.image.min(), field.image.dtype)
    options = {"batch_size": 2, "patch_size": 64, "progress": False, "label_encoding": "cells"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.AnnotationWarning)
        model = small(algorithm)
        history = model.train([field.image, dark], [few, np.zeros_like(few)], steps=40, **options)
        assert np.isfinite(history.loss).all()
        complete = small(algorithm).train(
            [field.image, dark], [field.truth, np.zeros_like(few)], steps=2, **{**options, "label_encoding": "dense"}
        )
        assert np.isfinite(complete.loss).all()
    with pytest.raises(cs.LabelsError, match="no cell is drawn"):
        small(algorithm).train([dark], [np.zeros_like(few)], steps=2, **{**options, "label_encoding": "dense"})


def test_undrawn_cells_in_declared_background_are_warned_about():
    y, x = np.mgrid[:130, :130]
    labels = np.zeros((130, 130), np.uint8)
    for number in range(16):
        labels[(y - 20 - 30 * (number // 4)) ** 2 + (x - 20 - 30 * (number % 4)) ** 2 <= 81] = number + 1
    image = np.where(labels > 0, 0.8, 0.2) + np.random.default_rng(0).normal(0, 0.03, labels.shape)
    with pytest.warns(cs.AnnotationWarning, match='look like the 4 drawn cells.*label_encoding="cells"'):
        small().train(image, np.where(labels > 4, 0, labels), label_encoding="dense", **QUICK)


def blocks():
    return [
        pytest.param(code, id=re.search(r'read_annotations\("([^"]+)"', code)[1])
        for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)
    ]


@pytest.mark.parametrize("code", blocks())
def test_the_documented_way_from_each_program_to_a_model(code, tmp_path, monkeypatch, field):
    """Each block of docs/annotate.md has five lines and runs on files that the program's own writers made."""
    assert len(code.strip().splitlines()) == 5
    tifffile, roifile = pytest.importorskip("tifffile"), pytest.importorskip("roifile")
    shapely = pytest.importorskip("shapely")
    drawn = np.unique(field.annotation[field.annotation > 0])
    few = np.zeros(field.image.shape, np.uint16)
    for number, cell in enumerate(drawn, 1):
        few[field.annotation == cell] = number
    monkeypatch.chdir(tmp_path)
    for name in ("slide.tif", "field.tif"):
        tifffile.imwrite(name, field.image)
    tifffile.imwrite("field-labels.tif", few)
    np.save("field_seg.npy", {"masks": few, "flows": [], "filename": "field.tif"})
    roifile.roiwrite("RoiSet.zip", [roi(roifile, few, number, True) for number in numbers(few)])
    features = []
    for number in numbers(few):
        cell = shapely.union_all([shapely.box(x, y, x + 1, y + 1) for y, x in zip(*np.nonzero(few == number))])
        properties = {"objectType": "annotation", "classification": {"name": "Foreground", "color": [200, 0, 0]}}
        features.append({"type": "Feature", "geometry": json.loads(shapely.to_geojson(cell)), "properties": properties})
    Path("slide.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    for name in ("StarDist", "Cellpose", "Elephant"):
        quick = small(name.lower())
        monkeypatch.setattr(cs, name, lambda quick=quick: quick)
        train = type(quick).train
        monkeypatch.setattr(type(quick), "train", lambda self, *pair, train=train: train(self, *pair, **QUICK))
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.AnnotationWarning)
        exec(code, found)
    assert np.array_equal(found["labels"], masks(few.astype(np.int32)))
    assert found["model"].steps == 1
