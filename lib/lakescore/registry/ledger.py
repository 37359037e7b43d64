"""The ledger: who moved which alias, from which version to which, when and why.

MLflow moves an alias without asking where it was, and forgets. Here a move is first an entry in
the model's book, which only one of two can write, then the alias is moved, then the entry is noted
as done. A move that is not, since its process died, is finished by the next one who moves the
alias.

The price: what other tools do to an alias is seen only afterwards, as a move from outside.
"""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from lakescore.errors import (
    AliasMoved,
    AliasMoving,
    AliasNotFound,
    ConfigError,
    ModelNotFound,
    NothingToRollBack,
    RunNotFound,
    VersionNotReady,
)
from lakescore.registry import reading
from lakescore.registry.journal import Journal
from lakescore.registry.reference import check_alias, check_name
from lakescore.registry.resolving import READY, find
from lakescore.registry.store import answering, connect, is_missing
from lakescore.registry.table import Rows, Shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow import MlflowClient  # noqa: TID251 - a type

_LONGEST_REASON = 2000  # characters; MLflow cuts off what is longer than 6,000 in all
_UNDER_WAY = timedelta(seconds=60)
_COLUMNS = ("number", "when", "alias", "from", "to", "by", "kind", "reason")

Kind = Literal["promote", "rollback", "withdraw", "outside"]


@dataclass(frozen=True, kw_only=True)
class AliasChange(Shown):
    """One move of an alias."""

    number: int = 0
    """Its place in the ledger; 0 for a move from outside, which has none."""
    alias: str
    origin: int | None
    """The version that the alias pointed at before; None where it pointed at none."""
    target: int | None
    """None where it was taken away."""
    when: datetime
    """UTC, by the clock of who moved it; for a move from outside, when it was noticed."""
    kind: Kind
    by: str | None = None
    reason: str | None = None
    evidence: str | None = None
    """The MLflow run that speaks for the move."""
    done: bool = False
    """False where the process died before it moved the alias: the next move finishes it."""

    def facts(self) -> dict[str, Any]:
        """Return the move as plain JSON values."""
        return {
            "number": self.number or None,
            "when": self.when.isoformat(),
            "alias": self.alias,
            "from": self.origin,
            "to": self.target,
            "by": self.by,
            "kind": self.kind,
            "reason": self.reason,
            "evidence": self.evidence,
            "done": self.done,
        }


@dataclass(frozen=True, kw_only=True)
class AliasOutcome(Shown):
    """What `promote`, `rollback` or `withdraw` did."""

    status: Literal["moved", "unchanged"]
    name: str
    alias: str
    origin: int | None
    target: int | None
    number: int | None
    """The move's place in the ledger; None where nothing was to be moved."""

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


class History(Rows[AliasChange]):
    """The moves of a registered model's aliases, oldest first."""

    def at(self, when: datetime) -> dict[str, int | None]:
        """Return where each alias pointed at the time *when*, as far as the ledger knows.

        Aliases whose first known move came later are left out. A move from outside counts from
        the time at which it was noticed.

        Args:
            when: with a time zone.
        """
        return {move.alias: move.target for move in self if move.when <= when}


def promote(
    reference: str,
    *,
    to: str,
    expect: int | None = None,
    reason: str | None = None,
    evidence: str | None = None,
) -> AliasOutcome:
    """Point the alias *to* at the version that *reference* names, and write it into the ledger.

    Two who promote at once cannot both win: the second is told, whether it gives *expect* or not.
    Where the alias points at the version already, nothing is done, whatever *expect* says: the same
    command may be repeated.

    Args:
        reference: as in `resolve`.
        to: the alias.
        expect: the version that the alias must point at now, 0 for none; checked only if given.
        reason: why, in at most 2,000 characters.
        evidence: the id of an MLflow run that speaks for it, such as a comparison.

    Raises:
        AliasMoved: the alias does not point where *expect* says, or another one moves it now.
        VersionNotReady: the version's registration has not finished, or has failed.
        RunNotFound: *evidence* is no run.
        BadName: *to* cannot be an alias.
        ConfigError: *reason* is too long.
        As `describe` besides, for *reference*.
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
        alias = _Alias(client, record.name, to)
        there = alias.settled(record.version)
        if there == record.version:
            return alias.unchanged(there)
        _check_expected(record.name, to, expect, there)
        return alias.move("promote", there, record.version, reason=reason, evidence=evidence)


def rollback(
    name: str, *, alias: str, expect: int | None = None, reason: str | None = None
) -> AliasOutcome:
    """Point *alias* back at the version that it pointed at before the last promotion.

    Rolling back again goes one promotion further back. Versions that were deleted are passed over.

    Args:
        name: the registered model's name.
        alias: the alias.
        expect: as in `promote`.
        reason: as in `promote`.

    Raises:
        NothingToRollBack: the ledger knows no version before that still exists.
        AliasMoved: as `promote`.
        ModelNotFound, BadName, ConfigError: the names or the reason are none.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    check_name(name)
    check_alias(alias)
    _check_reason(reason)
    client = connect()
    with answering():
        reading.model_named(client, name)
        moving = _Alias(client, name, alias)
        there = moving.settled()
        _check_expected(name, alias, expect, there)
        return moving.move("rollback", there, moving.before(), reason=reason)


