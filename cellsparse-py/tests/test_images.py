"""Files of real writers: what tifffile with imagecodecs and Pillow write is read as they wrote it, or refused as documented."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

import cellsparse as cs

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")
Image = pytest.importorskip("PIL.Image")

SHARED = Path(os.environ.get("CELLSPARSE_SHARED") or Path(__file__).resolve().parents[3] / "shared")
OF_OTHERS = SHARED / "data" / "formats"

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 43, 61


def noise(*shape, dtype="u1", most=None):
    """Values over the whole range of a type, in runs, so that every compression has something to do."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return RNG.normal(0, 100, shape).round(2).astype(dtype)
    info = np.iinfo(dtype)
    low, high = max(info.min, -(1 << 24)), min(info.max, 1 << 24)
    if most is not None:
        low, high = 0, most
    pixels = RNG.integers(low, high, shape, dtype="i8", endpoint=True)
    return (pixels - pixels % 7 * (np.indices(shape).sum(0) % 3 == 0)).clip(low, high).astype(dtype)


def read(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return cs.read_image(path, **options)


def write(path, pixels, **options):
    tifffile.imwrite(path, pixels, **options)
    return path


def same(found, written):
    expected = written if written.dtype in ("u1", "u2", "f4") else written.astype("f4")
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


COMPRESSIONS = {
    "none": {},
    "lzw": {"compression": "lzw"},
    "deflate": {"compression": "zlib"},
    "adobe deflate": {"compression": "adobe_deflate"},
    "packbits": {"compression": "packbits"},
    "zstd": {"compression": "zstd"},
    "lzw, differences": {"compression": "lzw", "predictor": True},
    "zstd, differences": {"compression": "zstd", "predictor": True},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "tiles": {"tile": (32, 16)},
    "tiles, differences": {"tile": (16, 48), "compression": "zlib", "predictor": True},
    "big": {"bigtiff": True, "compression": "lzw"},
    "big-endian": {"byteorder": ">"},
    "big-endian, differences": {"byteorder": ">", "compression": "zlib", "predictor": True},
}
TYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]


@pytest.mark.parametrize("options", COMPRESSIONS.values(), ids=COMPRESSIONS)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_in_every_compression(tmp_path, dtype, options):
    if dtype in ("u8", "i8"):
        options = options | {"predictor": False}  # which tifffile does not write for 64-bit integers
    for shape, kind in [
        ((HEIGHT, WIDTH), {}),
        ((HEIGHT, WIDTH, 3), {"photometric": "rgb"}),
        ((3, HEIGHT, WIDTH), {"photometric": "rgb", "planarconfig": "separate"}),
        ((HEIGHT, WIDTH, 2), {"photometric": "minisblack", "planarconfig": "contig"}),
        ((2, HEIGHT, WIDTH), {"photometric": "minisblack", "planarconfig": "separate"}),
    ]:
        pixels = noise(*shape, dtype=dtype)
        path = write(tmp_path / "a.tif", pixels, metadata=None, **kind, **options)
        stored = np.moveaxis(pixels, 0, -1) if kind.get("planarconfig") == "separate" else pixels
        same(read(path), stored)
        if len(shape) == 2 and dtype[0] != "f":
            np.testing.assert_array_equal(cs.read_labels(path), pixels.astype("i8"))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 14, 15])
def test_samples_of_few_bits(tmp_path, bits):
    pixels = noise(HEIGHT, WIDTH, dtype="u1" if bits <= 8 else "u2", most=2**bits - 1)
    if bits == 1:
        path = write(tmp_path / "a.tif", pixels.astype(bool), metadata=None)
    else:
        path = write(tmp_path / "a.tif", pixels, bitspersample=bits, metadata=None)
    same(read(path), pixels)
    np.testing.assert_array_equal(cs.read_labels(path), pixels)


