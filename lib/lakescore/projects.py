"""Projects: the files of a team's own repository, in which jobs run with the installed package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakescore import assets
from lakescore.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_TARGETS = {
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "check.yml": ".github/workflows/check.yml",
    "conf/score.yaml": "conf/score.yaml",
    "conf/compare.yaml": "conf/compare.yaml",
    "conf/replay.yaml": "conf/replay.yaml",
    "conf/monitor.yaml": "conf/monitor.yaml",
}
"""The file of a project, by the template."""
_COPIED = ("conf/trust.yaml", "conf/spark/local.conf", "conf/spark/standalone.conf")
"""The files that are the same in this package and in a project."""


class ProjectExists(ConfigError):
    """A folder already has files of a project."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} exists already, and nothing was written; name another folder: "
            "lakescore init FOLDER"
        )


def create(folder: Path, *, with_flights: bool = False) -> list[Path]:
    """Write the files of a new project into *folder*; return their paths.

    Args:
        folder: the folder, which may not exist yet.
        with_flights: whether the jobs are those of the demo on flights.

    Raises:
        ProjectExists: one of the files exists; then nothing is written.
        ConfigError: the folder cannot be written to.
    """
    templates = assets.templates()
    texts = {
        folder / target: (templates / name).read_text(encoding="utf-8")
        for name, target in _TARGETS.items()
    }
    texts |= {
        folder / name: (assets.folder() / name).read_text(encoding="utf-8") for name in _COPIED
    }
    if with_flights:
        jobs = ("conf/score.yaml", "conf/compare.yaml", "conf/monitor.yaml")
        texts |= {
            folder / name: (assets.folder() / name).read_text(encoding="utf-8") for name in jobs
        }
    for path in texts:
        if path.exists():
            raise ProjectExists(path)
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"a project cannot be written to {folder}: {error}") from error
    return list(texts)
