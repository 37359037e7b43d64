"""Define the command that puts a version and a table together: apply."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path  # noqa: TC003 - Typer reads the annotation
from typing import TYPE_CHECKING, Annotated

import typer

from lakescore.cli.app import Json, Reference, command, say, tell
from lakescore.errors import ConfigError
from lakescore.wording import counted, listed, redact, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore.applying import Choices, Keys, Proposal, Request

_MOST_KEYS = 20


@command(3, 4, 5, 75)
def apply(  # noqa: PLR0913 - the command's options
    reference: Reference,
    *,
    source: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="TABLE",
            help="folder or URI of the table to score; relative to LAKESCORE_HOME",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            metavar="TABLE", help="table for the predictions: likewise, or a name in a catalog"
        ),
    ],
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FEATURE=COLUMN",
            help="the table's column for a feature, or nothing (FEATURE=) to leave out an optional "
            "feature; can be repeated",
        ),
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="for a signature without names: the table's columns in the order of the training "
            "data; once for each",
        ),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--id", metavar="COLUMN", help="column that identifies a row; can be repeated"
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="write the job's file; an existing file is not changed"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Map a table's columns to REF, and show the job's file to copy.

    The command also shows lines of Python and SQL for the same predictions. It scores nothing.

    The columns of the table are matched with the features of REF: by the same name, or by the same
    name but for case and underscores, if the types fit. At a terminal the command asks for what is
    not certain. Elsewhere it ends with an error that names the options to give.
    """
    from lakescore import jars  # noqa: PLC0415 - --help does not need it

    jars.spark_submit()  # without PySpark, whose types the columns have, this is one line
    from lakescore import applying  # noqa: PLC0415 - likewise

    request = applying.request(reference, source, output)
    choices = applying.Choices(
        columns=_parse_columns(request, column or ()),
        features=tuple(feature or ()),
        id_columns=tuple(key or ()),
    )
    proposal = request.propose(choices)
    keys = None if choices.id_columns else request.find_keys(proposal)
    proposal = request.propose(choices, keys)
    if not as_json and sys.stdin.isatty() and sys.stderr.isatty():
        proposal = _complete(request, choices, proposal, keys)
    if as_json:
        tell(proposal.facts())
    proposal.check()
    if write is not None:
        proposal.write(write)
    if not as_json:
        _show(proposal, write)


def _parse_columns(request: Request, words: Sequence[str]) -> dict[str, str]:
    """Return the columns by feature of words such as `FEATURE=COLUMN`.

    A name can itself contain `=`, so the word is cut where both parts are known names.

    Raises:
        ConfigError: a word has no `=`, can be read in two ways, or repeats a feature.
    """
    features = set(request.feature_names)
    columns = {"", *request.source.schema.names}
    pairs: dict[str, str] = {}
    for word in words:
        cuts = [n for n, letter in enumerate(word) if letter == "="]
        if not cuts or cuts == [0]:
            raise ConfigError(f"--column {word!r} is not FEATURE=COLUMN, such as distance=miles")
        known = [n for n in cuts if word[:n] in features]
        exact = [n for n in known if word[n + 1 :] in columns]
        if len(exact) > 1:
            raise ConfigError(
                f"--column {word!r} can be read in {len(exact)} ways, because names contain =; "
                "rename the columns"
            )
        cut = (exact or known or cuts)[0]
        if word[:cut] in pairs:
            raise ConfigError(f"--column names the feature {word[:cut]!r} twice; give it once")
        pairs[word[:cut]] = word[cut + 1 :]
    return pairs


def _complete(
    request: Request, choices: Choices, proposal: Proposal, keys: Keys | None
) -> Proposal:
    """Return the proposal with the answers of the person at the terminal."""
    from lakescore.applying import UNFIT  # noqa: PLC0415 - --help does not need it

    while proposal.contract is None:
        changed = _answer(proposal, choices)
        try:
            proposal = request.propose(changed, keys)
        except UNFIT as error:
            _tell_person(str(error))
        else:
            choices = changed
    return proposal


def _answer(proposal: Proposal, choices: Choices) -> Choices:
    """Return *choices* with the answer to the first question of *proposal*."""
    if proposal.open and proposal.request.lacks_names:
        _tell_person(f"{counted(len(proposal.open), 'feature')}: {proposal.open[0].reason}")
        return replace(choices, features=_prompt_several("column", len(proposal.open)))
    if proposal.open:
        match = proposal.open[0]
        _tell_person(f"{match.feature} ({match.asks}): {match.reason}")
        if match.candidates:
            _tell_person(f"columns that fit: {listed(match.candidates)}")
        answer = _prompt(f"column for {match.feature}", is_optional=not match.required)
        return replace(choices, columns={**choices.columns, match.feature: answer})
    keys = proposal.keys
    _tell_person(f"which columns identify a row? {keys.reason if keys else ''}")
    if keys and keys.columns:
        _tell_person(f"columns that do: {listed(keys.columns)}")
    return replace(choices, id_columns=_prompt_several("id column", _MOST_KEYS))


def _prompt_several(label: str, most: int) -> tuple[str, ...]:
    answers: list[str] = []
    while len(answers) < most:
        answer = _prompt(f"{label} {len(answers) + 1}", is_optional=bool(answers))
        if not answer:
            break
        answers.append(answer)
    return tuple(answers)


def _prompt(label: str, *, is_optional: bool) -> str:
    if not is_optional:
        return str(typer.prompt(visible(label), err=True))
    label = f"{visible(label)} (empty for none)"
    return str(typer.prompt(label, default="", show_default=False, err=True))


def _tell_person(text: str) -> None:
    typer.echo(visible(redact(text)), err=True)


def _show(proposal: Proposal, written: Path | None) -> None:
    """Print how the columns are bound, and the texts to copy."""
    from lakescore.cli import screen  # noqa: PLC0415 - --help does not need it

    facts = proposal.facts()
    screen.table(
        ["feature", "asks", "column", "type", "why"],
        [
            [m["feature"], m["asks"], m["column"] or "", m["type"] or "", m["reason"]]
            for m in facts["features"]
        ],
    )
    keys = f" ({proposal.keys.reason})" if proposal.keys else ""
    say(f"id_columns: {listed(proposal.id_columns)}{keys}")
    say(f"predictions: {listed(facts['predictions'])}")
    query = proposal.sql or f"none: {proposal.sql_reason}\n"
    file = f"the job's file{f', written to {written}' if written else ''}"
    for title, text in ((file, proposal.job_file), ("Python", proposal.python), ("SQL", query)):
        say("")
        say(f"{title}:")
        say("")
        for line in (text or "").splitlines():
            say(line)
