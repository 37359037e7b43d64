"""The commands that move aliases, and tell who did: promote, rollback, withdraw, history."""

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
    typer.Option(min=0, help="the version that the alias must point at now; 0 for none"),
]
_Reason = Annotated[str | None, typer.Option(help="why, for the history")]


@command()
def promote(  # noqa: PLR0913 - the command's options
    reference: Reference,
    *,
    to: Annotated[str, typer.Option(help="the alias, such as champion")],
    expect: _Expect = None,
    reason: _Reason = None,
    evidence: Annotated[
        str | None, typer.Option(metavar="RUN", help="id of an MLflow run that speaks for it")
    ] = None,
    as_json: Json = False,
) -> None:
    """Point the alias --to at the version REF: compare and set.

    The move stands in the ledger before it is made: of two who promote at once one is refused
    (exit code 7), with --expect or without.
    """
    from lakescore import registry  # noqa: PLC0415

    _tell(
        registry.promote(reference, to=to, expect=expect, reason=reason, evidence=evidence),
        as_json=as_json,
    )


@command()
def rollback(
    name: Name,
    *,
    alias: Annotated[str, typer.Option(help="the alias, such as champion")],
    expect: _Expect = None,
    reason: _Reason = None,
    as_json: Json = False,
) -> None:
    """Point --alias of NAME at the version that it had before.

    Once more goes one promotion further back. Versions that were deleted are passed over.
    """
    from lakescore import registry  # noqa: PLC0415

    _tell(registry.rollback(name, alias=alias, expect=expect, reason=reason), as_json=as_json)


@command()
def withdraw(
    name: Name,
    *,
    alias: Annotated[str, typer.Option(help="the alias, such as challenger")],
    expect: _Expect = None,
    reason: _Reason = None,
    as_json: Json = False,
) -> None:
    """Take --alias of NAME away: it points at no version then.

    The ledger keeps where it pointed, and rollback brings it back.
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
        say(f"{alias}: {_named(outcome.origin)} -> {_named(outcome.target)}")


def _named(version: int | None) -> str:
    return "none" if version is None else str(version)


@command()
def history(
    name: Name,
    *,
    alias: Annotated[str | None, typer.Option(help="one alias; all without")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="where the aliases pointed then: a time, or a day's end (UTC)"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show who moved the aliases of NAME, when and why.

    What other tools moved is shown as from outside, at the time at which it was noticed.
    """
    from lakescore import registry  # noqa: PLC0415

    moves = registry.history(name, alias=alias)
    if at is not None:
        pointed = moves.at(_time(at))
        if as_json:
            tell(pointed)
        else:
            for each, version in pointed.items():
                say(f"{each} was {_version(version)}")
            if not pointed:
                say("the ledger knows of no alias at that time")
        return
    if as_json:
        tell([each.facts() for each in moves])
        return
    from lakescore.cli import screen  # noqa: PLC0415 - no part of --help

    screen.rows(moves, (), f"no alias of {name} was ever moved")


def _version(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def _time(text: str) -> datetime:
    with contextlib.suppress(ValueError):
        return datetime.combine(date.fromisoformat(text), time.max, UTC)
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is no time; write 2026-01-31, 2026-01-31T12:00 or 2026-01-31T12:00+01:00"
        ) from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)
