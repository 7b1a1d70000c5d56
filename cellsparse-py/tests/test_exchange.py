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


def test_a_package_passes_the_checks_of_bioimage_io(tmp_path):
    spec = pytest.importorskip("bioimageio.spec")
    package_of(small(), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        summary = spec.load_description(tmp_path / "a.zip").validation_summary
    assert summary.status in ("passed", "valid-format"), summary.display()
