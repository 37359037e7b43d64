"""The contracts of several versions that score one table, with the rows of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lakescore.signature.contract import BY_NAME, Contract, HasSchema, bind
from lakescore.signature.errors import OutputsDiffer
from lakescore.signature.expecting import bind_expected
from lakescore.signature.features import check_features, feature_names, lacks_names
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore import executor
    from lakescore.assignment import Assignment
    from lakescore.loading import Loadable
    from lakescore.options import BindOptions
    from lakescore.snapshots import Snapshot


def bind_all(
    address: str,
    rows: HasSchema,
    loadables: Sequence[Loadable],
    keep: Sequence[str] = (),
    options: BindOptions = BY_NAME,
) -> list[Contract]:
    """Check the columns of *rows* against the signatures of several versions, as `bind` does.

    What *options* say of a feature applies to the versions that have the feature.

    Raises:
        FeaturesUnknown: *options* name a feature that all signatures lack.
        Also the errors of `bind`.
    """
    check_features(loadables, options)
    contracts = []
    for loadable in loadables:
        known = set(feature_names(loadable, options.features))
        columns = {name: column for name, column in options.columns.items() if name in known}
        nulls = {name: rule for name, rule in options.nulls.items() if name in known}
        features = options.features if lacks_names(loadable) else ()
        own_options = replace(options, features=features, columns=columns, nulls=nulls)
        contracts.append(bind(address, rows, loadable, keep, own_options))
    return contracts


@dataclass(frozen=True)
class Binding:
    """The contracts of versions with a table, and the rows that each version scores."""

    contracts: tuple[Contract, ...]
    """One a version, in the order of the assignment. All of them give the same columns."""
    assigned: Assignment | None = None
    """The assignment of rows; None if the only version scores all rows."""
    expected: executor.Expected | None = None
    """What the values of the rows must be like; None if anything is scored."""

    @property
    def never_null(self) -> tuple[str, ...]:
        """The table's columns that must hold no null in the scored rows."""
        return tuple(
            dict.fromkeys(name for contract in self.contracts for name in contract.never_null)
        )

    @property
    def family(self) -> Assignment | None:
        """The assignment, if each segment has its own version."""
        return None if self.assigned is None or self.assigned.by is None else self.assigned

    @property
    def uri(self) -> str:
        """The name for messages: the version's URI, or the name of the family."""
        return self.family.uri if self.family else self.contracts[0].loadable.model.uri


def bind_assigned(
    assigned: Assignment,
    source: Snapshot,
    loadables: Sequence[Loadable],
    keep: Sequence[str],
    options: BindOptions = BY_NAME,
) -> Binding:
    """Bind the versions of *assigned*, which write one table, as `bind_all` does.

    Raises:
        OutputsDiffer: two versions give different columns.
        RuleUnfit: a rule of *options* does not fit the type of its column.
        Also the errors of `bind_all`.
    """
    if not loadables:  # no row has a version
        return Binding((), assigned)
    binding = _bind_alike(bind_all(source.address, source, loadables, keep, options), assigned)
    return replace(binding, expected=bind_expected(source.address, source.schema, options.expect))


def bind_side_by_side(
    assigned: Sequence[Assignment],
    source: Snapshot,
    loadables: Mapping[str, Loadable],
    options: BindOptions = BY_NAME,
) -> list[Binding]:
    """Bind the versions of several assignments, as `bind_all` does. Each gives a separate column.

    Args:
        assigned: the assignment of each column.
        source: the table.
        loadables: all versions of the assignments, by URI.
        options: as for `bind_all`.

    Raises:
        OutputsDiffer: two versions of one assignment give different columns.
        Also the errors of `bind_all`.
    """
    contracts = bind_all(source.address, source, list(loadables.values()), options=options)
    by_uri = dict(zip(loadables, contracts, strict=True))
    return [
        _bind_alike([by_uri[model.uri] for model in assignment.models], assignment)
        for assignment in assigned
    ]


def _bind_alike(contracts: Sequence[Contract], assigned: Assignment) -> Binding:
    first, *others = contracts
    for other in others:
        if _output_facts(other) != _output_facts(first):
            raise OutputsDiffer(_describe_outputs(first), _describe_outputs(other))
    return Binding(tuple(contracts), assigned)


def _output_facts(contract: Contract) -> tuple[object, ...]:
    return contract.outputs, contract.decision, contract.loadable.classes


def _describe_outputs(contract: Contract) -> tuple[str, str]:
    parts = [f"{field.name} {field.dataType.simpleString()}" for field in contract.outputs]
    if contract.renamed:
        parts.append(f"of the classes {listed(map(repr, contract.loadable.classes))}")
    if (decision := contract.decision) is not None:
        parts.append(f"decision {decision.below} or {decision.reached} by {decision.score}")
    return contract.loadable.model.uri, listed(parts)
