"""Every public name is documented, and every example runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import warnings

import pytest

import cellsparse as cs

MODULES = [
    f"cellsparse{name}"
    for name in (
        "",
        "._algorithms",
        "._errors",
        "._files",
        "._functions",
        "._history",
        "._large",
        "._models",
        "._results",
        ".cellpose",
        ".distributed",
        ".elephant",
        ".metrics",
        ".plot",
        ".sam",
        ".stardist",
        ".synthetic",
    )
]


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in MODULES:
        module = importlib.import_module(name)
        for test in finder.find(module, name, module=None if name == "cellsparse" else module):
            if test.examples:
                yield pytest.param(test, id=test.name)


@pytest.mark.parametrize("test", list(examples()))
def test_examples_run(test):
    if "matplotlib" in test.docstring:
        pyplot = pytest.importorskip("matplotlib.pyplot")
        pyplot.close("all")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.AnnotationWarning)
        # A few steps find little, and say so.
        warnings.simplefilter("ignore", cs.ResultWarning)
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


def public():
    for name in cs.__all__:
        value = getattr(cs, name)
        if inspect.ismodule(value):
            for inner in value.__all__:
                yield f"{name}.{inner}", getattr(value, inner)
        elif callable(value):
            yield name, value


@pytest.mark.parametrize(("name", "value"), list(public()))
def test_every_public_name_is_documented_with_an_example(name, value):
    text = inspect.getdoc(value)
    assert text and text.split("\n")[0].endswith((".", ":", ","))
    is_error = inspect.isclass(value) and issubclass(value, (Exception,)) and value is not cs.CellsparseError
    # A model is made by its subclasses; results and events are shown where they come from.
    without = {"Model", "Object", "LargeSegmentation", "sam.Embedding"}
    assert is_error or name in without or ">>>" in text, f"{name} has no example"


def test_all_names_are_there():
    assert set(cs.__all__) == set(dir(cs))
    for name in cs.__all__:
        assert getattr(cs, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cs.nothing
