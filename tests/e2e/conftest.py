"""The project as a user runs it: its own commands, in processes of their own, with a new home."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clusters import environment

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Shell:
    """Runs commands of the project with one LAKESCORE_HOME."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment, without what the machine running the tests has set for itself."""
        return environment() | {"LAKESCORE_HOME": str(self.home)}

    def run(
        self, *command: str | Path, cwd: Path = ROOT, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run *command* to its end, whatever its exit code."""
        return subprocess.run(
            [str(word) for word in command],
            cwd=cwd,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )

    def rows(self, table: str, **options: Any) -> Any:
        """Read a table of the home, or a part of it, without Spark."""
        return self.table(table).to_pandas(**options)

    def table(self, name: str) -> Any:
        """Open a table of the home without Spark."""
        from deltalake import DeltaTable

        return DeltaTable(str(self.home / "tables" / name))


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def demo(shell: Shell) -> subprocess.CompletedProcess[str]:
    """Run the demo, once for all tests, from another folder."""
    done = shell.run(ROOT / "scripts/demo.sh", cwd=shell.home)
    assert done.returncode == 0, done.stderr
    return done
