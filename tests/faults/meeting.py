"""Run the score job, which makes a new table as another does: `meeting.py MINE OTHERS FILE`.

Before it makes its first table, the job makes the file MINE and waits until the file OTHERS is
there, as two drivers do that find at the same moment that the table is not there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import score

from lakescore.config import ScoreJob
from lakescore.job import main
from lakescore.tables import writing

_PATIENCE = 300.0  # seconds


def meet(mine: Path, others: Path) -> None:
    """Let the makers of new tables wait for each other."""
    make = writing.create  # the moment that matters

    def at_once(*given: Any) -> None:
        mine.touch()
        deadline = time.monotonic() + _PATIENCE
        while not others.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        make(*given)

    writing.create = at_once


if __name__ == "__main__":
    mine, others, file = sys.argv[1:]
    meet(Path(mine), Path(others))
    main(ScoreJob, score.run, [file])
