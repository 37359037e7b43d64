"""Environment: which requirements of a version this machine lacks, and what it can install."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import yaml
from packaging.requirements import InvalidRequirement, Requirement

from lakescore.encoding import parsed
from lakescore.errors import InputContractError
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_REQUIREMENTS = "requirements.txt"
_PYTHON = "python_env.yaml"
_ONLY_WHEELS = "--only-binary :all:"
"""A line of a requirements file: pip and uv apply it to everything that the file installs."""
_TOOLS = ["pip", "setuptools", "wheel"]
"""MLflow names these without a version if the machine that logged the model lacked them."""


class ModuleMissing(InputContractError):
    """A module that the model imports is not installed here."""

    def __init__(self, uri: str, module: str, missing: Sequence[str]) -> None:
        if missing:
            cause = f"these packages of its requirements.txt are not installed: {listed(missing)}"
            advice = "install them, or set env_manager: virtualenv"
        else:
            cause = "its requirements.txt names no package that is missing"
            advice = "install it, or log the model with code_paths that contain it"
        super().__init__(
            f"{uri} needs the module {module!r}, which is missing here; {cause}; {advice}"
        )


def differences(artifacts: Path) -> list[dict[str, str | None]]:
    """Return the requirements of a version that the installed packages do not meet.

    Each has `package`, `asked` (the requirement) and `here` (the installed version, or None). The
    function looks at the driver's packages and expects the same packages on the executors.
    """
    path = artifacts / _REQUIREMENTS
    unmet = []
    for line in _lines(path, errors="replace") if path.is_file() else ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # an option of pip, a file, an address
            continue
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            installed = None
        if installed is None or not requirement.specifier.contains(installed, prereleases=True):
            unmet.append(
                {"package": requirement.name, "asked": str(requirement), "here": installed}
            )
    return unmet


def wheels(artifacts: Path, settings: Mapping[str, object], env_manager: str) -> dict[str, str]:
    """Return the files, by name, with which an environment is made of wheels only.

    Nothing is built, and all packages come from the index that this machine is set up for. The
    owner of that index decides which code runs.

    Args:
        artifacts: the folder of the version's artifacts.
        settings: the version's `python_function` flavour, which names the environment's files.
        env_manager: the tool that makes the environment.

    Raises:
        ValueError: a file asks for something other than wheels. The message names it.
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
            raise ValueError(f"it asks for {str(line)[:100]!r}, which is not a plain name==version")
    python_env = {
        "python": str(python["python"]),
        "build_dependencies": [_ONLY_WHEELS, *builds],
        "dependencies": [f"-r {_REQUIREMENTS}"],
    }
    return {
        _PYTHON: yaml.safe_dump(python_env),
        _REQUIREMENTS: "\n".join([_ONLY_WHEELS, *lines]),
    }


def _lines(path: Path, *, errors: str) -> list[str]:
    """Return the lines of a requirements file without comments and blank lines."""
    text = path.read_text(encoding="utf-8", errors=errors)
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line]


def _is_pinned(line: str) -> bool:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return False
    pins = [(pin.operator, pin.version.endswith(".*")) for pin in requirement.specifier]
    return requirement.url is None and pins == [("==", False)]


def missing(uri: str, artifacts: Path, error: ModuleNotFoundError) -> ModuleMissing:
    """Return the error of a version that imports a module that is not installed here."""
    uninstalled = [str(lack["asked"]) for lack in differences(artifacts) if lack["here"] is None]
    return ModuleMissing(uri, error.name or str(error), uninstalled)
