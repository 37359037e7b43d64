"""The documentation site of this checkout, made once for all processes that test it."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv/share/lakescore/site/bin/python"
"""The Python of the tools that make the site."""


def make_site(temporary: pytest.TempPathFactory) -> Path:
    """Make the site, unless another process of this run has made it; return its folder."""
    base = temporary.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            done = subprocess.run(
                [PYTHON, ROOT / "scripts/make_site.py", folder],
                capture_output=True,
                text=True,
                check=False,
            )
            (made,) = folder.glob("*/index.html")
            assert (done.returncode, done.stdout, done.stderr) == (0, "", f"site: {made}\n")
    return folder
