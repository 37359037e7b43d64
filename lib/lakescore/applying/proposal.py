"""The proposal: how a version would score a table, what a person has to choose, texts to copy.

`Request.propose` is pure: it reads a signature, the columns of a table, and choices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lakescore import signature
from lakescore.applying import texts
from lakescore.applying.errors import ColumnsOpen, JobFileExists, KeysOpen
from lakescore.config import ScoreJob, validate
from lakescore.config.tables import Table, table_keys
from lakescore.errors import ColumnsMissing, ConfigError, IntegrityError
from lakescore.options import BindOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lakescore.applying.source import Keys, Source
    from lakescore.loading import Loadable
    from lakescore.signature import Contract, Match


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a person chose."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """By feature, the table's column; empty to leave an optional feature out."""
    features: tuple[str, ...] = ()
    """The table's columns, in the order of a signature without names."""
    id_columns: tuple[str, ...] = ()
    """The columns that identify a row."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """How a version would score a table, as far as that is certain."""

    request: Request
    matches: tuple[Match, ...]
    id_columns: tuple[str, ...]
    keys: Keys | None
    """The columns that could identify a row; None if a person chose them."""
    contract: Contract | None = None
    """What the job would bind; None while something is open."""
    job: Mapping[str, Any] | None = None
    """The keys of the job's file; likewise."""
    job_file: str | None = None
    python: str | None = None
    sql: str | None = None
    sql_reason: str = ""
    """Why there is no SQL."""

    @property
    def open(self) -> list[Match]:
        """The features for which a person has to choose a column."""
        return [match for match in self.matches if match.status == "open"]

    def check(self) -> None:
        """Check that nothing is open.

        Raises:
            ColumnsOpen: a feature has no column.
            KeysOpen: no column identifies a row.
        """
        source, names = self.request.source, self.request.source.schema.names
        if self.open:
            uri = self.request.loadable.model.uri
            problems = [f"{m.feature!r} ({m.asks}): {m.reason}" for m in self.open]
            advice = [f"--column {match.feature}=COLUMN" for match in self.open]
            if self.request.lacks_names:
                problems = [f"{len(self.open)} features: {self.open[0].reason}"]
                advice = ["--feature COLUMN"] * len(self.open)
            if not self.id_columns:
                advice.append("--id COLUMN")
            raise ColumnsOpen(source.address, uri, problems, advice)
        if not self.id_columns:
            reason = self.keys.reason if self.keys else ""
            raise KeysOpen(source.address, reason, (self.keys and self.keys.columns) or names)

    def write(self, path: Path) -> None:
        """Write the job's file to *path*, where no file is.

        Raises:
            JobFileExists: there is a file.
            ConfigError: the file cannot be written.
            Also the errors of `check`.
        """
        self.check()
        assert self.job_file is not None  # noqa: S101 - nothing is open
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(self.job_file)
        except FileExistsError:
            raise JobFileExists(path) from None
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from None

    def facts(self, *, candidates: bool = True) -> dict[str, Any]:
        """Return the proposal as plain JSON values; *candidates* are many for a wide table."""
        request, contract = self.request, self.contract
        model, source = request.loadable.model, request.source
        types = {f.name: f.dataType.simpleString() for f in source.schema}
        left_out = () if candidates else ("candidates",)
        return {
            "model": {"reference": model.reference, "name": model.name, "version": model.version,
                      "uri": model.uri},
            "input": {"table": source.address, "version": source.version, "columns": [
                {"name": name, "type": kind} for name, kind in types.items()
            ]},
            "output": request.output,
            "features": [
                {name: value for name, value in vars(match).items() if name not in left_out}
                | {"type": types[match.column] if match.column else None}
                for match in self.matches
            ],
            "id_columns": list(self.id_columns),
            "unique": {"columns": list(self.keys.columns), "reason": self.keys.reason}
            if self.keys else None,
            "casts": {n: list(c) for n, c in contract.casts.items()} if contract else None,
            "predictions": list(contract.written) if contract else None,
            "complete": contract is not None,
            "job": dict(self.job) if self.job is not None else None,
            "job_file": self.job_file,
            "python": self.python,
            "sql": self.sql,
            "sql_reason": self.sql_reason or None,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Request:
    """A pinned version, and the table that it is to score."""

    loadable: Loadable
    source: Source
    input: str
    """The table, as a person typed it."""
    output: str
    """The table for the predictions, as a person typed it."""

    @property
    def lacks_names(self) -> bool:
        """Whether the signature does not name its columns."""
        return signature.lacks_names(self.loadable)

    @property
    def width(self) -> int:
        """The number of features."""
        return signature.width(self.loadable)

    @property
    def feature_names(self) -> list[str]:
        """The names of the features; empty if the signature has none."""
        return [] if self.lacks_names else signature.feature_names(self.loadable)

    def fitting_columns(self) -> list[tuple[str, ...]]:
        """Return for each feature the columns that can be it, as `signature.fitting_columns`."""
        return signature.fitting_columns(self.source.schema, self.loadable)

    def find_keys(self, proposal: Proposal) -> Keys:
        """Return the columns that could identify a row, besides those that are features."""
        read = {match.column for match in proposal.matches if match.column}
        return self.source.find_keys(read)

    def propose(self, choices: Choices, keys: Keys | None = None) -> Proposal:
        """Return how the version would score the table with the *choices* of a person.

        Args:
            choices: the columns that a person chose.
            keys: the columns that could identify a row. If exactly one does, it is proposed.

        Raises:
            ColumnsMissing: the table lacks a chosen column.
            ConfigError: the job's file would not be valid.
            Also the errors of `signature.match_columns` and `signature.bind`.
        """
        source, loadable = self.source, self.loadable
        ids, names = choices.id_columns, source.schema.names
        if missing := [name for name in ids if name not in names]:
            raise ColumnsMissing(source.address, missing, names)
        if not ids and keys is not None and len(keys.columns) == 1:
            ids = keys.columns
        options = BindOptions(columns=choices.columns, features=choices.features)
        matches = tuple(signature.match_columns(source.address, source.schema, loadable, options))
        open_keys = None if choices.id_columns else keys
        if not ids or any(match.status == "open" for match in matches):
            return Proposal(request=self, matches=matches, id_columns=ids, keys=open_keys)
        job = self._job(ids, matches, choices.features)
        contract = self._bind(job, matches)
        notes = self._notes()
        query, reason = self._query(contract, ids, notes)
        return Proposal(
            request=self,
            matches=matches,
            id_columns=ids,
            keys=open_keys,
            contract=contract,
            job=job,
            job_file=texts.job_file(job, notes),
            python=texts.python(job, notes),
            sql=query,
            sql_reason=reason,
        )

    @property
    def _version(self) -> str:
        return f"{self.loadable.model.name}/{self.loadable.model.version}"

    def _job(
        self, ids: Sequence[str], matches: Sequence[Match], features: Sequence[str]
    ) -> dict[str, Any]:
        """Return the keys of the job's file."""
        columns = {m.feature: m.column for m in matches if m.column not in {None, m.feature}}
        return {
            "model": self._version,
            "input": table_keys(self.input),
            "output": table_keys(self.output),
            "id_columns": list(ids),
            **({"columns": columns} if columns else {}),
            **({"features": list(features)} if features else {}),
        }

    def _bind(self, job: Mapping[str, Any], matches: Sequence[Match]) -> Contract:
        """Return the contract that the job binds, which must be that of the *matches*."""
        config, source = validate(ScoreJob, "the job", job), self.source
        keep = config.keep(source.schema.names)
        contract = signature.bind(source.address, source, self.loadable, keep, config.binding)
        expected = {m.feature: m.column for m in matches if m.status == "matched"}
        if dict(contract.sources) != expected:
            raise IntegrityError(
                f"the job would read {dict(contract.sources)}, but the proposal says {expected}"
            )
        return contract

    def _notes(self) -> list[str]:
        """Return the comments above the texts."""
        model = self.loadable.model
        notes = [f"Made by lakescore apply {texts.shown(model.reference)}."]
        if model.reference.removeprefix("models:/") != self._version:
            notes.append(
                f"{texts.shown(model.reference)} names version {model.version} now, and this text "
                "keeps that version."
            )
            notes.append(
                "With the reference itself as the model, each run takes the version that it "
                "names then."
            )
        return notes

    def _query(
        self, contract: Contract, ids: Sequence[str], notes: Sequence[str]
    ) -> tuple[str | None, str]:
        """Return the SQL, or the reason why there is none."""
        if reason := self._refuse_query(contract, ids):
            return None, reason
        before = [
            f"In Python first: lakescore.sql.register(spark, {texts.shown(self._version)})",
            "The session must allow paths in queries: spark.sql.runSQLOnFiles, Spark's default.",
        ]
        address = Table(**table_keys(self.input)).address
        query = texts.sql(self._version, address, ids, contract.sources, [*notes, *before])
        return query, ""

    def _refuse_query(self, contract: Contract, ids: Sequence[str]) -> str:
        schema = self.source.schema
        if reason := signature.refuse_query(self.loadable):
            return reason
        if contract.left_out:
            return f"a query gives all features, and {contract.left_out[0]!r} is left out"
        kinds = {f.name: f.dataType for f in signature.features_of(self.loadable)}
        types = signature.column_types(schema)
        for name, column in contract.sources.items():
            has = types[column]
            if not signature.is_scalar(has) or not signature.is_lossless(has, kinds[name]):
                return f"a query cannot pass {column!r}, which is {has.simpleString()}"
        names = [self._version, self.source.address, *ids, *contract.sources.values()]
        names += contract.sources
        if not all(name.isprintable() for name in names):
            return "a name has characters that cannot be seen, which a query cannot show"
        if any("${" in name for name in names):
            return "Spark replaces ${...} in a query, also in names"
        return ""
