"""Environment: how the packages here differ from those of a version, and what may be installed."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import yaml
from packaging.requirements import InvalidRequirement, Requirement

from lakescore.encoding import parsed
from lakescore.errors import ModuleMissing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_REQUIREMENTS = "requirements.txt"
_PYTHON = "python_env.yaml"
_ONLY_WHEELS = "--only-binary :all:"
"""pip and uv take it as a line of a requirements file, for all that they install with that file."""
_TOOLS = ["pip", "setuptools", "wheel"]
"""MLflow names them without a version where the machine that logged the model lacked them."""


def differences(artifacts: Path) -> list[dict[str, str | None]]:
    """Return the requirements of a version that the packages here do not meet.

    Each as `package`, `asked` (the requirement) and `here` (a version, or none). What the driver
    has is looked at; executors are expected to have the same.
    """
    path = artifacts / _REQUIREMENTS
    found = []
    for line in _lines(path, errors="replace") if path.is_file() else ():
        try:
            asked = Requirement(line)
        except InvalidRequirement:  # an option of pip, a file, an address
            continue
        if asked.marker is not None and not asked.marker.evaluate():
            continue
        try:
            here = version(asked.name)
        except PackageNotFoundError:
            here = None
        if here is None or not asked.specifier.contains(here, prereleases=True):
            found.append({"package": asked.name, "asked": str(asked), "here": here})
    return found


def wheels(artifacts: Path, settings: Mapping[str, object], env_manager: str) -> dict[str, str]:
    """Return the files that let an environment be made of wheels alone, by name.

    Nothing is built then, and all comes from the index that this machine is set up for: whoever
    fills that index decides which code runs.

    Args:
        artifacts: of the version.
        settings: its `python_function` flavour, which names the environment's files.
        env_manager: who makes the environment.

    Raises:
        ValueError: a file asks for anything but wheels; says what.
    """
    if env_manager not in ("uv", "virtualenv"):
        raise ValueError(f"{env_manager} installs more than wheels")
    named = settings.get("env")
    if not isinstance(named, dict) or named.get("virtualenv") != _PYTHON:
        raise ValueError(f"its MLmodel does not name {_PYTHON}")
    if (artifacts / "uv.lock").exists():
        raise ValueError("uv.lock can name any source")
    try:
        python = parsed((artifacts / _PYTHON).read_text(encoding="utf-8"))
        lines = _lines(artifacts / _REQUIREMENTS, errors="strict")
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{_PYTHON} or {_REQUIREMENTS} cannot be read: {error}") from None
    if not isinstance(python, dict) or python.get("dependencies") != [f"-r {_REQUIREMENTS}"]:
        raise ValueError(f"{_PYTHON} does not leave the packages to {_REQUIREMENTS}")
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", str(python.get("python"))):
        raise ValueError(f"{_PYTHON} names no version of Python")
    builds = python.get("build_dependencies") or []
    for line in [*builds, *lines] if isinstance(builds, list) else [builds]:
        if line not in _TOOLS and not (isinstance(line, str) and _is_pinned(line)):
            raise ValueError(f"it asks for {str(line)[:100]!r}, which is no plain name==version")
    of_python = {
        "python": str(python["python"]),
        "build_dependencies": [_ONLY_WHEELS, *builds],
        "dependencies": [f"-r {_REQUIREMENTS}"],
    }
    return {
        _PYTHON: yaml.safe_dump(of_python),
        _REQUIREMENTS: "\n".join([_ONLY_WHEELS, *lines]),
    }


def _lines(path: Path, *, errors: str) -> list[str]:
    """Return the lines of a requirements file that say something; each may be bad UTF-8."""
    text = path.read_text(encoding="utf-8", errors=errors)
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line]


def _is_pinned(line: str) -> bool:
    try:
        asked = Requirement(line)
    except InvalidRequirement:
        return False
    pins = [(each.operator, each.version.endswith(".*")) for each in asked.specifier]
    return asked.url is None and pins == [("==", False)]


def missing(uri: str, artifacts: Path, error: ModuleNotFoundError) -> ModuleMissing:
    """Return what *error* means for a version that imports what is not installed here."""
    asked = [str(lack["asked"]) for lack in differences(artifacts) if lack["here"] is None]
    return ModuleMissing(uri, error.name or str(error), asked)
