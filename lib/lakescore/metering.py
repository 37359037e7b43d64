"""Metering: the results of a run, as a file that Prometheus's node_exporter collects."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from lakescore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_LABELS = ("job", "file", "model", "output")
_KINDS = ("in", "scored", "quarantined", "skipped")


class MetricsNotWritten(ConfigError):
    """The file of metrics cannot be written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"cannot write the metrics to {path}: {reason}; set prometheus to another file"
        )


def write(receipt: Mapping[str, Any], path: Path) -> None:
    """Replace the metrics of the last run with those of this run, in one step.

    The metrics are gauges: `lakescore_run_exit_code`; `lakescore_run_end_time_seconds`, since 1970;
    `lakescore_run_seconds`, by `stage`; `lakescore_rows`, by `kind`: in, scored, quarantined, or
    skipped (rows of segments without a model); `lakescore_model_version`; of a monitor job,
    `lakescore_slices_alarming`. A gauge whose fact the
    receipt lacks, because the run failed early, is left out.

    Their labels are `job`, `file` (the name of *path*), `model` (the registered model's name) and
    `output` (the table). `file` keeps the series of two files apart, also those of runs that failed
    early: node_exporter serves nothing at all if two files have the same series.

    Raises:
        MetricsNotWritten: the file cannot be written.
    """
    registry = CollectorRegistry()
    model, output = receipt.get("model", {}), receipt.get("output", {})
    labels = {
        "job": receipt["job"],
        "file": path.name,
        "model": model.get("name", ""),
        "output": output.get("table", "") if isinstance(output, dict) else "",
    }

    def set_gauge(name: str, text: str, value: float, **more: str) -> None:
        if name not in gauges:
            gauges[name] = Gauge(name, text, [*_LABELS, *more], registry=registry)
        gauges[name].labels(**labels, **more).set(value)

    gauges: dict[str, Gauge] = {}
    set_gauge("lakescore_run_exit_code", "How the run ended.", receipt.get("exit_code", 0))
    set_gauge("lakescore_run_end_time_seconds", "When the run ended, since 1970.", time.time())
    for stage, seconds in receipt.get("seconds", {}).items():
        set_gauge(
            "lakescore_run_seconds", "Seconds that a stage of the run took.", seconds, stage=stage
        )
    for kind in _KINDS:
        if f"rows_{kind}" in receipt:
            set_gauge("lakescore_rows", "Rows of the run.", receipt[f"rows_{kind}"], kind=kind)
    if "slices_alarming" in receipt:
        set_gauge(
            "lakescore_slices_alarming",
            "Slices of the run that differ by more than chance explains.",
            receipt["slices_alarming"],
        )
    if "version" in model:
        set_gauge("lakescore_model_version", "The version that was loaded.", int(model["version"]))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise MetricsNotWritten(path, error.strerror or str(error)) from error