def test_jpeg_in_tiff(tmp_path):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rgb = np.stack([x * 4, y * 5, 255 - 2 * x - y], -1).astype("u1")
    for pixels, options in [
        (rgb, {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 95}}),
        (rgb, {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 95}, "tile": (16, 32)}),
        (rgb, {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 95, "outcolorspace": "rgb"}}),
        (rgb[..., 0], {"compression": "jpeg", "compressionargs": {"level": 95}, "rowsperstrip": 16}),
    ]:
        path = write(tmp_path / "a.tif", pixels, metadata=None, **options)
        found = read(path)
        assert found.dtype == "u1" and found.shape == pixels.shape
        assert np.abs(found.astype(int) - tifffile.imread(path)).max() <= 4
        assert np.abs(found.astype(int) - pixels).mean() < 3
    path = write(tmp_path / "a.tif", rgb, photometric="rgb", compression="jpeg", subsampling=(2, 2), metadata=None)
    assert np.abs(read(path).astype(int) - tifffile.imread(path)).mean() < 2
    with pytest.raises(cs.FileError, match="3 channels"):
        cs.read_labels(path)


@pytest.mark.parametrize("compression", ["lzma", "jpeg2000", "webp", "jpegxl", "lerc"])
def test_compressions_that_are_refused_are_named(tmp_path, compression):
    try:
        path = write(tmp_path / "a.tif", noise(32, 32, 3), photometric="rgb", compression=compression, metadata=None)
    except Exception as error:  # a build of imagecodecs without it
        pytest.skip(str(error))
    with pytest.raises(cs.FileError) as caught:
        cs.read_image(path)
    message = str(caught.value)
    assert "a.tif" in message and "is not read; save it" in message and "damaged" not in message


def test_white_as_zero(tmp_path):
    for dtype in ("u1", "u2"):
        labels = noise(HEIGHT, WIDTH, dtype=dtype, most=9)
        path = write(tmp_path / "a.tif", labels, photometric="miniswhite", metadata=None)
        np.testing.assert_array_equal(cs.read_labels(path), labels)
        with pytest.warns(UserWarning, match="0 means white"):
            image = cs.read_image(path)
        np.testing.assert_array_equal(image, np.iinfo(dtype).max - labels)
    labels = noise(HEIGHT, WIDTH, dtype="u4", most=9)
    path = write(tmp_path / "a.tif", labels, photometric="miniswhite", metadata=None)
    np.testing.assert_array_equal(cs.read_labels(path), labels)


