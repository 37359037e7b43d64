"""A run's metrics for Prometheus: its own parser reads them, and a failed run has them too."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lakescore import metering
from lakescore.config import ScoreJob
from lakescore.errors import LakescoreError
from lakescore.job import main
from lakescore.metering import MetricsNotWritten
from lakescore.publishing import TooManyErrors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RECEIPT = {
    "job": "score",
    "model": {"name": 'delay "x"\n', "version": 3},  # what labels must escape
    "output": {"table": "/lake/predictions"},
    "rows_in": 10,
    "rows_scored": 9,
    "rows_quarantined": 1,
    "seconds": {"plan": 0.5, "total": 2.0},
}


def read(path: Path) -> dict[tuple[str, str], float]:
    samples = {}
    for family in text_string_to_metric_families(path.read_text()):
        for sample in family.samples:
            own = sample.labels.get("kind") or sample.labels.get("stage") or ""
            samples[sample.name, own] = sample.value
            assert set(sample.labels) >= {"job", "file", "model", "output"}
    return samples


def test_a_run_says_its_rows_stages_version_end_and_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "new" / "score.prom"
    metering.write(RECEIPT, path)
    samples = read(path)
    ended = samples.pop(("lakescore_run_end_time_seconds", ""))
    assert abs(time.time() - ended) < 60
    assert samples == {
        ("lakescore_run_exit_code", ""): 0,
        ("lakescore_run_seconds", "plan"): 0.5,
        ("lakescore_run_seconds", "total"): 2.0,
        ("lakescore_rows", "in"): 10,
        ("lakescore_rows", "scored"): 9,
        ("lakescore_rows", "quarantined"): 1,
        ("lakescore_model_version", ""): 3,
    }
    assert list(path.parent.iterdir()) == [path]


def run(tmp_path: Path, story: Callable[[ScoreJob], dict[str, Any]], **changes: str) -> int:
    file = tmp_path / "score.yaml"
    lines = {"model": "m/1", "input": "{path: in}", "output": "{path: out}", "id_columns": "[id]"}
    file.write_text("\n".join(f"{key}: {value}" for key, value in {**lines, **changes}.items()))
    with pytest.raises(SystemExit) as ended:
        main(ScoreJob, story, [str(file)])
    return int(ended.value.code or 0)


def test_a_run_that_fails_leaves_its_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "score.prom"

    def story(_: ScoreJob) -> dict[str, Any]:
        raise TooManyErrors("models:/m/1", ["a"], (3, 10, 0), ["ValueError: x"], "aside", "all")

    assert run(tmp_path, story, prometheus=str(path)) == 6
    assert read(path)["lakescore_run_exit_code", ""] == 6


def test_runs_that_fail_before_a_model_is_known_are_told_apart(tmp_path: Path) -> None:
    """A collector that reads one series from two files serves none of the machine's metrics."""

    def story(_: ScoreJob) -> dict[str, Any]:
        raise LakescoreError("the registry is away")

    samples = []
    for name in ("day.prom", "night.prom"):
        run(tmp_path, story, prometheus=str(tmp_path / name))
        families = text_string_to_metric_families((tmp_path / name).read_text())
        samples += [(s.name, *s.labels.items()) for family in families for s in family.samples]
    assert len(set(samples)) == len(samples) > 0


def test_metrics_that_cannot_be_written_do_not_fail_what_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(MetricsNotWritten, match="set prometheus to another file"):
        metering.write(RECEIPT, blocked / "score.prom")
    assert run(tmp_path, lambda _: {"status": "scored"}, prometheus=str(blocked / "x.prom")) == 0
    assert "cannot write the metrics" in capsys.readouterr().err

    def story(_: ScoreJob) -> dict[str, Any]:
        raise LakescoreError("the model is away")

    assert run(tmp_path, story, prometheus=str(blocked / "x.prom")) == 1
    assert "the model is away" in capsys.readouterr().err