def withdraw(
    name: str, *, alias: str, expect: int | None = None, reason: str | None = None
) -> AliasOutcome:
    """Take *alias* of the registered model *name* away, and write it into the ledger.

    `rollback` brings it back. Where it was taken away already, nothing is done.

    Args:
        name: the registered model's name.
        alias: the alias.
        expect: as in `promote`.
        reason: as in `promote`.

    Raises:
        AliasNotFound: it points at no version, and never did as far as the ledger knows.
        AliasMoved: as `promote`.
        ModelNotFound, BadName, ConfigError: the names or the reason are none.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    check_name(name)
    check_alias(alias)
    _check_reason(reason)
    client = connect()
    with answering():
        model = reading.model_named(client, name)
        moving = _Alias(client, name, alias)
        there = moving.settled(None)
        if there is None:
            if not moving.known:
                raise AliasNotFound(name, alias, reading.aliases_of(model))
            return moving.unchanged(there)
        _check_expected(name, alias, expect, there)
        return moving.move("withdraw", there, None, reason=reason)


def _check_expected(name: str, alias: str, expect: int | None, there: int | None) -> None:
    if expect is not None and expect != (there or 0):
        raise AliasMoved(name, alias, expect or None, there)


def history(name: str, *, alias: str | None = None) -> History:
    """Return the moves of the aliases of the registered model *name*, oldest first.

    Where an alias points elsewhere than the ledger says, other tools moved it, or its version was
    deleted: that move is shown too. The ledger outlives its model.

    Args:
        name: the registered model's name.
        alias: one alias; all when left out.

    Raises:
        ModelNotFound: there is no such registered model, and no ledger of one.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    check_name(name)
    client = connect()
    with answering():
        journal = Journal.found(client, name)
        moves = _moves(journal) if journal else []
        try:
            aliases: Mapping[str, int] = reading.aliases_of(reading.model_named(client, name))
        except ModelNotFound:
            if not moves:
                raise
            aliases = {}
    moves = _with_outside(moves, aliases)
    return History([move for move in moves if alias in (None, move.alias)], _COLUMNS)


