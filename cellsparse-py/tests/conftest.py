"""What the tests share: the recorded fixtures and small models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import cellsparse as cs

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "fixtures"


class Fixture:
    """One recorded file: tensors by name, and the JSON beside them."""

    def __init__(self, name):
        with safe_open(FIXTURES / f"{name}.safetensors", "np") as file:
            metadata = file.metadata() or {}
            self.info = json.loads(metadata.get("info") or metadata.get("params") or "null")
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}

    def __getitem__(self, name):
        return self.tensors[name]

    def __contains__(self, name):
        return name in self.tensors

    def cases(self, suffix):
        """The names before `suffix`."""
        found = [name[: -len(suffix)] for name in self.tensors if name.endswith(suffix)]
        assert found, suffix
        return sorted(found)


@pytest.fixture(scope="session")
def recorded():
    return Fixture


@pytest.fixture(scope="session")
def field():
    """A drawn field with enough annotated nuclei."""
    return cs.synthetic.field(seed=2, shape=(128, 128))


def small(algorithm="stardist", **options):
    """An untrained network that is quick."""
    if algorithm == "cellpose":
        return cs.Cellpose(widths=[4, 8], **options)
    if algorithm == "elephant":
        return cs.Elephant(widths=[4, 8], **options)
    return cs.StarDist(**{"n_rays": 8, "n_filter_base": 4, "n_depth": 1, "net_conv_after_unet": 8, **options})


@pytest.fixture
def model():
    return small()


@pytest.fixture(scope="session")
def trained(field):
    """A network that finds what is there: from the starting weights, as one from random weights finds on some processors
    a few objects and on others none."""
    model = cs.StarDist()
    model.train(field.image, field.annotation, steps=10, batch_size=2, patch_size=96, progress=False)
    assert len(model.predict(field.image).objects) > 3
    return model


ALGORITHMS = ("stardist", "cellpose", "elephant")


def same(first, second):
    """Whether two results of `predict` are equal."""
    polygons = zip(first.objects, second.objects)
    return (
        np.array_equal(first.labels, second.labels)
        and [o.id for o in first.objects] == [o.id for o in second.objects]
        and [o.probability for o in first.objects] == [o.probability for o in second.objects]
        and all(np.array_equal(a.polygon, b.polygon) for a, b in polygons)
    )
