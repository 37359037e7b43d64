"""Versions side by side, and whether what reads one can read the other."""

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
# What scoring casts without loss: a table that fits a type on the right fits the one on the left.
_ONE_OF = {"inputs": "input", "outputs": "output", "signature params": "parameter"}
_WIDENS = {"long": ("integer",), "double": ("integer", "float")}


@dataclass(frozen=True)
class Line(Shown):
    """One fact of several versions."""

    group: str
    """`metadata`, `params`, `metrics`, `tags`, `inputs`, `outputs` or `signature params`."""
    key: str
    values: tuple[Any, ...]
    """One a version, None where it lacks it."""

    @property
    def differs(self) -> bool:
        """Whether the versions do not all say the same."""
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
    """Whether what works with one version works with another."""

    before: str
    """The pinned URI of the version that is there."""
    after: str
    """The pinned URI of the version that would replace it."""
    verdict: Literal["compatible", "breaking"]
    reasons: tuple[str, ...]
    """What breaks; where nothing does, what changed all the same."""

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
    """Several versions side by side."""

    versions: tuple[str, ...]
    """Their pinned URIs, as asked for."""
    lines: Rows[Line]
    verdicts: Rows[Compatibility]
    """One for each version but the first, held against the first."""

    def facts(self) -> dict[str, Any]:
        """Return all of it as plain JSON values."""
        return {
            "versions": list(self.versions),
            "lines": [line.facts() for line in self.lines],
            "verdicts": [verdict.facts() for verdict in self.verdicts],
        }


def compared(records: Sequence[VersionRecord], *, changed: bool) -> Difference:
    """Return *records* side by side; only what differs between them if *changed* is true."""
    facts = [_flat(record) for record in records]
    places = dict.fromkeys(place for each in facts for place in each)
    lines = [Line(*place, tuple(each.get(place) for each in facts)) for place in places]
    lines = [line for line in lines if any(value not in (None, []) for value in line.values)]
    order = ("metadata", "params", "metrics", "tags", "inputs", "outputs", "signature params")
    lines.sort(key=lambda line: order.index(line.group))
    first = records[0]
    verdicts = [
        Compatibility(first.uri, each.uri, *compare_signatures(first.signature, each.signature))
        for each in records[1:]
    ]
    shown = [line for line in lines if line.differs or not changed]
    return Difference(tuple(each.uri for each in records), Rows(shown), Rows(verdicts))


def _flat(record: VersionRecord) -> dict[tuple[str, str], Any]:
    facts = record.facts()
    flat = {("metadata", key): facts[key] for key in _METADATA}
    for group in ("params", "metrics", "tags"):
        flat |= {(group, key): value for key, value in sorted(facts[group].items())}
    if record.signature is not None:
        for part, columns in _columns(record.signature).items():
            flat |= {(part, name): _said(column) for name, column in columns.items()}
    return flat


def compare_signatures(
    before: ModelSignature | None, after: ModelSignature | None
) -> tuple[Literal["compatible", "breaking"], tuple[str, ...]]:
    """Tell whether the tables that were scored with *before*, and the readers of its rows, fit.

    Inputs may be left out, become optional, or take a wider type that scoring casts to without
    loss. Outputs must stay as they are, since they are columns that others read.
    """
    if before is None or after is None:
        return "breaking", ("a version has no signature, so nothing can be told",)
    old, new = _columns(before), _columns(after)
    breaking = [
        *_broken_inputs(old["inputs"], new["inputs"]),
        *_broken_outputs(old["outputs"], new["outputs"]),
        *(
            f"parameter {name!r} is gone"
            for name in old["signature params"]
            if name not in new["signature params"]
        ),
        *_retyped("parameter", old["signature params"], new["signature params"]),
    ]
    if breaking:
        return "breaking", tuple(breaking)
    changes = [
        f"{_ONE_OF[part]} {name!r} {_change(old[part], new[part], name)}"
        for part in new
        for name in dict.fromkeys([*old[part], *new[part]])
        if old[part].get(name) != new[part].get(name)
    ]
    return "compatible", tuple(changes) or ("the signatures are equal",)


def compatibility(baseline: VersionRecord, version: VersionRecord) -> dict[str, Any]:
    """Return the verdict on *version* in the place of *baseline* as a report's document has it."""
    said, reasons = compare_signatures(baseline.signature, version.signature)
    return {"with": baseline.uri, "verdict": said, "reasons": list(reasons)}


def _broken_inputs(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    found = []
    for name, column in new.items():
        required, has = column.get("required", True), column_type(column)
        if name not in old:
            found += [f"input {name!r} is new and required"] if required else []
        elif required and not old[name].get("required", True):
            found.append(f"input {name!r} is required now")
        elif has != (had := column_type(old[name])) and had not in _WIDENS.get(has, ()):
            found.append(f"input {name!r} is {has} and was {had}")
    return found


def _broken_outputs(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    gone = [f"output {name!r} is gone" for name in old if name not in new]
    if not gone and len(old) == 1 < len(new):  # one output is the column prediction
        gone = ["there are several outputs now, so no column is named prediction"]
    return [*gone, *_retyped("output", old, new)]


def _retyped(
    what: str, old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    return [
        f"{what} {name!r} is {column_type(new[name])} and was {column_type(old[name])}"
        for name in old
        if name in new and column_type(new[name]) != column_type(old[name])
    ]


def _change(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> str:
    if name not in new:
        return "is gone"
    if name not in old:
        return "is new"
    return f"is {_said(new[name])} and was {_said(old[name])}"


def _columns(signature: ModelSignature) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the columns of each part by name, or by place where they have none."""
    facts = signature_facts(signature)
    return {
        ("signature params" if part == "params" else part): {
            str(column.get("name") or f"#{n}"): column for n, column in enumerate(columns or [], 1)
        }
        for part, columns in facts.items()
    }


def _said(column: Mapping[str, Any]) -> str:
    optional = "" if column.get("required", True) else ", optional"
    default = f", default {column['default']}" if "default" in column else ""
    return f"{column_type(column)}{optional}{default}"
