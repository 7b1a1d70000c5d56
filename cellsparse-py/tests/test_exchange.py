"""Models from other programs and for them."""

import json
import warnings
import zipfile

import numpy as np
import pytest
from conftest import ALGORITHMS, FIXTURES, small

import cellsparse as cs


def test_a_model_of_stardist_becomes_one_of_cellsparse(tmp_path):
    notes = cs.convert(FIXTURES / "stardist" / "keras3", tmp_path / "a.safetensors")
    assert any("percentiles" in note for note in notes)
    model = cs.load(tmp_path / "a.safetensors")
    assert isinstance(model, cs.StarDist)
    assert model.info()["config"]["n_classes"] == 2
    assert model.info()["thresholds"]["prob_thresh"] == pytest.approx(0.3)
    config = tmp_path / "config.json"
    config.write_text('{"normalization": {"pmin": 2, "pmax": 99}, "pixel_size": 0.5}')
    cs.convert(FIXTURES / "stardist" / "keras2", tmp_path / "b.safetensors", config)
    assert cs.load(tmp_path / "b.safetensors").info()["normalization"] == {"pmin": 2.0, "pmax": 99.0}


def test_what_is_not_converted_is_named(tmp_path, model):
    model.save(tmp_path / "a.safetensors")
    with pytest.raises(cs.FileError, match="already"):
        cs.convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    with pytest.raises(cs.FileError, match="ending"):
        cs.convert(tmp_path / "a.safetensors", tmp_path / "b.h5")
    with pytest.raises(cs.WeightsError, match="PyTorch"):
        cs.convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
    cs.convert(tmp_path / "a.safetensors", tmp_path / "b.onnx")
    with pytest.raises(cs.FileError, match="ONNX"):
        cs.convert(tmp_path / "b.onnx", tmp_path / "c.safetensors")
    with pytest.raises(cs.NotFoundError):
        cs.convert(tmp_path / "none", tmp_path / "c.safetensors")


def test_networks_of_stardist_go_to_its_package_and_to_tensorflow(tmp_path):
    model = small("stardist", grid=(1, 2), n_channels=2)
    model.save(tmp_path / "a.safetensors")
    notes = cs.convert(tmp_path / "a.safetensors", tmp_path / "2D_mine")
    assert any("percentiles 1.0 and 99.8" in note or "percentiles 1 and 99.8" in note for note in notes), notes
    assert {"config.json", "thresholds.json", "weights_best.h5"} <= {f.name for f in (tmp_path / "2D_mine").iterdir()}
    for target in ("SavedModel.zip", "frozen.pb"):
        cs.convert(tmp_path / "a.safetensors", tmp_path / target)
    for number, source in enumerate(("2D_mine", "SavedModel.zip", "frozen.pb")):
        back = tmp_path / f"{number}.safetensors"
        cs.convert(tmp_path / source, back)
        assert cs.load(back).info()["config"] == model.info()["config"], source
    other = small("elephant")
    other.save(tmp_path / "b.safetensors")
    for target in ("folder", "b.pb"):
        with pytest.raises(cs.WeightsError, match="elephant"):
            cs.convert(tmp_path / "b.safetensors", tmp_path / target)


