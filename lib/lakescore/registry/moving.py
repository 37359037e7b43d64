"""Move aliases, so that the ledger knows each move: promote, roll back, withdraw.

MLflow moves an alias without a check of its present version. Here a move has three steps: write an
entry into the model's journal, which only one of two processes can do; move the alias; record the
entry as done. If a process dies before the last step, the next process that moves the alias
finishes the move.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from lakescore.errors import ConfigError
from lakescore.registry import reading
from lakescore.registry.errors import (
    AliasMoved,
    AliasMoving,
    AliasNotFound,
    NothingToRollBack,
    RunNotFound,
    VersionNotReady,
)
from lakescore.registry.finding import find
from lakescore.registry.journal import Journal
from lakescore.registry.ledger import AliasChange, Kind, add_outside_moves, last_move, moves_of, who
from lakescore.registry.record import READY
from lakescore.registry.reference import check_alias, check_name
from lakescore.registry.store import answering, connect, is_missing
from lakescore.registry.table import Shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow import MlflowClient  # noqa: TID251 - a type

_LONGEST_REASON = 2000  # characters; MLflow cuts an entry after 6,000
_UNDER_WAY = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True)
class AliasOutcome(Shown):
    """The outcome of `promote`, `rollback` or `withdraw`."""

    status: Literal["moved", "unchanged"]
    name: str
    alias: str
    origin: int | None
    target: int | None
    number: int | None
    """The move's number in the ledger; None if no move was necessary."""

    def facts(self) -> dict[str, Any]:
        """Return the outcome as plain JSON values."""
        return {
            "status": self.status,
            "name": self.name,
            "alias": self.alias,
            "from": self.origin,
            "to": self.target,
            "number": self.number,
        }


def promote(
    reference: str,
    *,
    to: str,
    expect: int | None = None,
    reason: str | None = None,
    evidence: str | None = None,
) -> AliasOutcome:
    """Point the alias *to* at the version that *reference* names; record the move in the ledger.

    If two processes promote at once, only one can succeed: the other gets `AliasMoved`, with or
    without *expect*. If the alias points at the version already, nothing changes, and
    *expect* is not checked: a command can be repeated.

    Args:
        reference: as in `resolve`.
        to: the alias.
        expect: the version that the alias must point at now, 0 for no version; None for no check.
        reason: the reason for the move, at most 2,000 characters.
        evidence: the id of an MLflow run that justifies the move, such as a comparison.

    Raises:
        AliasMoved: the alias does not point at the version *expect*, or another process moves it
            now.
        VersionNotReady: the version's registration has not finished, or has failed.
        RunNotFound: there is no run *evidence*.
        BadName: *to* cannot be an alias.
        ConfigError: *reason* is too long.
        Also all that `describe` raises, for *reference*.
    """
    check_alias(to)
    _check_reason(reason)
    client = connect()
    with answering():
        record = find(client, reference)
        if record.status != READY:
            raise VersionNotReady(record.uri, record.status)
        if evidence is not None:
            _check_run(client, evidence)
        state = _Alias(client, record.name, to)
        current = state.settle(record.version)
        if current == record.version:
            return state.unchanged(current)
        _check_expected(record.name, to, expect, current)
        return state.move("promote", current, record.version, reason=reason, evidence=evidence)


def rollback(
    name: str, *, alias: str, expect: int | None = None, reason: str | None = None
) -> AliasOutcome:
    """Point *alias* back at the version that it pointed at before the last promotion.

    A second rollback goes one promotion further back. Deleted versions are skipped.

    Args:
        name: the registered model's name.
        alias: the alias.
        expect: as in `promote`.
        reason: as in `promote`.

    Raises:
        NothingToRollBack: the ledger knows no earlier version that still exists.
        AliasMoved: as `promote`.
        ModelNotFound, BadName, ConfigError: a name or the reason is not valid.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    check_name(name)
    check_alias(alias)
    _check_reason(reason)
    client = connect()
    with answering():
        reading.model_named(client, name)
        state = _Alias(client, name, alias)
        current = state.settle()
        _check_expected(name, alias, expect, current)
        return state.move("rollback", current, state.previous(), reason=reason)


def withdraw(
    name: str, *, alias: str, expect: int | None = None, reason: str | None = None
) -> AliasOutcome:
    """Withdraw *alias* of the registered model *name*, and write the move into the ledger.

    `rollback` restores it. If the alias is withdrawn already, nothing changes.

    Args:
        name: the registered model's name.
        alias: the alias.
        expect: as in `promote`.
        reason: as in `promote`.

    Raises:
        AliasNotFound: the alias points at no version, and the ledger has no move of it.
        AliasMoved: as `promote`.
        ModelNotFound, BadName, ConfigError: a name or the reason is not valid.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    check_name(name)
    check_alias(alias)
    _check_reason(reason)
    client = connect()
    with answering():
        model = reading.model_named(client, name)
        state = _Alias(client, name, alias)
        current = state.settle(None)
        if current is None:
            if not state.is_known:
                raise AliasNotFound(name, alias, reading.aliases_of(model))
            return state.unchanged(current)
        _check_expected(name, alias, expect, current)
        return state.move("withdraw", current, None, reason=reason)


