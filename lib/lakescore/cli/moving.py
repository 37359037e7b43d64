"""Define the commands to move aliases and show moves: promote, rollback, withdraw, history."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Annotated

import typer

from lakescore.cli.app import Json, Name, Reference, command, say, tell
from lakescore.errors import ConfigError

if TYPE_CHECKING:
    from lakescore.registry import AliasOutcome

_Expect = Annotated[
    int | None,
    typer.Option(min=0, help="version that the alias must point at now; 0 for no version"),
]
_Reason = Annotated[str | None, typer.Option(help="reason for the move, kept in the history")]


@command(3, 4, 7, 75)
def promote(  # noqa: PLR0913 - the command's options
    reference: Reference,
    *,
    to: Annotated[str, typer.Option(help="the alias, such as champion")],
    expect: _Expect = None,
    reason: _Reason = None,
    evidence: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="id of an MLflow run that supports the promotion"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Move an alias to the version REF; --to names the alias.

    The ledger records the move before it happens. If two people promote at the same time, one is
    refused (exit code 7), with or without --expect.
    """
    from lakescore import registry  # noqa: PLC0415

    _tell(
        registry.promote(reference, to=to, expect=expect, reason=reason, evidence=evidence),
        as_json=as_json,
    )


@command(3, 4, 7, 75)
def rollback(
    name: Name,
    *,
    alias: Annotated[str, typer.Option(help="the alias, such as champion")],
    expect: _Expect = None,
    reason: _Reason = None,
    as_json: Json = False,
) -> None:
    """Move an alias of NAME back to its previous version.

    A second rollback goes back one more promotion. Deleted versions are skipped.
    """
    from lakescore import registry  # noqa: PLC0415

    _tell(registry.rollback(name, alias=alias, expect=expect, reason=reason), as_json=as_json)


@command(3, 7, 75)
def withdraw(
    name: Name,
    *,
    alias: Annotated[str, typer.Option(help="the alias, such as challenger")],
    expect: _Expect = None,
    reason: _Reason = None,
    as_json: Json = False,
) -> None:
    """Remove an alias of NAME, so that it points at no version.

    The ledger keeps its last version, and rollback restores the alias.
    """
    from lakescore import registry  # noqa: PLC0415

    _tell(registry.withdraw(name, alias=alias, expect=expect, reason=reason), as_json=as_json)


def _tell(outcome: AliasOutcome, *, as_json: bool) -> None:
    if as_json:
        tell(outcome.facts())
        return
    alias = f"{outcome.name}@{outcome.alias}"
    if outcome.status == "unchanged":
        say(f"{alias} is {_version(outcome.target)} already")
    else:
        say(f"{alias}: {_number(outcome.origin)} -> {_number(outcome.target)}")


def _number(version: int | None) -> str:
    return "none" if version is None else str(version)


@command(3, 75)
def history(
    name: Name,
    *,
    alias: Annotated[str | None, typer.Option(help="show one alias; default: all")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="show the versions at this time, or at the end of this day (UTC)"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show who moved the aliases of NAME, when and why.

    A move by another tool is shown as `outside`, with the time at which lakescore noticed it.
    """
    from lakescore import registry  # noqa: PLC0415

    moves = registry.history(name, alias=alias)
    if at is not None:
        targets = moves.at(_parse_time(at))
        if as_json:
            tell(targets)
        else:
            for moved, version in targets.items():
                say(f"{moved} was {_version(version)}")
            if not targets:
                say("the ledger has no alias at that time")
        return
    if as_json:
        tell([move.facts() for move in moves])
        return
    from lakescore.cli import screen  # noqa: PLC0415 - --help does not need it

    screen.rows(moves, (), f"no alias of {name} was ever moved")


def _version(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def _parse_time(text: str) -> datetime:
    with contextlib.suppress(ValueError):
        return datetime.combine(date.fromisoformat(text), time.max, UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is not a time; write 2026-01-31, 2026-01-31T12:00 or 2026-01-31T12:00+01:00"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