def package_of(model, folder):
    """The folder of an unpacked package."""
    model.save(folder / "a.safetensors")
    about = folder / "about.json"
    about.write_text(json.dumps({"package": {"license": "CC0-1.0", "authors": ["A. Nobody"], "name": "Some network"}}))
    assert cs.convert(folder / "a.safetensors", folder / "a.zip", about) == []
    with zipfile.ZipFile(folder / "a.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(folder / "package")
    return folder / "package"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_package_gives_the_model_back(algorithm, tmp_path):
    model = small(algorithm)
    package = package_of(model, tmp_path)
    assert {"rdf.yaml", "README.md", "weights.onnx", "cover.png", "test_input.npy"} <= {f.name for f in package.iterdir()}
    assert 'license: "CC0-1.0"' in (package / "rdf.yaml").read_text()
    cs.convert(tmp_path / "a.zip", tmp_path / "b.safetensors")
    assert cs.load(tmp_path / "b.safetensors").info() == model.info()


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_onnxruntime_answers_as_the_network_does(algorithm, residual, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    if algorithm == "elephant":
        model = small(algorithm, residual=residual)
    elif algorithm == "stardist" and residual:
        model = small(algorithm, batch_norm=True, n_classes=2, n_channels=2, grid=(1, 2))
    else:
        model = small(algorithm)
    package = package_of(model, tmp_path)
    session = runtime.InferenceSession(str(package / "weights.onnx"), providers=["CPUExecutionProvider"])
    image = np.load(package / "test_input.npy")
    low, high = np.percentile(image, [model.info()["normalization"][name] for name in ("pmin", "pmax")], axis=(2, 3), keepdims=True)
    scaled = ((image - low) / (high - low)).astype(np.float32)
    answers = dict(zip([output.name for output in session.get_outputs()], session.run(None, {"input": scaled})))
    for name, answer in answers.items():
        expected = np.load(package / f"test_{name}.npy")
        assert answer.shape == expected.shape
        np.testing.assert_allclose(answer, expected, atol=1e-4, err_msg=name)
    # Batches, heights and widths of any size that the network divides.
    rng = np.random.default_rng(0)
    several = rng.random((3, image.shape[1], 96, 64), dtype=np.float32)
    together = session.run(None, {"input": several})
    for index in range(3):
        for part, alone in zip(together, session.run(None, {"input": several[index : index + 1]})):
            np.testing.assert_allclose(part[index : index + 1], alone, atol=1e-5)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["cellsparse"])
    assert facts["algorithm"] == algorithm and facts["outputs"] == list(answers)


def onnx_of(model, folder, settings=None):
    """The file, and what was said."""
    folder.mkdir(exist_ok=True)
    model.save(folder / "a.safetensors")
    config = None
    if settings is not None:
        config = folder / "config.json"
        config.write_text(json.dumps({"onnx": settings}))
    return folder / "a.onnx", cs.convert(folder / "a.safetensors", folder / "a.onnx", config)


def scaled(model, image):
    """`[channels, height, width]` as this library scales it for the model."""
    percentiles = model.info()["normalization"]
    image = cs.normalize(np.moveaxis(image, 0, -1), percentiles["pmin"], percentiles["pmax"])
    return np.moveaxis(np.clip(image, -100, 100), -1, 0)


def measured(rng, shape):
    """Batches of images of different ranges: 16 bit, 8 bit with a defective pixel, constant, below 0."""
    several = np.stack([
        rng.gamma(2, 6000, shape).clip(0, 65535).round(),
        rng.integers(0, 256, shape),
        np.full(shape, 300.0),
        rng.normal(-3, 0.01, shape),
    ]).astype(np.float32)
    several[1, :, 3, 5] = 1e7
    return several


@pytest.mark.parametrize("algorithm, options", [
    ("stardist", {"n_channels": 3}),
    ("stardist", {"grid": (1, 2), "n_classes": 2, "batch_norm": True}),
    ("cellpose", {"n_channels": 2}),
    ("elephant", {"n_channels": 1}),
    ("elephant", {"n_channels": 2, "residual": True}),
])
def test_onnxruntime_scales_intensities_inside_as_the_library_does(algorithm, options, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model = small(algorithm, **options)
    inside, said = onnx_of(model, tmp_path / "inside", {"normalization": "inside"})
    outside, nothing = onnx_of(model, tmp_path / "outside", {"normalization": "metadata"})
    assert nothing == [] and len(said) == 1 and "whole images" in said[0]
    assert outside.read_bytes() == onnx_of(model, tmp_path / "plain")[0].read_bytes()
    inside, outside = (runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in (inside, outside))
    for session, place in [(inside, "inside"), (outside, "metadata")]:
        facts = json.loads(session.get_modelmeta().custom_metadata_map["cellsparse"])
        assert facts["normalization_place"] == place and facts["normalization"] == model.info()["normalization"]

    # The maps of the library itself, which a package holds.
    (tmp_path / "package").mkdir()
    package = package_of(model, tmp_path / "package")
    for output, answer in zip(inside.get_outputs(), inside.run(None, {"input": np.load(package / "test_input.npy")})):
        np.testing.assert_allclose(answer, np.load(package / f"test_{output.name}.npy"), atol=1e-4, err_msg=output.name)

    # Each image of a batch by itself, whatever its size, as the network without it answers to what the library scales.
    rng = np.random.default_rng(0)
    channels = inside.get_inputs()[0].shape[1]
    for shape in [(16, 16), (48, 80), (256, 192), (1056, 992)]:
        several = measured(rng, (channels, *shape))[: 2 if shape[0] > 1000 else 4]
        wanted = outside.run(None, {"input": np.stack([scaled(model, image) for image in several])})
        for name, expected, found in zip(inside.get_outputs(), wanted, inside.run(None, {"input": several})):
            largest = max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(found, expected, atol=1e-4 * largest, err_msg=f"{name.name}, {shape}")


@pytest.mark.parametrize("percentiles", [(0, 100), (0, 99.9), (2.345, 97.3371), (50, 100), (0.01, 60)])
def test_percentiles_of_any_kind_are_found_inside(percentiles, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"normalization": dict(zip(("pmin", "pmax"), percentiles)), "onnx": {"normalization": "inside"}}))
    cs.convert(FIXTURES / "stardist" / "keras2", tmp_path / "a.safetensors")
    said = cs.convert(FIXTURES / "stardist" / "keras2", tmp_path / "inside.onnx", config)
    assert any("whole images" in note for note in said)
    cs.convert(tmp_path / "a.safetensors", tmp_path / "outside.onnx")
    rng = np.random.default_rng(1)
    inside, outside = (runtime.InferenceSession(str(tmp_path / f"{name}.onnx"), providers=["CPUExecutionProvider"]) for name in ("inside", "outside"))
    channels = inside.get_inputs()[0].shape[1]
    for shape in [(16, 32), (208, 176)]:
        several = measured(rng, (channels, *shape))
        ours = [np.moveaxis(np.clip(cs.normalize(np.moveaxis(image, 0, -1), *percentiles), -100, 100), -1, 0) for image in several]
        for expected, found in zip(outside.run(None, {"input": np.stack(ours)}), inside.run(None, {"input": several})):
            np.testing.assert_allclose(found, expected, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("place", ["metadata", "inside"])
def test_onnx_files_pass_the_checker(algorithm, place, tmp_path):
    onnx = pytest.importorskip("onnx")
    path, _ = onnx_of(small(algorithm), tmp_path / "a", {"normalization": place})
    onnx.checker.check_model(str(path), full_check=True)


def test_settings_of_onnx_that_fit_nothing_are_refused(tmp_path):
    for settings, words in [
        ({"normalization": "insde"}, ("`onnx`", "insde", "inside", "metadata")),
        ({"normalisation": "inside"}, ("`onnx`", "normalisation", "normalization")),
        ("inside", ("`onnx`", "an object", '{"normalization": "inside"}')),
    ]:
        with pytest.raises(cs.FileError) as refused:
            onnx_of(small(), tmp_path / "a", settings)
        assert all(word in str(refused.value) for word in words), refused.value
        assert not (tmp_path / "a" / "a.onnx").exists()
    config = tmp_path / "config.json"
    config.write_text('{"onnx": {"normalization": "inside"}}')
    small().save(tmp_path / "a.safetensors")
    with pytest.raises(cs.FileError, match="ends in .onnx"):
        cs.convert(tmp_path / "a.safetensors", tmp_path / "a.zip", config)
    config.write_text('{"package": {"license": "CC0-1.0"}}')
    assert any("left out" in note for note in cs.convert(tmp_path / "a.safetensors", tmp_path / "a.onnx", config))


def test_a_package_passes_the_checks_of_bioimage_io(tmp_path):
    spec = pytest.importorskip("bioimageio.spec")
    package_of(small(), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        summary = spec.load_description(tmp_path / "a.zip").validation_summary
    assert summary.status in ("passed", "valid-format"), summary.display()
