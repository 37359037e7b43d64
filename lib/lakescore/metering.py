"""Metering: what a run came to, as a file that Prometheus's node_exporter collects."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from lakescore.errors import MetricsNotWritten

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_LABELS = ("job", "file", "model", "output")
_KINDS = ("in", "scored", "quarantined", "skipped")


def write(receipt: Mapping[str, Any], path: Path) -> None:
    """Write the metrics of a run in the place of those of the last one, at once.

    Gauges with the labels `job`, `file` (the name of *path*: node_exporter serves nothing at all
    where two files hold one series, as those of runs that failed early would), `model` (the
    registered model's name) and `output` (the table): `lakescore_run_exit_code`;
    `lakescore_run_end_time_seconds`, since 1970; `lakescore_run_seconds`, by `stage`;
    `lakescore_rows`, by `kind`: in, scored, quarantined, or skipped, where they are of segments
    without a model; `lakescore_model_version`. What the receipt lacks, as of a run that failed
    early, is left out.

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

    def gauge(name: str, text: str, value: float, **more: str) -> None:
        if name not in made:
            made[name] = Gauge(name, text, [*_LABELS, *more], registry=registry)
        made[name].labels(**labels, **more).set(value)

    made: dict[str, Gauge] = {}
    gauge("lakescore_run_exit_code", "How the run ended.", receipt.get("exit_code", 0))
    gauge("lakescore_run_end_time_seconds", "When the run ended, since 1970.", time.time())
    for stage, seconds in receipt.get("seconds", {}).items():
        gauge("lakescore_run_seconds", "What a stage of the run took.", seconds, stage=stage)
    for kind in _KINDS:
        if f"rows_{kind}" in receipt:
            gauge("lakescore_rows", "Rows of the run.", receipt[f"rows_{kind}"], kind=kind)
    if "version" in model:
        gauge("lakescore_model_version", "The version that was loaded.", int(model["version"]))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise MetricsNotWritten(path, error.strerror or str(error)) from error
