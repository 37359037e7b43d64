"""Options of the whole suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer

PLACES = ("local", "cluster", "connect", "yarn")


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


class _ByFolder(LoadScopeScheduling):
    """Keeps the tests of a folder in one process: they share its Spark session, its registry.

    The largest folder is two, so that two processes are busy to the end.
    """

    def _split_scope(self, nodeid: str) -> str:
        _, folder, *rest = nodeid.split("/")
        if folder != "spark":
            return folder
        return "spark, to n" if rest[0] < "test_n" else "spark, from n"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _ByFolder(config, log)
