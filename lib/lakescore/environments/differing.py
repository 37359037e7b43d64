"""Differing: the requirements of a version that this machine does not meet."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from lakescore.environments.errors import ModuleMissing
from lakescore.environments.needs import REQUIREMENTS, find_python, lines_of
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from lakescore.isolation import Code

_PATCHES = 100
"""The later parts of versions that are tried: no library has more patches, or minor versions."""
PYTHON = "python"
"""The name under which a difference of Python itself is listed."""
_BY_MAJOR = {"joblib", "numpy", "pandas"}
"""Packages that keep what pickles hold of them within a major version."""
_NEVER = {
    "cloudpickle", "mlflow", "mlflow-skinny", "mlflow-tracing", "pip", "setuptools", "wheel",
}  # fmt: skip
"""Packages that no model calculates with, though MLflow names them for each model."""
_DISTRIBUTIONS = {
    "onnx": ("onnx", "onnxruntime"), "pmdarima": ("pmdarima", "statsmodels"),
    "pytorch": ("torch",), "sklearn": ("scikit-learn",), "spark": ("pyspark",),
    "tensorflow": ("tensorflow", "keras"), "keras": ("keras", "tensorflow"),
    "xgboost": ("xgboost", "xgboost-cpu"),
}  # fmt: skip
"""The distributions of a flavour or module, where they have other names."""
_CALCULATING = (
    "catboost", "keras", "lightgbm", "onnxruntime", "pmdarima", "prophet", "scikit-learn", "scipy",
    "statsmodels", "tensorflow", "torch", "transformers", "xgboost", "xgboost-cpu",
)  # fmt: skip
"""The distributions that a model's own code can calculate with."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A requirement of a version that this machine does not meet."""

    package: str
    """The name of the distribution; `python` for Python itself."""
    asked: str
    """The requirement, such as `scikit-learn==1.5.2`."""
    here: str | None
    """The installed version; None if there is none."""
    matters: bool
    """Whether the model can fail for it, or predict other values."""

    def facts(self) -> dict[str, Any]:
        """Return the difference as plain JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.asked} (here {self.here or 'none'})"


def find_differences(artifacts: Path, libraries: Collection[str]) -> list[Difference]:
    """Return the requirements of a version that this Python and its packages do not meet.

    Args:
        artifacts: the folder of the version's artifacts.
        libraries: the distributions that calculate the model, as `find_libraries` returns them.
            If there are none, any of its requirements can calculate it.
    """
    own = {canonicalize_name(name) for name in libraries}
    unmet = []
    asked = _find_python(artifacts)
    if asked is not None and _minor(asked) != list(sys.version_info[:2]):
        here = platform.python_version()
        unmet.append(Difference(package=PYTHON, asked=f"python=={asked}", here=here, matters=True))
    for requirement, installed in _unmet(artifacts):
        name = canonicalize_name(requirement.name)
        unmet.append(
            Difference(
                package=requirement.name,
                asked=str(requirement),
                here=installed,
                matters=_matters(name, requirement, installed, own=not own or name in own),
            )
        )
    return unmet


def choose(differences: Sequence[Difference]) -> tuple[Literal["own", "shared"], str]:
    """Return which environment a version is scored in if nobody chose, and the reason."""
    reasons = [str(difference) for difference in differences if difference.matters]
    if reasons:
        return "own", f"it asks for {listed(reasons)}"
    if differences:
        return "shared", f"no difference matters: {listed(differences)}"
    return "shared", "this machine meets its requirements"


def find_libraries(flavors: Mapping[str, Any], code: Code) -> frozenset[str]:
    """Return the distributions that calculate a model: those of its flavours and of its pickles.

    Code that the version brings can call any of those that are known.

    Args:
        flavors: the flavors of the version's MLmodel file.
        code: the code that runs when it is loaded, as `find_code` returns it.
    """
    names = {*flavors} - {"python_function"} | code.libraries
    libraries = {d for name in names for d in _DISTRIBUTIONS.get(name, (name,))}
    return frozenset(libraries | {*(_CALCULATING if code.own else ())})


def _matters(name: str, requirement: Requirement, installed: str | None, *, own: bool) -> bool:
    if name in _NEVER:
        return False
    if installed is None:  # a model that lacks another package does not load: nothing is silent
        return own
    if name in _BY_MAJOR:
        return _other(requirement, installed, parts=1)
    return own and _other(requirement, installed, parts=2)


def _other(requirement: Requirement, installed: str, *, parts: int) -> bool:
    """Return whether no version that begins as *installed* does meets *requirement*."""
    here = _release(installed)[:parts]
    named = [pin.version for pin in requirement.specifier if _release(pin.version)[:parts] == here]
    later = [".".join(map(str, [*here, n])) for n in range(_PATCHES)]
    allows = requirement.specifier.contains
    return not any(allows(v.removesuffix(".*"), prereleases=True) for v in [*named, *later])


def _release(text: str) -> list[int]:
    try:
        numbers = Version(text.removesuffix(".*")).release
    except InvalidVersion:
        return []
    return [*numbers, 0, 0]


def _find_python(artifacts: Path) -> str | None:
    try:
        return find_python(artifacts)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _minor(text: str) -> list[int]:
    return _release(text)[:2]


def _unmet(artifacts: Path) -> Iterator[tuple[Requirement, str | None]]:
    """Yield each requirement that is not met, with the installed version."""
    path = artifacts / REQUIREMENTS
    for line in lines_of(path, errors="replace") if path.is_file() else ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # an option of pip, a file, an address
            continue
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        installed = _installed(requirement.name)
        if installed is None or not requirement.specifier.contains(installed, prereleases=True):
            yield requirement, installed


def _installed(name: str) -> str | None:
    """Return the installed version of *name*, or of a build of it with another name."""
    try:
        return version(name)
    except PackageNotFoundError:
        module = canonicalize_name(name).replace("-", "_")
        builds = _builds().get(module, []) if _is_importable(module) else []
        return version(builds[0]) if builds else None


def _is_importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # a program made this module without a specification
        return True


@cache
def _builds() -> Mapping[str, list[str]]:
    """Return the distributions that install each module. To read all of them takes long."""
    return packages_distributions()


def differences(artifacts: Path) -> list[dict[str, str | None]]:
    """Return the requirements of a version that the installed packages do not meet.

    Each has `package`, `asked` (the requirement) and `here` (the installed version, or None). The
    function looks at the driver's packages and expects the same packages on the executors.
    """
    return [
        {"package": requirement.name, "asked": str(requirement), "here": installed}
        for requirement, installed in _unmet(artifacts)
    ]


def missing(uri: str, artifacts: Path, error: ModuleNotFoundError) -> ModuleMissing:
    """Return the error of a version that imports a module that is not installed here."""
    uninstalled = [str(lack["asked"]) for lack in differences(artifacts) if lack["here"] is None]
    return ModuleMissing(uri, error.name or str(error), uninstalled)
