"""What runs a score job, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lakescore import session, workers
from lakescore.runner import Runner, RunnerRefused

if TYPE_CHECKING:
    from pathlib import Path


class Spark:
    """Stands for a session that was started."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the place `local`, in which a job would start Spark."""
    monkeypatch.chdir(tmp_path)
    for name in ("PLACE", "SPARK_REMOTE", "DATABRICKS_RUNTIME_VERSION", "PYSPARK_GATEWAY_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(session, "start", lambda *_, **__: Spark())
    monkeypatch.setattr(session, "_active_session", lambda: None)  # other tests' session may be
    monkeypatch.setattr(workers, "pool", lambda: None)
    path = tmp_path / "conf" / "spark" / "local.conf"
    path.parent.mkdir(parents=True)
    path.write_text("spark.master local[3,4]\n")
    return path


@pytest.mark.usefixtures("place")
def test_nothing_starts_spark_before_it_is_needed() -> None:
    runner = session.choose("job", "auto")
    assert (runner.name, runner.reason, runner.slots) == ("local", "nothing needs Spark", 3)
    runner.start("a column is a map")
    assert runner.facts() == {"name": "spark", "reason": "a column is a map"}


@pytest.mark.usefixtures("place")
def test_rows_that_take_longer_than_starting_spark_are_sparks() -> None:
    runner = session.choose("job", "auto")
    runner.choose(seconds=3 * 7.0)  # the seconds of one core, and there are three
    assert runner.facts() == {
        "name": "local",
        "reason": "the rows take about 7.0 s, and to start Spark takes longer",
    }
    runner.choose(seconds=3 * 9.0)
    assert runner.name == "spark"


@pytest.mark.usefixtures("place")
def test_local_asked_for_refuses_to_start_spark_whatever_it_takes() -> None:
    runner = session.choose("job", "local")
    runner.choose(seconds=1e6)
    with pytest.raises(RunnerRefused, match="a column is a map; give runner=auto"):
        runner.start("a column is a map")
    assert runner.facts() == {"name": "local", "reason": "asked for"}


@pytest.mark.parametrize(
    ("variables", "line", "reason"),
    [
        ({"PLACE": "standalone"}, "", "the place is standalone"),
        ({"SPARK_REMOTE": "sc://x"}, "", "the place is not this machine"),
        ({"DATABRICKS_RUNTIME_VERSION": "17"}, "", "the place is not this machine"),
        ({"PYSPARK_GATEWAY_PORT": "1"}, "", "it runs already"),  # by spark-submit
        ({}, "spark.extraListeners a.B", "the place sets spark.extraListeners"),
        ({}, "spark.eventLog.enabled true", "the place sets spark.eventLog.enabled"),
    ],
)
def test_another_place_and_what_is_about_spark_mean_spark(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    line: str,
    reason: str,
) -> None:
    place.write_text(f"spark.master local[3,4]\n{line}\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert session.choose("job", "auto").facts() == {"name": "spark", "reason": reason}
    if reason != "it runs already":
        with pytest.raises(RunnerRefused, match=reason):
            session.choose("job", "local")


@pytest.mark.usefixtures("place")
def test_a_property_of_the_place_is_known_before_spark_runs() -> None:
    runner: Any = session.choose("job", "auto")
    assert runner.setting("spark.master") == "local[3,4]"
    assert runner.setting("spark.sql.parquet.compression.codec", "snappy") == "snappy"
    assert runner.settings("spark.m") == ["spark.master"]
    assert isinstance(runner, Runner)
