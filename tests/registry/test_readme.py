"""The README's tour of the command line is run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import mlflow
from builders.models import register, tracking_store
from nursery import nursery

ROOT = Path(__file__).parents[2]


def test_the_tour_of_the_command_line_does_what_it_says(tmp_path: Path) -> None:
    (tour,) = re.findall(
        r"## The command line\n.*?```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert 12 <= len(tour.splitlines()) <= 20
    before = mlflow.get_tracking_uri()
    try:
        tracking_store(tmp_path)  # with the versions of the demo, except its forests
        for kind, rmse in (("linear", 18.0), ("forest", 16.0), ("boosting", 15.0)):
            register(
                "flight-delay",
                run_name=kind,
                params={"depth": 3},
                metrics={"rmse": rmse, "mae": rmse - 5},
                tags={"team": "airline-ops", "kind": kind},
            )
        client = mlflow.MlflowClient()
        client.set_registered_model_alias("flight-delay", "champion", "3")
        client.set_registered_model_alias("flight-delay", "challenger", "2")
    finally:
        mlflow.set_tracking_uri(before)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    bin_ = tmp_path / "project/.venv/bin"
    bin_.mkdir(parents=True)
    (bin_ / "python").symlink_to(sys.executable)
    (tmp_path / "project/conf").symlink_to(ROOT / "conf")
    with (
        tempfile.TemporaryDirectory(prefix="lakescore-") as folder,
        nursery(Path(folder), "lakescore.preloading", "lakescore.cli", "rich.table") as started,
    ):
        started.write_command(Path(sys.executable).with_name("lakescore"), bin_)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", tour],
            cwd=tmp_path / "project",
            env=kept | {"LAKESCORE_HOME": str(tmp_path), "COLUMNS": "80"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    for line in (
        "flight-delay   3          3        challenger=2",
        "server: tags.`team` = 'airline-ops'",
        "here:   metrics.mae < 99",
        "inputs      dep_delay   double",
        "flight-delay/2 -> flight-delay/3: compatible: the signatures are equal",
        "models:/flight-delay/2: kind=forest, note=ready for December, reviewed_by=ann",
        "registered models:/flight-delay/4 (candidate)",
        "flight-delay@champion: 3 -> 2",
        "flight-delay@champion: 2 -> 3",
        "a rehearsal",
        "champion was version 3",
    ):
        assert line in done.stdout, done.stdout
