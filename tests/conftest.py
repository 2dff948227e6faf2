"""Settings and fixtures of all tests. The toolkit is imported inside fixtures, after its types are set up to be checked."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import checked_types

checked_types.install()
torch.set_num_threads(1)  # tiny models spend more time on handing out work than on doing it
# What a shell starts in the background is born deaf to Ctrl-C, and so is what that starts: tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the experiments of `tests.counting` are installed, for a subprocess to have on its path."""
    from tests.counting import install_plugin

    return install_plugin(tmp_path_factory.mktemp("plugin"))


@pytest.fixture(scope="module")
def counting_installed(plugin: Path) -> Iterator[None]:
    """The experiments of `tests.counting` are known to this process."""
    from tests.counting import installed

    with installed(plugin):
        yield


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny saved language model, which no test changes."""
    from tests.counting import save_model

    return str(save_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture
def without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs write their tables and draw nothing: for tests that compare tables, of runs like others that are drawn."""
    monkeypatch.setattr("interp.experiments.export.write_figures", lambda run: [])
    monkeypatch.setattr("interp.experiments.report.write_report", lambda run: run.folder / "report.html")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process; returns its exit status, standard output and standard error."""
    from interp.experiments.__main__ import main

    def run(*words: object) -> tuple[int, str, str]:
        try:
            status: Any = main([str(word) for word in words])
        except SystemExit as end:  # the parser's own way to end
            status = end.code
        return (status or 0, *capsys.readouterr())

    return run
