"""Module paths that pages have shown before their modules moved still import, and are the very same modules."""

import importlib
import runpy
import sys

import pytest

from interp.imports import MOVED


@pytest.mark.parametrize(("old", "new"), [*MOVED.items()])
def test_an_old_path_is_the_module_at_the_new_one(old, new, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is {new} now"):
        found = importlib.import_module(old)
    assert found is importlib.import_module(new)
    assert importlib.import_module(old) is found


def test_a_name_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'interp\.models\.recordings'"):
        importlib.import_module("interp.models.recordings")


PACKAGES = (
    "interp.models",
    "interp.retention",
    *(f"interp.models.{name}" for name in ("loading", "language", "image", "dictionary")),
)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_gives_its_short_names_and_says_which_it_lacks(package):
    module = importlib.import_module(package)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name).__name__ == name
    with pytest.raises(AttributeError, match=f"module {package} has no attribute nothing"):
        _ = module.nothing


def test_a_command_of_an_old_path_runs(monkeypatch, capsys):
    old = "interp.models.dictionary_training"
    monkeypatch.setattr(sys, "argv", [old, "--help"])
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.raises(SystemExit) as end:
        runpy.run_module(old, run_name="__main__", alter_sys=True)  # what `python -m` does, in this process
    assert end.value.code in (None, 0)
    assert "--layers" in capsys.readouterr().out