class _Alias:
    """One alias of one model: what the ledger says of it, and where it points."""

    def __init__(self, client: MlflowClient, name: str, alias: str) -> None:
        self._client, self._name, self._alias = client, name, alias
        self._book = Journal.opened(client, name)
        self._moves = _moves(self._book)

    @property
    def known(self) -> bool:
        """Whether the ledger has moved the alias."""
        return _last(self._moves, self._alias) is not None

    def settled(self, *targets: int | None) -> int | None:
        """Return where the alias points, after any unfinished move of it was finished.

        A move that began just now may still be under way: it is left alone, unless it goes to one
        of *targets*.
        """
        last = _last(self._moves, self._alias)
        if last is not None and not last.done:
            age = _now() - last.when
            if age < _UNDER_WAY and last.target not in targets:
                raise AliasMoving(self._name, self._alias, last.target, last.by, age.seconds)
            self._carry_out(last)
        return self._aliases().get(self._alias)

    def before(self) -> int:
        """Return the version that the alias pointed at before, of those that still exist."""
        moves = _with_outside(self._moves, self._aliases())
        path: list[int | None] = []
        for move in moves:
            if move.alias == self._alias and move.kind == "rollback":
                path = path[: _place(path, move.target) + 1]
            elif move.alias == self._alias:
                path.append(move.target)
        there = {int(each.version) for each in reading.versions_of(self._client, self._name)}
        earlier = [version for version in path[:-1] if version in there]
        if not earlier:
            reason = (
                "the versions before were deleted" if path[1:] else "no version before is known"
            )
            raise NothingToRollBack(self._name, self._alias, reason)
        return int(str(earlier[-1]))

    def unchanged(self, there: int | None) -> AliasOutcome:
        """Return the outcome of a move to where the alias points already."""
        return self._outcome("unchanged", there, there, None)

    def move(
        self,
        kind: Kind,
        origin: int | None,
        target: int | None,
        *,
        reason: str | None,
        evidence: str | None = None,
    ) -> AliasOutcome:
        """Write a move into the ledger after what was read of it, and move the alias.

        Raises:
            AliasMoved: another move of this alias came first.
        """
        move = AliasChange(
            alias=self._alias,
            origin=origin,
            target=target,
            when=_now(),
            kind=kind,
            by=who(),
            reason=reason,
            evidence=evidence,
        )
        number = self._moves[-1].number + 1 if self._moves else 1
        known = _last(self._moves, self._alias)
        while not self._book.write(number, move.facts()):
            newest = _last(_moves(self._book), self._alias)
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
        """Move the alias as *move* says, note that it is done, and give way to any later move."""
        self._point(move)
        self._book.finish(move.number, {"when": _now().isoformat(), "by": who()})
        last = _last(_moves(self._book), self._alias)
        if last is not None and last.number > move.number and last.done:
            self._point(last)  # this process slept while another finished its move and went on

    def _point(self, move: AliasChange) -> None:
        from mlflow import MlflowException  # noqa: PLC0415

        try:
            if move.target is None:
                self._client.delete_registered_model_alias(self._name, self._alias)
            else:
                self._client.set_registered_model_alias(self._name, self._alias, str(move.target))
        except MlflowException as error:
            if not is_missing(error):  # the version was deleted since: history shows it
                raise

    def _aliases(self) -> dict[str, int]:
        return reading.aliases_of(reading.model_named(self._client, self._name))


def _moves(journal: Journal) -> list[AliasChange]:
    return [
        AliasChange(
            number=entry.number,
            alias=entry.facts["alias"],
            origin=entry.facts["from"],
            target=entry.facts["to"],
            when=datetime.fromisoformat(entry.facts["when"]),
            by=entry.facts["by"],
            kind=entry.facts["kind"],
            reason=entry.facts["reason"],
            evidence=entry.facts["evidence"],
            done=entry.done,
        )
        for entry in journal.entries()
    ]


def _last(moves: Sequence[AliasChange], alias: str) -> AliasChange | None:
    return next((move for move in reversed(moves) if move.alias == alias), None)


def _with_outside(moves: Sequence[AliasChange], aliases: Mapping[str, int]) -> list[AliasChange]:
    """Return *moves* with those between them that the ledger did not make.

    Such a move has the time at which it was noticed: by the next move of the alias, or now.
    """
    seen: dict[str, AliasChange] = {}
    shown: list[AliasChange] = []
    for move in moves:
        before = seen[move.alias].target if move.alias in seen else None
        if before != move.origin:
            shown.append(_outside(move.alias, before, move.origin, move.when))
        shown.append(move)
        seen[move.alias] = move
    for alias in sorted({*seen, *aliases}):
        last, now = seen.get(alias), aliases.get(alias)
        there = last.target if last else None
        if now != there and not (last and not last.done and now == last.origin):
            shown.append(_outside(alias, there, now, _now()))
    return shown


def _outside(alias: str, origin: int | None, target: int | None, noticed: datetime) -> AliasChange:
    return AliasChange(
        alias=alias, origin=origin, target=target, when=noticed, kind="outside", done=True
    )


def _place(path: Sequence[int | None], version: int | None) -> int:
    return max((n for n, each in enumerate(path) if each == version), default=-1)


def _now() -> datetime:
    return datetime.now(UTC)


def who() -> str:
    """Return who this is, for the ledger: user@host."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if not user:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container's user often has a number and no name
            user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _check_reason(reason: str | None) -> None:
    if reason and (len(reason) > _LONGEST_REASON or not reason.isprintable()):
        raise ConfigError(
            f"a reason has at most {_LONGEST_REASON} characters, in one line that can be seen"
        )


def _check_run(client: MlflowClient, run_id: str) -> None:
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        client.get_run(run_id)
    except MlflowException as error:
        if is_missing(error) or "Invalid" in str(error):
            raise RunNotFound(run_id) from error
        raise
