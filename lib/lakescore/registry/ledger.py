"""The ledger: who moved which alias, from which version to which, when and why.

MLflow keeps no history of aliases. The ledger sees the moves of other tools only later, as moves
from outside.
"""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from lakescore.registry import reading
from lakescore.registry.errors import ModelNotFound
from lakescore.registry.journal import Journal
from lakescore.registry.reference import check_name
from lakescore.registry.store import answering, connect
from lakescore.registry.table import Rows, Shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COLUMNS = ("number", "when", "alias", "from", "to", "by", "kind", "reason")

Kind = Literal["promote", "rollback", "withdraw", "outside"]


@dataclass(frozen=True, kw_only=True)
class AliasChange(Shown):
    """One move of an alias."""

    number: int = 0
    """The move's number in the ledger; 0 for a move from outside, which has no number."""
    alias: str
    origin: int | None
    """The version that the alias pointed at before; None if it pointed at no version."""
    target: int | None
    """The version that the alias points at after the move; None if the alias was withdrawn."""
    when: datetime
    """UTC, by the clock of the mover; for a move from outside, the time of its detection."""
    kind: Kind
    by: str | None = None
    reason: str | None = None
    evidence: str | None = None
    """The MLflow run that justifies the move."""
    done: bool = False
    """False if the process died before it moved the alias: the next move finishes it."""

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


class History(Rows[AliasChange]):
    """The moves of a registered model's aliases, oldest first."""

    def at(self, when: datetime) -> dict[str, int | None]:
        """Return the version of each alias at the time *when*, as far as the ledger knows.

        Aliases whose first known move came later are left out. A move from outside counts from
        the time of its detection.

        Args:
            when: with a time zone.
        """
        return {move.alias: move.target for move in self if move.when <= when}


def history(name: str, *, alias: str | None = None) -> History:
    """Return the moves of the aliases of the registered model *name*, oldest first.

    If an alias differs from the ledger, another tool moved it, or someone deleted its version: the
    history shows that move too. The ledger outlives its model.

    Args:
        name: the registered model's name.
        alias: one alias; None for all.

    Raises:
        ModelNotFound: there is no such registered model, and the ledger has no entry about it.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    check_name(name)
    client = connect()
    with answering():
        journal = Journal.find(client, name)
        moves = moves_of(journal) if journal else []
        try:
            aliases: Mapping[str, int] = reading.aliases_of(reading.model_named(client, name))
        except ModelNotFound:
            if not moves:
                raise
            aliases = {}
    moves = add_outside_moves(moves, aliases)
    return History([move for move in moves if alias in (None, move.alias)], _COLUMNS)


def moves_of(journal: Journal) -> list[AliasChange]:
    """Return the moves in the *journal*, oldest first."""
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


def last_move(moves: Sequence[AliasChange], alias: str) -> AliasChange | None:
    """Return the last of *moves* that moved *alias*."""
    return next((move for move in reversed(moves) if move.alias == alias), None)


def add_outside_moves(
    moves: Sequence[AliasChange], aliases: Mapping[str, int]
) -> list[AliasChange]:
    """Return *moves*, and between them the moves that other tools made.

    The time of such a move is the time of its detection: the next move of the alias, or now.
    """
    seen: dict[str, AliasChange] = {}
    shown: list[AliasChange] = []
    for move in moves:
        before = seen[move.alias].target if move.alias in seen else None
        if before != move.origin:
            shown.append(_outside_move(move.alias, before, move.origin, move.when))
        shown.append(move)
        seen[move.alias] = move
    for alias in sorted({*seen, *aliases}):
        last, now = seen.get(alias), aliases.get(alias)
        recorded = last.target if last else None
        if now != recorded and not (last and not last.done and now == last.origin):
            shown.append(_outside_move(alias, recorded, now, datetime.now(UTC)))
    return shown


def _outside_move(
    alias: str, origin: int | None, target: int | None, when: datetime
) -> AliasChange:
    return AliasChange(
        alias=alias, origin=origin, target=target, when=when, kind="outside", done=True
    )


def who() -> str:
    """Return the name of this process's user for the ledger: user@host."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if not user:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container's user often has a number but no name
            user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
