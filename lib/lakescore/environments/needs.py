"""Needs: the packages and the Python that a version's files ask for, and what may be installed.

The files are a stranger's. They are parsed, and written anew: tools that install packages read
names, versions, extras and markers, and never the files themselves.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from packaging.requirements import InvalidRequirement, Requirement

from lakescore.encoding import parsed
from lakescore.environments.errors import NeedsUnknown, RequirementRefused
from lakescore.trust import NotTrusted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lakescore.trust import Environments

REQUIREMENTS = "requirements.txt"
_PYTHON = "python_env.yaml"
_MODEL_FILE = "MLmodel"
_ONLY_WHEELS = "--only-binary :all:"
"""A line of a requirements file: pip and uv apply it to everything that the file installs."""
_TOOLS = ["pip", "setuptools", "wheel"]
"""MLflow names these without a version if the machine that logged the model lacked them."""
_PYTHON_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")
_LONGEST_SHOWN = 100
_DATE = re.compile(r"(20\d{2})-(0[1-9]|1[0-2])-\d{2}")


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a version's own environment consists of."""

    python: str
    """The version of Python, such as `3.12.1` or `3.12`."""
    requirements: tuple[str, ...]
    """Packages by name, with versions, extras and markers."""
    logged_in: tuple[int, int] | None = None
    """The year and month in which the model was logged."""

    @property
    def minor(self) -> str:
        """The minor version of Python, such as `3.12`."""
        return ".".join(self.python.split(".")[:2])


def read_needs(
    uri: str,
    artifacts: Path,
    settings: Mapping[str, Any],
    *,
    allowed: Environments | None,
) -> Needs:
    """Return what the files of a version ask for.

    Args:
        uri: the pinned URI of the version, for errors.
        artifacts: the folder of its artifacts.
        settings: its `python_function` flavour.
        allowed: the trust policy's rule for environments; None if there is no policy.

    Raises:
        NotTrusted: the trust policy does not let these packages be installed.
        RequirementRefused: the files ask for something other than packages of an index.
        NeedsUnknown: the files do not say which packages or which Python the version needs.
    """
    if allowed == "none":
        reason = "its own environment installs what its files ask for"
        rules = ["environments: wheels in the policy", "environment: shared"]
        raise NotTrusted(uri, "environments", reason, rules)
    if allowed == "wheels":
        try:
            wheels(artifacts, settings, "uv")
        except ValueError as error:
            raise NotTrusted(uri, "environments", str(error), ["name==version"]) from None
    try:
        python = find_python(artifacts) or ""
        lines = [*lines_of(artifacts / REQUIREMENTS, errors="strict"), *_direct(artifacts)]
        logged_in = _logged_in(artifacts)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NeedsUnknown(uri, f"{_PYTHON} or {REQUIREMENTS} cannot be read: {error}") from None
    if not _PYTHON_VERSION.fullmatch(python):
        raise NeedsUnknown(uri, f"its files name no version of Python, but {python[:100]!r}")
    requirements = tuple(dict.fromkeys(_checked(uri, line) for line in lines))
    return Needs(python=python, requirements=requirements, logged_in=logged_in)


def find_python(artifacts: Path) -> str | None:
    """Return the version of Python that `python_env.yaml`, or without it `MLmodel`, names."""
    if (artifacts / _PYTHON).is_file():
        return str(_mapping(artifacts / _PYTHON).get("python"))
    loader = (_mapping(artifacts / _MODEL_FILE).get("flavors") or {}).get("python_function") or {}
    return str(loader["python_version"]) if "python_version" in loader else None


def read_asked(artifacts: Path) -> tuple[str | None, list[str]]:
    """Return the Python and the lines of requirements in a version's files, as they are there.

    They are for people to look at. `read_needs` checks them.
    """
    python, lines = None, []
    with contextlib.suppress(OSError, UnicodeDecodeError, yaml.YAMLError):
        python = find_python(artifacts)
    with contextlib.suppress(OSError):
        lines = lines_of(artifacts / REQUIREMENTS, errors="replace")
    return python, lines


def _direct(artifacts: Path) -> list[str]:
    """Return the packages that `python_env.yaml` itself lists beside the requirements file."""
    listed = _mapping(artifacts / _PYTHON).get("dependencies") or []
    lines = listed if isinstance(listed, list) else [listed]
    return [str(line) for line in lines if line != f"-r {REQUIREMENTS}"]


def _mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; it is empty if there is no such file."""
    values = parsed(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not isinstance(values, dict):
        raise yaml.YAMLError(f"{path.name} is no mapping")
    return values


def _checked(uri: str, line: str) -> str:
    """Return the requirement in *line*, written anew."""
    shown = repr(line[:_LONGEST_SHOWN])
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        raise RequirementRefused(uri, f"its files ask for {shown}") from None
    if requirement.url is not None:
        raise RequirementRefused(uri, f"its files ask for {shown}, an address")
    if any(pin.operator == "===" for pin in requirement.specifier):
        raise RequirementRefused(uri, f"its files ask for {shown}, any text as a version")
    return str(requirement)


def _logged_in(artifacts: Path) -> tuple[int, int] | None:
    date = _DATE.match(str(_mapping(artifacts / _MODEL_FILE).get("utc_time_created")))
    return (int(date[1]), int(date[2])) if date else None


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
        lines = lines_of(artifacts / REQUIREMENTS, errors="strict")
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{_PYTHON} or {REQUIREMENTS} cannot be read: {error}") from None
    if not isinstance(python, dict) or python.get("dependencies") != [f"-r {REQUIREMENTS}"]:
        raise ValueError(f"{_PYTHON} does not leave the packages to {REQUIREMENTS}")
    if not _PYTHON_VERSION.fullmatch(str(python.get("python"))):
        raise ValueError(f"{_PYTHON} names no version of Python")
    builds = python.get("build_dependencies") or []
    for line in [*builds, *lines] if isinstance(builds, list) else [builds]:
        if line not in _TOOLS and not (isinstance(line, str) and _is_pinned(line)):
            raise ValueError(f"it asks for {str(line)[:100]!r}, which is not a plain name==version")
    python_env = {
        "python": str(python["python"]),
        "build_dependencies": [_ONLY_WHEELS, *builds],
        "dependencies": [f"-r {REQUIREMENTS}"],
    }
    return {
        _PYTHON: yaml.safe_dump(python_env),
        REQUIREMENTS: "\n".join([_ONLY_WHEELS, *lines]),
    }


def lines_of(path: Path, *, errors: str) -> list[str]:
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