def _check_expected(name: str, alias: str, expect: int | None, current: int | None) -> None:
    if expect is not None and expect != (current or 0):
        raise AliasMoved(name, alias, expect or None, current)


class _Alias:
    """One alias of one model: its moves in the ledger, and its present version."""

    def __init__(self, client: MlflowClient, name: str, alias: str) -> None:
        self._client, self._name, self._alias = client, name, alias
        self._journal = Journal.opened(client, name)
        self._moves = moves_of(self._journal)

    @property
    def is_known(self) -> bool:
        """Whether the ledger has a move of the alias."""
        return last_move(self._moves, self._alias) is not None

    def settle(self, *targets: int | None) -> int | None:
        """Finish an unfinished move of the alias, if there is one, and return the present version.

        A move that began just now can still be in progress: it is not touched, unless it goes to
        one of *targets*.
        """
        last = last_move(self._moves, self._alias)
        if last is not None and not last.done:
            age = datetime.now(UTC) - last.when
            if age < _UNDER_WAY and last.target not in targets:
                raise AliasMoving(self._name, self._alias, last.target, last.by, age.seconds)
            self._carry_out(last)
        return self._aliases().get(self._alias)

    def previous(self) -> int:
        """Return the previous version of the alias, among those that still exist."""
        moves = add_outside_moves(self._moves, self._aliases())
        path: list[int | None] = []
        for move in moves:
            if move.alias == self._alias and move.kind == "rollback":
                path = path[: _last_index(path, move.target) + 1]
            elif move.alias == self._alias:
                path.append(move.target)
        existing = {int(v.version) for v in reading.versions_of(self._client, self._name)}
        earlier = [version for version in path[:-1] if version in existing]
        if not earlier:
            reason = (
                "all earlier versions were deleted" if path[1:] else "no earlier version is known"
            )
            raise NothingToRollBack(self._name, self._alias, reason)
        return int(str(earlier[-1]))

    def unchanged(self, current: int | None) -> AliasOutcome:
        """Return the outcome if the alias points at the target already."""
        return self._outcome("unchanged", current, current, None)

    def move(
        self,
        kind: Kind,
        origin: int | None,
        target: int | None,
        *,
        reason: str | None,
        evidence: str | None = None,
    ) -> AliasOutcome:
        """Write a move into the ledger after the entries that were read, and move the alias.

        Raises:
            AliasMoved: another process moved this alias first.
        """
        move = AliasChange(
            alias=self._alias,
            origin=origin,
            target=target,
            when=datetime.now(UTC),
            kind=kind,
            by=who(),
            reason=reason,
            evidence=evidence,
        )
        number = self._moves[-1].number + 1 if self._moves else 1
        known = last_move(self._moves, self._alias)
        while not self._journal.write(number, move.facts()):
            newest = last_move(moves_of(self._journal), self._alias)
            if newest is not None and newest.number != (known.number if known else 0):
                raise AliasMoved(self._name, self._alias, origin, newest.target)
            number += 1
        self._carry_out(replace(move, number=number))
        return self._outcome("moved", origin, target, number)

    def _outcome(
        self,
        status: Literal["moved", "unchanged"],
        origin: int | None,
        target: int | None,
        number: int | None,
    ) -> AliasOutcome:
        return AliasOutcome(
            status=status,
            name=self._name,
            alias=self._alias,
            origin=origin,
            target=target,
            number=number,
        )

    def _carry_out(self, move: AliasChange) -> None:
        """Move the alias as *move* says, record the move as done, and respect a later move."""
        self._point(move)
        self._journal.finish(move.number, {"when": datetime.now(UTC).isoformat(), "by": who()})
        last = last_move(moves_of(self._journal), self._alias)
        if last is not None and last.number > move.number and last.done:
            self._point(last)  # another process finished this move and made the next one

    def _point(self, move: AliasChange) -> None:
        from mlflow import MlflowException  # noqa: PLC0415

        try:
            if move.target is None:
                self._client.delete_registered_model_alias(self._name, self._alias)
            else:
                self._client.set_registered_model_alias(self._name, self._alias, str(move.target))
        except MlflowException as error:
            if not is_missing(error):  # the version was deleted meanwhile; `history` shows it
                raise

    def _aliases(self) -> dict[str, int]:
        return reading.aliases_of(reading.model_named(self._client, self._name))


def _last_index(path: Sequence[int | None], version: int | None) -> int:
    return max((n for n, step in enumerate(path) if step == version), default=-1)


def _check_reason(reason: str | None) -> None:
    if reason and (len(reason) > _LONGEST_REASON or not reason.isprintable()):
        raise ConfigError(
            f"a reason has at most {_LONGEST_REASON} printable characters, in one line"
        )


def _check_run(client: MlflowClient, run_id: str) -> None:
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        client.get_run(run_id)
    except MlflowException as error:
        if is_missing(error) or "Invalid" in str(error):
            raise RunNotFound(run_id) from error
        raise