def test_colour_tables(tmp_path):
    indices = noise(HEIGHT, WIDTH, most=255)
    colors = RNG.integers(0, 256, (3, 256)).astype("u2") * 257
    path = write(tmp_path / "a.tif", indices, photometric="palette", colormap=colors, metadata=None)
    np.testing.assert_array_equal(cs.read_labels(path), indices)
    with pytest.warns(UserWarning, match="colour table"):
        image = cs.read_image(path)
    np.testing.assert_array_equal(image, np.moveaxis((colors // 257)[:, indices], 0, -1))
    green = np.zeros((3, 256), "u2")
    green[1] = np.arange(256) * 257
    path = write(tmp_path / "b.tif", indices, photometric="palette", colormap=green, metadata=None)
    np.testing.assert_array_equal(read(path), indices)
    wide = noise(HEIGHT, WIDTH, dtype="u2")
    table = RNG.integers(0, 65536, (3, 65536)).astype("u2")
    path = write(tmp_path / "c.tif", wide, photometric="palette", colormap=table, metadata=None)
    np.testing.assert_array_equal(cs.read_labels(path), wide)


def test_extra_samples(tmp_path):
    five = noise(HEIGHT, WIDTH, 5)
    path = write(tmp_path / "a.tif", five, photometric="rgb", metadata=None)
    same(read(path), five)
    four = noise(4, HEIGHT, WIDTH, dtype="u2")
    path = tmp_path / "b.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tifffile, which takes the fourth channel for transparency
        write(path, four)
    with pytest.warns(UserWarning, match="channel 4 is tagged as transparency"):
        found = cs.read_image(path)
    np.testing.assert_array_equal(found, np.moveaxis(four[:3], 0, -1))
    same(read(path, channels=[1, 2, 3, 4]), np.moveaxis(four, 0, -1))
    same(read(path, channels=[4]), four[3])
    opaque = np.concatenate([noise(HEIGHT, WIDTH, 3), np.full((HEIGHT, WIDTH, 1), 255, "u1")], -1)
    same(read(write(tmp_path / "c.tif", opaque, photometric="rgb", extrasamples=["unassalpha"])), opaque[..., :3])


@pytest.mark.parametrize("kind", ["imagej", "ome", "axes"])
def test_stacks(tmp_path, kind):
    """Time points, planes and channels of the three kinds of metadata, in the orders that they are stored in."""
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    options = {"imagej": {"imagej": True}, "ome": {"ome": True}, "axes": {}}[kind]
    stack = noise(2, 3, 4, HEIGHT, WIDTH, dtype="u2")

    def store(axes, pixels):
        order = {"imagej": "TZCYX"}.get(kind, axes)
        pixels = np.transpose(pixels, [axes.index(axis) for axis in order if axis in axes])
        return write(path, pixels, photometric="minisblack", metadata={"axes": "".join(a for a in order if a in axes)}, **options)

    same(read(store("CYX", stack[0, 0])), np.moveaxis(stack[0, 0], 0, -1))
    same(read(path, channels=[3, 1]), np.moveaxis(stack[0, 0][[2, 0]], 0, -1))
    for axes, pixels in [("TZCYX", stack), ("CZTYX", np.transpose(stack, [2, 1, 0, 3, 4]))]:
        store(axes, pixels)
        with pytest.raises(cs.FileError, match=r"4 channels, 3 planes \(Z\) and 2 time points \(T\).*plane"):
            cs.read_image(path)
        with pytest.raises(cs.FileError, match=r"frame \(1 to 2"):
            cs.read_image(path, plane=3)
        same(read(path, plane=3, frame=1), np.moveaxis(stack[0, 2], 0, -1))
        same(read(path, plane=1, frame=2, channels=[2]), stack[1, 0, 1])
    store("ZYX", stack[0, :, 0])
    same(read(path, plane=2), stack[0, 1, 0])
    with pytest.raises(cs.FileError, match="plane 4 was asked for and the file has 3"):
        cs.read_image(path, plane=4)
    np.testing.assert_array_equal(cs.read_labels(path, plane=2), stack[0, 1, 0])


def test_stacks_with_one_directory(tmp_path):
    stack = noise(3, HEIGHT, WIDTH, dtype="u2")
    path = write(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "CYX"}, truncate=True)
    assert len(tifffile.TiffFile(path).pages) == 1 or tifffile.TiffFile(path).is_imagej
    same(read(path), np.moveaxis(stack, 0, -1))
    path = write(tmp_path / "b.tif", stack, imagej=True, metadata={"axes": "ZYX"}, truncate=True)
    with pytest.raises(cs.FileError, match=r"3 planes"):
        cs.read_image(path)
    same(read(path, plane=3), stack[2])


def test_pages_that_nothing_explains(tmp_path):
    stack = noise(3, HEIGHT, WIDTH, dtype="u2")
    path = write(tmp_path / "a.tif", stack, photometric="minisblack", metadata=None)
    with pytest.raises(cs.FileError, match="stack of 3 pages"):
        cs.read_image(path)
    same(read(path, plane=2), stack[1])
    same(read(path, channels=[1, 2, 3]), np.moveaxis(stack, 0, -1))


def test_pyramids(tmp_path):
    full = noise(128, 128, 3)
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(full, subifds=1, photometric="rgb", tile=(64, 64))
        file.write(full[::2, ::2], subfiletype=1, photometric="rgb", tile=(64, 64))
    same(read(path), full)
    path = tmp_path / "b.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(full, photometric="rgb", metadata=None)
        file.write(full[::2, ::2], subfiletype=1, photometric="rgb", metadata=None)
    same(read(path), full)


def test_numbers_that_imagej_shifted(tmp_path):
    labels = np.full((48, 64), -1, "i2")
    labels[:20] = 0
    labels[25:35, 5:15], labels[25:35, 20:30] = 1, 2
    description = "ImageJ=1.54p\nunit= \ncf=0\nc0=-32768.0\nc1=1.0\nvunit=Gray Value\n"
    path = write(tmp_path / "a.tif", (labels.astype("i4") + 32768).astype("u2"), description=description, metadata=None)
    np.testing.assert_array_equal(cs.read_labels(path, "signed"), labels)
    with pytest.raises(cs.FileError):
        cs.read_labels(path, "wire")
    np.testing.assert_array_equal(read(path), labels.astype("f4"))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA", "I;16", "F", "I"])
@pytest.mark.parametrize("ending", ["tif", "png"])
def test_pillow(tmp_path, mode, ending):
    if ending == "png" and mode in ("F", "I"):
        pytest.skip("Pillow writes no such PNG")
    shape = {"RGB": (HEIGHT, WIDTH, 3), "RGBA": (HEIGHT, WIDTH, 4), "LA": (HEIGHT, WIDTH, 2)}.get(mode, (HEIGHT, WIDTH))
    pixels = noise(*shape, dtype={"I;16": "u2", "F": "f4", "I": "i4"}.get(mode, "u1"), most=250 if mode != "F" else None)
    if mode == "1":
        picture = Image.fromarray(pixels > 100)
    elif mode == "P":
        picture = Image.fromarray(pixels).convert("P")
        picture.putpalette(RNG.integers(0, 256, 768, "u1").tobytes())
        pixels = np.asarray(picture)
    else:
        picture = Image.fromarray(pixels)
    path = tmp_path / f"a.{ending}"
    picture.save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = cs.read_image(path)
    if mode == "1":
        np.testing.assert_array_equal(found > 0, pixels > 100)
    elif mode == "P":
        np.testing.assert_array_equal(found, np.asarray(picture.convert("RGB")))
        np.testing.assert_array_equal(cs.read_labels(path), pixels)
    elif mode in ("RGBA", "LA"):
        np.testing.assert_array_equal(found, pixels[..., :-1].squeeze())
    else:
        np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_masks_of_one_bit_by_pillow(tmp_path, compression):
    mask = np.kron(RNG.integers(0, 2, (9, 13)), np.ones((5, 7), int)).astype(bool)
    path = tmp_path / "a.tif"
    Image.fromarray(mask).save(path, compression=compression)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(cs.read_image(path) > 0, mask)


def test_jpeg_files(tmp_path):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rgb = np.stack([x * 4, y * 5, 255 - 2 * x - y], -1).astype("u1")
    for pixels, options in [
        (rgb, {}),
        (rgb, {"progressive": True}),
        (rgb, {"subsampling": 0}),
        (rgb[..., 0], {}),
    ]:
        path = tmp_path / "a.jpg"
        Image.fromarray(pixels).save(path, quality=95, **options)
        found = read(path)
        assert found.shape == pixels.shape
        assert np.abs(found.astype(int) - np.asarray(Image.open(path))).mean() < 1


def test_the_description_alone_is_believed_only_as_far_as_the_file_goes(tmp_path):
    pixels = noise(HEIGHT, WIDTH, dtype="u2")
    path = write(tmp_path / "a.tif", pixels, description="ImageJ=1.54p\nimages=3\nslices=3\n", compression="zlib", metadata=None)
    with pytest.raises(cs.FileError, match="3 planes"):
        cs.read_image(path)
    with pytest.raises(cs.FileError, match="file holds fewer"):
        cs.read_image(path, plane=2)
    same(read(path, plane=1), pixels)
    path = write(tmp_path / "b.tif", pixels, description=json.dumps({"shape": "odd"}), metadata=None)
    same(read(path), pixels)


@pytest.mark.parametrize("dtype", ["u4", "i4", "u8"])
def test_large_whole_numbers_are_rounded_and_it_is_said(tmp_path, dtype):
    pixels = RNG.integers(1 << 24, 1 << 30, (HEIGHT, WIDTH)).astype(dtype)
    path = write(tmp_path / "a.tif", pixels)
    with pytest.warns(UserWarning, match=f"samples reach {pixels.max()}; above 16777216 they are rounded"):
        found = cs.read_image(path)
    np.testing.assert_array_equal(found, pixels.astype("f4"))
    np.testing.assert_array_equal(cs.read_labels(path), pixels)


def test_headers_tell_planes_and_pixel_sizes(tmp_path):
    stack = noise(2, 3, HEIGHT, WIDTH, dtype="u2")
    options = {"resolution": (4.0, 2.0), "metadata": {"axes": "TZYX", "unit": "um"}}
    path = write(tmp_path / "imagej.tif", stack, imagej=True, **options)
    assert cs.image_info(path) == (3, 2, (0.5, 0.25))
    size = {"PhysicalSizeX": 650, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    path = write(tmp_path / "a.ome.tif", stack, ome=True, metadata={"axes": "TZYX", **size})
    info = cs.image_info(path)
    assert (info.planes, info.frames) == (3, 2) and info.pixel_size == pytest.approx((0.5, 0.65))
    path = write(tmp_path / "centimetres.tif", stack[0, 0], resolution=(20_000, 20_000), resolutionunit="CENTIMETER")
    assert cs.image_info(path).pixel_size == pytest.approx((0.5, 0.5))
    path = write(tmp_path / "print.tif", stack[0, 0], resolution=(72, 72), resolutionunit="INCH")
    assert cs.image_info(path) == (1, 1, None)
    Image.fromarray(stack[0, 0]).save(tmp_path / "a.png")
    assert cs.image_info(tmp_path / "a.png") == (1, 1, None)
    path = write(tmp_path / "pages.tif", stack[0], photometric="minisblack", metadata=None)
    assert cs.image_info(path).planes == 3
    with pytest.raises(cs.NotFoundError):
        cs.image_info(tmp_path / "none.tif")


@pytest.mark.skipif(not OF_OTHERS.is_dir(), reason=f"no folder {OF_OTHERS} with files of other projects (CELLSPARSE_SHARED)")
@pytest.mark.parametrize(
    "name, shape",
    [
        ("is-Fluorescence_example.tif", (450, 450, 2)),
        ("is-HE_example.tif", (1484, 1380, 3)),
        ("stardist-qupath-3channels.tif", (512, 512, 3)),
        ("sd-tests-data-img2d.tif", (256, 256)),
        ("blobs.tif", (254, 256)),
        ("IXMtest_A02_s9.tif", (395, 695, 3)),
        ("self_contact.tif", (397, 228)),
    ],
)
def test_images_of_other_projects(name, shape):
    found, stored = read(OF_OTHERS / name), tifffile.imread(OF_OTHERS / name)
    if stored.shape != shape:
        stored = np.moveaxis(stored, 0, -1)
    assert found.shape == shape and found.dtype == stored.dtype
    if "HE" in name:
        assert np.abs(found.astype(int) - stored).max() <= 4, "JPEG, as other decoders round"
    else:
        np.testing.assert_array_equal(found, stored)


@pytest.mark.skipif(not OF_OTHERS.is_dir(), reason=f"no folder {OF_OTHERS} with files of other projects (CELLSPARSE_SHARED)")
def test_labels_of_other_projects(model):
    for name, cells in [("sd-tests-data-mask2d.tif", 65), ("label_map_with_index_gaps.tif", 4), ("blobs_sparse_labels.tif", 7)]:
        labels = cs.read_labels(OF_OTHERS / name, "dense")
        np.testing.assert_array_equal(labels, tifffile.imread(OF_OTHERS / name))
        assert len(np.unique(labels)) == cells + 1
    image, options = read(OF_OTHERS / "blobs.tif"), {"steps": 1, "batch_size": 1, "patch_size": 32, "progress": False}
    # A few cells among many that were not drawn: never background without a question or, in signed arrays, a warning.
    few = tifffile.imread(OF_OTHERS / "blobs_sparse_labels.tif")
    with pytest.raises(cs.LabelsError, match='use label_encoding="cells"'):
        model.train(image, few.astype("u1"), **options)
    with pytest.warns(cs.AnnotationWarning, match='look like the 7 drawn cells.*label_encoding="cells"'):
        model.train(image, few, **options)
    strokes = tifffile.imread(OF_OTHERS / "maize_clsm_annotation.tif").astype("u1")
    with pytest.raises(cs.LabelsError, match="stroke"):
        model.train(np.zeros(strokes.shape, "u1"), strokes, **options)
