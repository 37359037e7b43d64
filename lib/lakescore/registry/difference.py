"""Compare versions side by side, and check whether one can replace the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lakescore.registry.record import signature_facts
from lakescore.registry.table import Rows, Shown, column_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow.models import ModelSignature

    from lakescore.registry.record import VersionRecord

_METADATA = (
    "status", "description", "created_at", "run_name", "run_id", "aliases", "flavours", "formats",
    "mlflow_version", "python_version", "size", "digest",
)  # fmt: skip
_SINGULAR = {"inputs": "input", "outputs": "output", "signature params": "parameter"}
# Scoring casts without loss: a column that fits a type on the right also fits the type on the left.
_WIDENS = {"long": ("integer",), "double": ("integer", "float")}


@dataclass(frozen=True)
class Line(Shown):
    """One fact of several versions."""

    group: str
    """`metadata`, `params`, `metrics`, `tags`, `inputs`, `outputs` or `signature params`."""
    key: str
    values: tuple[Any, ...]
    """One value per version; None if the version has no such fact."""

    @property
    def differs(self) -> bool:
        """Whether the values of the versions differ."""
        return any(value != self.values[0] for value in self.values)

    def facts(self) -> dict[str, Any]:
        """Return the line as plain JSON values."""
        return {
            "group": self.group,
            "key": self.key,
            "values": list(self.values),
            "differs": self.differs,
        }


@dataclass(frozen=True)
class Compatibility(Shown):
    """Whether another version can replace a version."""

    before: str
    """The pinned URI of the present version."""
    after: str
    """The pinned URI of the version that would replace it."""
    verdict: Literal["compatible", "breaking"]
    reasons: tuple[str, ...]
    """The breaking changes; if there are none, the other changes."""

    def facts(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values."""
        return {
            "from": self.before,
            "to": self.after,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class Difference(Shown):
    """A comparison of several versions."""

    versions: tuple[str, ...]
    """The pinned URIs of the versions, in the order of the request."""
    lines: Rows[Line]
    verdicts: Rows[Compatibility]
    """One verdict for each version after the first, compared with the first."""

    def facts(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {
            "versions": list(self.versions),
            "lines": [line.facts() for line in self.lines],
            "verdicts": [verdict.facts() for verdict in self.verdicts],
        }


def compare_records(records: Sequence[VersionRecord], *, changed: bool) -> Difference:
    """Compare *records*; keep only the lines that differ if *changed* is true."""
    facts = [_flatten(record) for record in records]
    keys = dict.fromkeys(key for version in facts for key in version)
    lines = [Line(*key, tuple(version.get(key) for version in facts)) for key in keys]
    lines = [line for line in lines if any(value not in (None, []) for value in line.values)]
    order = ("metadata", "params", "metrics", "tags", "inputs", "outputs", "signature params")
    lines.sort(key=lambda line: order.index(line.group))
    first = records[0]
    verdicts = [
        Compatibility(first.uri, record.uri, *compare_signatures(first.signature, record.signature))
        for record in records[1:]
    ]
    shown = [line for line in lines if line.differs or not changed]
    return Difference(tuple(record.uri for record in records), Rows(shown), Rows(verdicts))


def _flatten(record: VersionRecord) -> dict[tuple[str, str], Any]:
    facts = record.facts()
    flat = {("metadata", key): facts[key] for key in _METADATA}
    for group in ("params", "metrics", "tags"):
        flat |= {(group, key): value for key, value in sorted(facts[group].items())}
    if record.signature is not None:
        for part, columns in _columns(record.signature).items():
            flat |= {(part, name): _describe_column(column) for name, column in columns.items()}
    return flat


def compare_signatures(
    before: ModelSignature | None, after: ModelSignature | None
) -> tuple[Literal["compatible", "breaking"], tuple[str, ...]]:
    """Return whether *after* fits the input tables and the readers of *before*, and the reasons.

    Inputs can disappear, become optional, or get a wider type that scoring casts to without loss.
    Outputs must stay equal, since other programs read these columns.
    """
    if before is None or after is None:
        return "breaking", ("a version has no signature, so the versions cannot be compared",)
    old, new = _columns(before), _columns(after)
    breaking = [
        *_breaking_inputs(old["inputs"], new["inputs"]),
        *_breaking_outputs(old["outputs"], new["outputs"]),
        *(
            f"parameter {name!r} is gone"
            for name in old["signature params"]
            if name not in new["signature params"]
        ),
        *_changed_types("parameter", old["signature params"], new["signature params"]),
    ]
    if breaking:
        return "breaking", tuple(breaking)
    changes = [
        f"{_SINGULAR[part]} {name!r} {_describe_change(old[part], new[part], name)}"
        for part in new
        for name in dict.fromkeys([*old[part], *new[part]])
        if old[part].get(name) != new[part].get(name)
    ]
    return "compatible", tuple(changes) or ("the signatures are equal",)


def compatibility(baseline: VersionRecord, version: VersionRecord) -> dict[str, Any]:
    """Return the verdict on *version* as a replacement of *baseline*, for a report's document."""
    verdict, reasons = compare_signatures(baseline.signature, version.signature)
    return {"with": baseline.uri, "verdict": verdict, "reasons": list(reasons)}


def _breaking_inputs(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    reasons = []
    for name, column in new.items():
        required, now = column.get("required", True), column_type(column)
        if name not in old:
            reasons += [f"input {name!r} is new and required"] if required else []
        elif required and not old[name].get("required", True):
            reasons.append(f"input {name!r} is required now")
        elif now != (before := column_type(old[name])) and before not in _WIDENS.get(now, ()):
            reasons.append(f"input {name!r} is {now} and was {before}")
    return reasons


def _breaking_outputs(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    gone = [f"output {name!r} is gone" for name in old if name not in new]
    if not gone and len(old) == 1 < len(new):  # a single output is the column prediction
        gone = ["there are several outputs now, so no column is named prediction"]
    return [*gone, *_changed_types("output", old, new)]


def _changed_types(
    kind: str, old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    return [
        f"{kind} {name!r} is {column_type(new[name])} and was {column_type(old[name])}"
        for name in old
        if name in new and column_type(new[name]) != column_type(old[name])
    ]


def _describe_change(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> str:
    if name not in new:
        return "is gone"
    if name not in old:
        return "is new"
    return f"is {_describe_column(new[name])} and was {_describe_column(old[name])}"


def _columns(signature: ModelSignature) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the columns of each part by name, or by position if they have no names."""
    facts = signature_facts(signature)
    return {
        ("signature params" if part == "params" else part): {
            str(column.get("name") or f"#{n}"): column for n, column in enumerate(columns or [], 1)
        }
        for part, columns in facts.items()
    }


def _describe_column(column: Mapping[str, Any]) -> str:
    optional = "" if column.get("required", True) else ", optional"
    default = f", default {column['default']}" if "default" in column else ""
    return f"{column_type(column)}{optional}{default}"
