"""Options of the whole suite."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clusters import QUICK_JAVA
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer

PLACES = ("local", "cluster", "connect", "yarn")

settings.register_profile("tests", deadline=None)  # a machine may be busy
settings.load_profile("tests")
if (_PYENV := Path(os.environ.get("PYENV_ROOT", "~/.pyenv"), "versions").expanduser()).is_dir():
    os.environ.setdefault("LAKESCORE_PYTHONS", str(_PYENV))
# Without plugins, each process that imports MLflow need not look for them in all packages.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "1"
os.environ["SPARK_SUBMIT_OPTS"] = QUICK_JAVA  # of all JVMs that tests start, also by others


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--place",
        choices=PLACES,
        help="where the tests of tests/cluster run: in local mode, on a standalone cluster, by a "
        "Spark Connect server (if left out, in these two), or on YARN, whose servers Maven gives "
        "(56 MB)",
    )
    parser.addoption(
        "--airflow",
        action="store_true",
        help="run the tests that install Airflow, in an environment of its own (minutes, 1.2 GB)",
    )
    parser.addoption(
        "--openlineage",
        action="store_true",
        help="run the test that fetches OpenLineage's listener from Maven (30 MB)",
    )
    parser.addoption(
        "--azure",
        action="store_true",
        help="run the tests of tables on Azure, whose emulator npm installs (190 MB)",
    )
    parser.addoption(
        "--s3",
        action="store_true",
        help="run the tests of tables on S3, which fetch Hadoop's client from Maven (690 MB)",
    )
    parser.addoption(
        "--wide",
        action="store_true",
        help="run the tests marked `wide` too: those that repeat a test in another way, such as "
        "with another writer, and those of the tools of a release",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "wide(place=None): run with --wide only; with a place, wide only at this place",
    )


_FOLDERS = ("cluster", "faults", "storage", "e2e", "registry", "spark", "browser", "unit")
"""The folders of tests, those first that a process would be alone with at the end."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is wide, and put long files first, so that all processes are busy to the end."""
    items.sort(key=lambda item: _FOLDERS.index(item.nodeid.split("/")[1]))
    if config.getoption("--wide"):
        return
    for item in items:
        if any(not mark.kwargs for mark in item.iter_markers("wide")):
            item.add_marker(pytest.mark.skip(reason="give --wide"))


_SHARING = {"cluster", "registry"}
"""The folders whose files share servers that take long to start."""


class _ByFile(LoadScopeScheduling):
    """Keeps the tests of a file in one process, and those of folders that share servers."""

    def _split_scope(self, nodeid: str) -> str:
        folder = nodeid.split("/")[1]
        return folder if folder in _SHARING else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _ByFile(config, log)
