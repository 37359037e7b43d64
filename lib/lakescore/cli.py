"""The `lakescore` command: what can be answered without Spark."""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003 - Typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from lakescore.errors import ConfigError, LakescoreError, listed, nearest

if TYPE_CHECKING:
    from lakescore.config import CompareJob, ScoreJob
    from lakescore.registry import ModelVersion, VersionRecord


class _OneLineErrors(TyperGroup):
    """Ends with an error's own exit code, and one line instead of a trace."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except LakescoreError as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201 - here is the terminal
            raise typer.Exit(error.exit_code) from None


app = typer.Typer(
    cls=_OneLineErrors,
    help="What is registered, and what a job's file may hold. Jobs run by spark-submit.sh.",
    epilog="Exit codes: 0 done, 1 anything else, 2 usage or configuration, 3 registry or "
    "resolution, 4 integrity, 75 a retry may help.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_Json = Annotated[bool, typer.Option("--json", help="one JSON document, for machines")]


@app.command()
def resolve(reference: str, *, as_json: _Json = False) -> None:
    """Pin REFERENCE to one model version and say all that is known of it."""
    from lakescore import registry  # noqa: PLC0415

    facts = _facts(registry.resolve(reference))
    if as_json:
        print(json.dumps(facts, indent=2))  # noqa: T201 - here is the terminal
        return
    _print_table(["property", "value"], [[key, _text(value)] for key, value in facts.items()])


@app.command()
def versions(name: str, *, as_json: _Json = False) -> None:
    """List the versions of the registered model NAME, newest first."""
    from lakescore import registry  # noqa: PLC0415

    records = registry.versions(name)
    if as_json:
        print(json.dumps([_facts(record) for record in records], indent=2))  # noqa: T201
        return
    columns = ["version", "aliases", "created", "status", "run", "metrics"]
    rows = [
        [
            str(record.version),
            " ".join(record.aliases),
            f"{record.created_at:%Y-%m-%d %H:%M}",
            record.status,
            record.run_name or "",
            _text(record.metrics),
        ]
        for record in records
    ]
    _print_table(columns, rows)


@app.command()
def schema(job: str) -> None:
    """Print the JSON schema of the file of JOB: score or compare."""
    print(json.dumps(_job(job).model_json_schema(), indent=2))  # noqa: T201 - here is the terminal


@app.command()
def check(
    job: str, config: Path, overrides: Annotated[list[str] | None, typer.Argument()] = None
) -> None:
    """Read the file of JOB with its KEY=VALUE overrides, look for Java, and say what is wrong."""
    from lakescore import java  # noqa: PLC0415
    from lakescore.config import load  # noqa: PLC0415

    load(_job(job), config, overrides or [])
    java.require()


def _job(name: str) -> type[ScoreJob | CompareJob]:
    from lakescore.config import JOBS  # noqa: PLC0415

    if name not in JOBS:
        raise ConfigError(f"there is no job {name!r}{nearest(name, JOBS)}; jobs: {listed(JOBS)}")
    return JOBS[name]


def _facts(record: VersionRecord) -> dict[str, Any]:
    """Return *record* as plain JSON values; these keys are an interface."""
    facts: dict[str, Any] = {
        "name": record.name,
        "version": record.version,
        "uri": record.uri,
        "status": record.status,
        "created_at": record.created_at.isoformat(),
        "aliases": list(record.aliases),
        "tags": dict(record.tags),
        "run_id": record.run_id,
        "run_name": record.run_name,
        "logged_model_id": record.logged_model_id,
        "params": dict(record.params),
        "metrics": dict(record.metrics),
    }
    return facts | _pinned_facts(record)


def _pinned_facts(record: VersionRecord | ModelVersion) -> dict[str, Any]:
    from lakescore.registry import ModelVersion  # noqa: PLC0415

    if not isinstance(record, ModelVersion):
        return {}
    signature = {
        key: json.loads(value) for key, value in record.signature.to_dict().items() if value
    }
    return {"reference": record.reference, "digest": record.digest, "signature": signature}


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{key}={each:.6g}" if isinstance(each, float) else f"{key}={_text(each)}"
            for key, each in value.items()
        )
    if isinstance(value, list):
        return ", ".join(_named(each) for each in value)
    return "" if value is None else str(value)


def _named(value: object) -> str:
    """Return a signature's column as `name: type`, anything else as text."""
    if isinstance(value, dict) and "type" in value:
        return f"{value.get('name', '-')}: {value.get('tensor-spec', value['type'])}"
    return str(value)


def _print_table(columns: list[str], rows: list[list[str]]) -> None:
    from rich import box  # noqa: PLC0415 - no part of --help
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*[escape(cell) for cell in row])
    Console().print(table)
