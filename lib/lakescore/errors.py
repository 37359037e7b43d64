"""Every error that lakescore raises, each with its exit code.

An error takes facts and writes the sentence: what was asked, what is there, what to do.
Exit codes are part of the interface: 1 anything else, 2 usage or configuration, 3 registry or
resolution, 4 integrity, 5 input contract, 6 error budget or gate not met, 7 another run won, 75 a
retry may help, 143 told to stop.
"""

from __future__ import annotations

import difflib
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

# A password may hold a `/`, and a path an `@`: after host:port comes a path. Before the host of an
# address on Azure stands the container, which is no secret.
_CREDENTIALS = re.compile(r"(?<=://)(?:(?<!abfss://)[^/\s'\"]*@|[^/:@\s'\"]*:(?!\d+/)[^@\s'\"]*@)")
_SECRETS = re.compile(
    r"(?<=[?&])(\w*(?:token|password|secret|sig|key)\w*=)[^&\s'\"]+", re.IGNORECASE
)


_LONGEST_SHOWN = 80


def redact(text: str) -> str:
    """Return *text* without the user, password and tokens of any URI in it."""
    return _SECRETS.sub(r"\1***", _CREDENTIALS.sub("***@", text))


def visible(text: str) -> str:
    r"""Return *text* with what a terminal would obey, or not show, written like `\x1b`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(asked: str, there: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the name in *there* nearest to *asked*, or nothing."""
    near = difflib.get_close_matches(asked, list(there), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def listed(names: Iterable[object], *, most: int = 10) -> str:
    """Return *names* as one comma-separated line that shows at most *most* of them."""
    shown = [str(name) for name in names]
    if not shown:
        return "none"
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def _shown(value: str) -> str:
    return repr(value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}...")


class LakescoreError(Exception):
    """The base of all errors of lakescore."""

    exit_code: ClassVar[int] = 1
    facts: Mapping[str, object] = MappingProxyType({})
    """What the receipt says beside the sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(redact(visible(" ".join(sentence.split()))))

    def add(self, slices: Sequence[str], facts: Mapping[str, object]) -> None:
        """Say that *slices* of the run were published before, and *facts* of them."""
        before = f"{self}; before that, slices {listed(slices)} of this run were published"
        LakescoreError.__init__(self, before)
        self.facts = {**self.facts, **facts}


class JavaMissing(LakescoreError):
    """Spark cannot start without Java."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"Spark needs Java 17 or newer, and {found}; install a JRE (on Debian: apt-get install "
            "default-jre-headless) or point JAVA_HOME at one"
        )


class ScoringFailed(LakescoreError):
    """The model raised an error on the rows that it was given."""

    def __init__(self, uri: str, where: str, reason: str) -> None:
        super().__init__(
            f"{uri} could not score {where}: {reason}; nothing of it was written (-v shows the "
            "whole trace)"
        )


class Stopped(LakescoreError):
    """The process was told to end, as schedulers do."""

    exit_code = 143

    def __init__(self) -> None:
        super().__init__(
            "told to stop (SIGTERM): what was not published yet never will be; run it again, and "
            "what was published is recognised"
        )


class JobLost(LakescoreError):
    """The process of a job, one of several, died."""

    exit_code = 75

    def __init__(self, code: int | None, reason: str = "") -> None:
        how = f"ended with code {code}"
        if code is None:
            how = f"could not be started, or does not end ({reason or 'nobody knows why'})"
        elif code < 0:
            how = f"was killed by signal {-code}, for example because memory ran out"
        super().__init__(
            f"the process of the job {how}; what was not published yet never will be; run it "
            "again, and what was published is recognised"
        )


class NotRun(LakescoreError):
    """A job of several was never begun, since all were stopped."""

    exit_code = 75

    def __init__(self) -> None:
        super().__init__("it was not begun; run it again")


class TimedOut(LakescoreError):
    """The run took longer than the job allows."""

    exit_code = 75

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the run took longer than timeout_seconds: {seconds:g}, so it was ended: what was not "
            "published yet never will be; run it again, and what was published is recognised"
        )


class StorageFull(LakescoreError):
    """A disk is full, that of the table or the one that Spark keeps its own files on."""

    exit_code = 75

    def __init__(self, address: str) -> None:
        super().__init__(
            f"cannot write to {address}: no space left on device; nothing more was published; make "
            "room there and where Spark keeps its files (spark.local.dir), then run it again"
        )


class StorageUnavailable(LakescoreError):
    """An object store does not answer."""

    exit_code = 75

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"the object store of {address} does not answer ({reason}); nothing more was "
            "published; check AWS_ENDPOINT_URL (or spark.hadoop.fs.s3a.endpoint), or "
            "AZURE_STORAGE_ENDPOINT, and the network, then run it again"
        )


class ModelNotCopied(LakescoreError):
    """There is no room for a private copy of a model's files."""

    exit_code = 75

    def __init__(self, uri: str, folder: str, reason: str) -> None:
        super().__init__(
            f"the files of {uri} cannot be copied to {folder}: {reason}; make room there, or let "
            "TMPDIR name another folder, then run it again"
        )


class ConnectUnavailable(LakescoreError):
    """A Spark Connect server does not answer."""

    exit_code = 75

    def __init__(self, remote: str) -> None:
        super().__init__(
            f"no Spark Connect server answers at {remote}; start it, or give its address as "
            "spark.remote, then run it again"
        )


class ConfigError(LakescoreError):
    """The job's file or an override is wrong."""

    exit_code = 2


class StorageUnsupported(ConfigError):
    """Spark has no client for a scheme."""

    def __init__(self, address: str, scheme: str) -> None:
        remedy = (
            "fetch hadoop-aws (scripts/fetch_jars.py conf/spark/s3.lock) and submit with PLACE=s3, "
            "or with its lines in your own place (docs/object-storage.md)"
        )
        if scheme in {"s3", "s3n"}:
            remedy = "write s3a:// for tables on S3"
        elif scheme != "s3a":
            remedy = "name its jars in spark.jars of the place, or another path"
        super().__init__(f"Spark has nothing that reads {scheme}:, as {address} asks; {remedy}")


class StorageRefused(ConfigError):
    """An object store does not take the credentials, or they do not permit this."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"the object store refuses {address} ({reason}); give credentials that may read and "
            "write there, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AZURE_STORAGE_ACCOUNT_KEY (docs/object-storage.md)"
        )


class FolderRefused(ConfigError):
    """A table's folder cannot be written to."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"cannot write to {address}: {reason}; let the user that Spark runs as make files and "
            "folders there, or name another table"
        )


class FilesUnwritten(ConfigError):
    """Workers cannot write where the table of predictions lies."""

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(
            f"workers cannot write to {folder}: {reason}; nothing more was published; let the user "
            "that Spark's workers run as write there, then run it again"
        )


class RunIdReused(ConfigError):
    """A run id that was given stands for other inputs already."""

    def __init__(self, run_id: str, slice_name: str) -> None:
        super().__init__(
            f"run_id {run_id!r} has already scored slice {slice_name!r} with other inputs or "
            "settings; give another run_id, or leave it out to have it derived"
        )


class EngineRefused(ConfigError):
    """The engine that was asked for would not give MLflow's own values."""

    def __init__(
        self, engine: str, reason: str, advice: str = "give engine=auto or spark_udf"
    ) -> None:
        super().__init__(f"engine {engine} cannot be used: {reason}; {advice}")


class RunnerRefused(ConfigError):
    """The runner that was asked for cannot do what only Spark can."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"runner local cannot be used: {reason}; give runner=auto, which starts Spark then"
        )
        self.reason = reason


class OptionUnknown(ConfigError):
    """A parameter or a configuration that the model does not declare."""

    def __init__(self, what: str, name: str, uri: str, known: Sequence[str]) -> None:
        there = f"it declares {listed(known)}" if known else "it declares none"
        super().__init__(
            f"pyfunc.{what}: {uri} knows no {name!r}{nearest(name, known)}; {there} (those of its "
            "signature or of the configuration that it was logged with)"
        )


class OptionUnreadable(ConfigError):
    """A parameter or a configuration that cannot be read as what it was declared to be."""

    def __init__(self, name: str, text: object, uri: str, reason: str) -> None:
        super().__init__(f"pyfunc: {name}={text} is not what {uri} declares: {reason}")


class MetricsNotWritten(ConfigError):
    """The file of metrics cannot be written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"cannot write the metrics to {path}: {reason}; give another file as prometheus"
        )


class ReportNotWritten(ConfigError):
    """The report's folder cannot be written to."""

    def __init__(self, folder: object, reason: str) -> None:
        super().__init__(f"cannot write the report to {folder}: {reason}; name another folder")


class TooManySlices(ConfigError):
    """A column divides the holdout into more slices than can be compared."""

    def __init__(self, column: str, most: int) -> None:
        super().__init__(
            f"slices by {column!r} are more than {most}; slice by a column with fewer values"
        )


class BadCondition(ConfigError):
    """A condition on a table's rows does not read as one, or asks for more than comparisons."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"cannot read the condition {text!r}: {reason}")


class NothingToCompare(ConfigError):
    """A query names no version."""

    def __init__(self, name: str, where: str | None) -> None:
        condition = f" for which {where!r} holds" if where else ""
        super().__init__(
            f"{name!r} has no version{condition}; see lakescore versions {name}, or ask for others"
        )


class FileExists(ConfigError):
    """A file stands where another one should be copied to."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} exists already and was left as it is; name another folder: --to")


class RegistryError(LakescoreError):
    """A reference could not be resolved."""

    exit_code = 3


class NoTrackingStore(RegistryError):
    """No registry is configured, and the embedded one does not exist yet."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"there is no MLflow store at {path} and MLFLOW_TRACKING_URI is not set; set it, or "
            "run ./scripts/demo.sh to make an embedded store"
        )


class BadReference(RegistryError):
    """The reference does not read as one."""

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(
            f"cannot read the reference {reference!r}: {reason}; write name/3, name@alias, "
            "name/latest, models:/name/3 or 'name?where=metrics.rmse < 12&order_by=metrics.rmse'"
        )


class BadFilter(BadReference):
    """A filter or an order does not read as one."""

    def __init__(self, text: str, reason: str, at: int | None = None) -> None:
        place = ""
        if at is not None:
            rest = text[at : at + 20] + ("..." if text[at + 20 :] else "")
            place = f" (at character {at + 1}: {rest!r})" if rest else " (at its end)"
        RegistryError.__init__(self, f"cannot read the filter {text!r}: {reason}{place}")


class BadColumn(RegistryError):
    """No record has such a column."""

    exit_code = 2

    def __init__(self, column: str, there: Iterable[str]) -> None:
        names = list(there)
        super().__init__(
            f"there is no column {column!r}{nearest(column, names)}; "
            f"columns: {listed(names, most=40)}"
        )


class BadName(RegistryError):
    """A name, alias or tag that is none, or would be read as something else."""

    def __init__(self, what: str, name: str, reason: str) -> None:
        shown = name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}..."
        super().__init__(f"cannot use {shown!r} as {what}: {reason}")


class ModelNotFound(RegistryError):
    """No registered model has this name."""

    def __init__(self, name: str, there: Iterable[str], store: str) -> None:
        names = sorted(there)
        super().__init__(
            f"no registered model {name!r} at {store}{nearest(name, names)}; "
            f"there are: {listed(names)}"
        )


class VersionNotFound(RegistryError):
    """The registered model has no such version."""

    def __init__(self, name: str, asked: object, there: Iterable[int]) -> None:
        super().__init__(f"{name!r} has no version {asked}; there are: {listed(sorted(there))}")


class VersionDeleted(VersionNotFound):
    """The version was there once: a later one exists."""

    def __init__(self, name: str, asked: int, there: Iterable[int]) -> None:
        RegistryError.__init__(
            self,
            f"version {asked} of {name!r} was deleted; there are: {listed(sorted(there))}",
        )


class AliasNotFound(RegistryError):
    """The registered model has no such alias."""

    def __init__(self, name: str, alias: str, there: Mapping[str, int]) -> None:
        aliases = [f"{known} (version {version})" for known, version in sorted(there.items())]
        super().__init__(
            f"{name!r} has no alias {alias!r}{nearest(alias, there)}; there are: {listed(aliases)}"
        )


class SegmentsUnresolved(RegistryError):
    """Segments have no model."""

    def __init__(
        self, column: str, missing: Mapping[str | None, RegistryError], segments: int
    ) -> None:
        named = [each for each in missing.items() if each[0] is not None]
        first, error = next(iter(named or missing.items()))
        super().__init__(
            f"{len(missing)} of {segments} segments by {column} have no model: "
            f"{listed(map(repr, missing), most=20)}; of {first!r}: {error}; register these, or say "
            "missing: {default: REFERENCE}, or missing: skip where others have one"
        )
        self.facts = {"segments_without_model": list(missing)}


class ModelExists(RegistryError):
    """The registered model is there already."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the registered model {name!r} exists already; add versions with lakescore register, "
            "tags with lakescore tag --model"
        )


class NotServed(RegistryError):
    """The server was started for other models."""

    def __init__(self, name: str, served: Iterable[str]) -> None:
        super().__init__(
            f"{name!r} is not among the models that this server shows: {listed(sorted(served))}; "
            "start it with that name too, or with none to show all"
        )


class TagNotFound(RegistryError):
    """There is no such tag to remove."""

    def __init__(self, owner: str, key: str, there: Iterable[str]) -> None:
        keys = sorted(there)
        super().__init__(
            f"{owner} has no tag {key!r}{nearest(key, keys)}; there are: {listed(keys)}"
        )


class RunNotFound(RegistryError):
    """The tracking store has no such run."""

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"there is no run {run_id!r} in the tracking store; give the id of an MLflow run, "
            "such as a receipt's tracking_run_id"
        )


class NotAModel(RegistryError):
    """There is nothing that could be registered."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(
            f"cannot register {source!r}: {reason}; give a run's id, runs:/<run id>/<name>, "
            "models:/m-<hex>, or a folder or URI that holds an MLmodel file"
        )


class NothingToRollBack(RegistryError):
    """There is no version before this one to go back to."""

    def __init__(self, name: str, alias: str, reason: str) -> None:
        super().__init__(
            f"cannot roll {name}@{alias} back: {reason}; "
            f"promote a version instead: lakescore promote {name}/<version> --to {alias}"
        )


class LedgerLost(RegistryError):
    """A part of the ledger was deleted with MLflow's own tools."""

    def __init__(self, name: str, command: str) -> None:
        super().__init__(f"the ledger of {name!r} was deleted in MLflow; restore it: {command}")


class QueryNotUnique(RegistryError):
    """A query named no version, or several."""

    def __init__(self, query: str, found: Iterable[int], there: Iterable[str]) -> None:
        self.found = matches = sorted(found)
        what = f"names versions {listed(matches)}" if matches else "names no version"
        super().__init__(f"{query!r} {what}, and must name exactly one; there are: {listed(there)}")


class VersionNotReady(RegistryError):
    """The version's registration has not finished, or has failed."""

    def __init__(self, uri: str, status: str) -> None:
        super().__init__(f"{uri} is {status}, not READY; wait for it, or register it again")


class SignatureMissing(RegistryError):
    """The version was logged without the signature that scoring needs."""

    def __init__(self, uri: str, part: str = "signature") -> None:
        super().__init__(
            f"{uri} has no {part}, so its columns cannot be checked; log the model again with "
            "signature=infer_signature(inputs, predictions)"
        )


class RegistryUnavailable(RegistryError):
    """The tracking store did not answer in time."""

    exit_code = 75

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(
            f"the MLflow store at {store} does not answer ({reason}); check MLFLOW_TRACKING_URI "
            "and the server, then try again"
        )


class RegistryRefused(RegistryError):
    """The tracking store asks who it is, and does not take the answer."""

    def __init__(self, store: str) -> None:
        super().__init__(
            f"the MLflow store at {store} does not accept the user and password; set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN)"
        )


class IntegrityError(LakescoreError):
    """What was found is not what was recorded or allowed."""

    exit_code = 4


class ArtifactsMissing(IntegrityError):
    """The version is registered and its files are gone."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"the artifacts of {uri} cannot be fetched: {reason}")


class NotTrusted(IntegrityError):
    """The trust policy refuses the version."""

    def __init__(self, uri: str, rule: str, has: str, allowed: Iterable[str]) -> None:
        super().__init__(
            f"{uri} is refused by the trust policy's rule {rule!r}: {has}; "
            f"asked for: {listed(allowed, most=20)}"
        )


class DigestDiffers(IntegrityError):
    """The files are not those that were registered."""

    def __init__(self, uri: str, digest: str, known: str, where: str) -> None:
        super().__init__(
            f"the files of {uri} are not those that were registered: their digest is {digest}, "
            f"{where} says {known}; find out who changed them, and register the model again"
        )


class RowsLost(IntegrityError):
    """What was scored and what was set aside do not add up to what was read."""

    def __init__(self, slices: str, rows_in: int, scored: int, failed: int) -> None:
        super().__init__(
            f"slice {slices} has {rows_in} input rows, and {scored} were scored and {failed} set "
            "aside; nothing of it was published; try again, with engine=spark_udf, and report this"
        )


class WrittenFilesMissing(IntegrityError):
    """What workers wrote is not where the driver looks for it."""

    def __init__(self, folder: str, name: str) -> None:
        super().__init__(
            f"workers wrote {name} into {folder}, and the driver does not find it there as they "
            "wrote it; nothing more was published; keep tables where all machines see the same "
            "files"
        )


class ReplayDiffers(IntegrityError):
    """A run's predictions are not what they are when they are made once more."""

    def __init__(self, run: str, found: Mapping[str, Any]) -> None:
        first = found["examples"][0] if found["examples"] else "none"
        super().__init__(
            f"of {found['rows']} rows of run {run} {found['same']} are the same, "
            f"{found['different']} differ, {found['only_published']} are only in the table and "
            f"{found['only_replayed']} only in the replay, such as {first}; look for what the "
            "model depends on besides its input, or allow for a tolerance"
        )
        self.facts = {**found, "status": "different", "run": run}


class InputContractError(LakescoreError):
    """The input is not what the model's signature or the job's file asks for."""

    exit_code = 5


class TableNotFound(InputContractError):
    """There is no such table."""

    def __init__(self, address: str) -> None:
        super().__init__(f"there is no table at {address}; check the job's path or table")


class TableNotAtPath(TableNotFound):
    """There is no such folder, and what was given reads as a table's name."""

    def __init__(self, address: str, name: str) -> None:
        LakescoreError.__init__(
            self,
            f"there is no table at {address}; without Spark a table is named by its folder or URI, "
            f"not by a name of a catalog (DESCRIBE DETAIL {name} says where it lies)",
        )


class BucketMissing(InputContractError):
    """There is no such bucket."""

    def __init__(self, address: str) -> None:
        bucket = urlsplit(address).netloc or address
        super().__init__(
            f"there is no bucket {bucket!r}, as {address} asks; make it, or check the job's path "
            "and the store's endpoint"
        )


class TableNotMade(InputContractError):
    """A table to write to does not exist, and cannot be made."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"the table {address} cannot be made: {reason}; make what it needs (CREATE SCHEMA, or "
            "another name for a column), or name another table"
        )


class NotADeltaTable(InputContractError):
    """There is something, and it is not a Delta table."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address} is not a Delta table; convert it (CONVERT TO DELTA) or name another"
        )


class ViewNotPinned(NotADeltaTable):
    """There is a view, which has no version of its own."""

    def __init__(self, address: str) -> None:
        LakescoreError.__init__(
            self,
            f"{address} is a view, and a run reads and writes a Delta table at one version, which "
            "a view has not: the tables below it may change while the run goes on, and a replay "
            "could not read the same rows again; name the Delta table itself, or make one of the "
            "view's rows (CREATE TABLE name USING delta AS TABLE of the view)",
        )


class SnapshotNotFound(InputContractError):
    """The table does not have that version."""

    def __init__(self, address: str, asked: object, newest: int) -> None:
        super().__init__(f"{address} has no version {asked} to read; the newest is {newest}")


class FilesGone(InputContractError):
    """Files that a version of a table needs are not there any more."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is gone, which the version of the table that is read needs: VACUUM removed "
            "it, most likely; restore it, or read a newer version, and keep files for longer "
            "(delta.deletedFileRetentionDuration)"
        )


class FileUnreadable(InputContractError):
    """Spark cannot read a file of a table."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"Spark cannot read {path}, a file of the table: {reason}; write its rows anew in a "
            "way that Spark reads, with the types that the table has, or restore the file"
        )


class RunNotPublished(InputContractError):
    """No commit of the table says that it is of that run."""

    def __init__(self, address: str, run: str) -> None:
        super().__init__(
            f"no commit that the log of {address} still holds is of run {run}; look for a "
            "scoring_run_id in its rows, or keep the log for longer (delta.logRetentionDuration)"
        )


class RunNotOne(InputContractError):
    """The slices of a run were scored with different inputs or settings."""

    def __init__(self, run: str, first: Sequence[str], others: Sequence[str]) -> None:
        super().__init__(
            f"run {run} scored {listed(first)} with other inputs or settings than "
            f"{listed(others)}, so it cannot be made once more as one; give each run its own id"
        )


class KeysNotPublished(InputContractError):
    """The rows of a run cannot be told from each other."""

    def __init__(self, address: str, run: str) -> None:
        super().__init__(
            f"run {run} wrote no keys into {address} (passthrough: none), so its rows cannot be "
            "held against others"
        )


class RowNotFound(InputContractError):
    """No row of the table has that key."""

    def __init__(self, address: str, key: Mapping[str, str], unread: Sequence[str] = ()) -> None:
        asked = listed(f"{name}={value}" for name, value in key.items())
        aside = "and none of its quarantine; check the values, or score the row"
        if unread:  # names of a catalog
            aside = (
                f"and its quarantine {listed(unread)} is known by its name alone, which only Spark "
                "can open; check the values, or give that table's folder"
            )
        super().__init__(f"no row of {address} has {asked}, {aside}")


class KeyUnreadable(ConfigError):
    """A value that cannot be one of its column."""

    def __init__(self, name: str, text: str, kind: str) -> None:
        super().__init__(f"--key {name}={text}: the column is {kind}, and {text!r} is none")


class ColumnsMissing(InputContractError):
    """The input lacks columns that the signature or the job's file names."""

    def __init__(self, address: str, missing: Iterable[str], there: Iterable[str]) -> None:
        names, columns = list(missing), list(there)
        asked = listed(f"{name!r}{nearest(name, columns)}" for name in names)
        super().__init__(f"{address} lacks the columns {asked}; there are: {listed(columns)}")


class TypesDiffer(InputContractError):
    """Columns whose type cannot become what the signature asks for without loss."""

    def __init__(self, address: str, differing: Mapping[str, tuple[str, str]]) -> None:
        pairs = [f"{name!r} is {has}, not {asks}" for name, (has, asks) in differing.items()]
        super().__init__(
            f"{address} does not fit the model's signature: {listed(pairs)}; cast the columns in "
            "the table, or log the model with the types that the table has"
        )


class ColumnsCollide(InputContractError):
    """Two columns of the output, or of its quarantine, would have one name."""

    def __init__(self, what: str, names: Iterable[str]) -> None:
        chosen = "passthrough" if what == "output" else "quarantine_columns"
        super().__init__(
            f"the {what} would hold {listed(repr(name) for name in names)} twice; rename the "
            f"input's column, or leave it out of id_columns and {chosen}"
        )


class CaseDiffers(InputContractError):
    """The input has an optional feature whose name is written in another case."""

    def __init__(self, address: str, column: str, feature: str) -> None:
        super().__init__(
            f"{address} has the column {column!r}, and the model's optional feature is called "
            f"{feature!r}; rename the column, or say columns: {{{feature}: {column}}}"
        )


class OutputsCollide(InputContractError):
    """Outputs or classes of a model cannot have columns side by side."""

    def __init__(self, uri: str, what: str, names: Iterable[object], reason: str) -> None:
        super().__init__(
            f"{uri} gives the {what} {listed(repr(name) for name in names)}, and {reason}; log the "
            "model with other names for them"
        )


class ColumnsUnfit(InputContractError):
    """The input has columns whose names cannot be used."""

    def __init__(self, address: str, names: Iterable[str], reason: str) -> None:
        super().__init__(
            f"{address} has the columns {listed(repr(name) for name in names)}, and {reason}; "
            "rename them in the table"
        )


class FeaturesUnknown(ConfigError):
    """The job's file names features that the model does not take."""

    def __init__(self, uri: str, unknown: Sequence[str], known: Sequence[str]) -> None:
        asked = listed(f"{name!r}{nearest(name, known)}" for name in unknown)
        super().__init__(
            f"columns or nulls name {asked}, which {uri} does not take; it takes: {listed(known)}"
        )


class ThresholdUndefined(ConfigError):
    """A threshold, and not one score to hold it against."""

    def __init__(self, uri: str, outputs: str, classes: int) -> None:
        what = f"{classes} classes" if classes else outputs
        super().__init__(
            f"threshold needs one score, and {uri} gives {what}; leave it out, or give "
            "prediction=proba for a classifier of two classes"
        )


class NullsFound(InputContractError):
    """Columns hold nulls that the job's file says they never do."""

    def __init__(self, address: str, counts: Mapping[str, int]) -> None:
        found = listed(f"{name!r} in {count} rows" for name, count in counts.items())
        super().__init__(
            f"{address} holds nulls where nulls: fail was asked for: {found}; nothing of their "
            "slices was scored; mend the rows, or say null or quarantine"
        )


class SegmentsUnfit(InputContractError):
    """Values of a column cannot be a part of a model's name."""

    def __init__(self, address: str, column: str, values: Iterable[str]) -> None:
        super().__init__(
            f"column {column!r} of {address} holds segments that cannot be a part of a model's "
            f"name, so nothing was scored: {listed(map(_shown, values))}; mend these rows, or "
            "filter them out"
        )


class OutputsDiffer(InputContractError):
    """Versions that write one table give different columns."""

    def __init__(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        super().__init__(
            f"{one[0]} gives {one[1]}, and {other[0]} gives {other[1]}; the models of all segments "
            "must give the same columns"
        )


class DuplicateKeys(InputContractError):
    """Rows of a slice have the same key."""

    def __init__(
        self, address: str, keys: Sequence[str], rows: int, examples: Sequence[str]
    ) -> None:
        super().__init__(
            f"{rows} rows of {address} share their {listed(keys)} with another of their slice, "
            f"such as {listed(examples)}; nothing of their slices was scored; mend the rows, name "
            "more id_columns, or say on_duplicate_key: keep"
        )


class KeysInTwoSlices(InputContractError):
    """Rows that shall be merged by their key have the same one in different slices."""

    def __init__(
        self, address: str, keys: Sequence[str], rows: int, examples: Sequence[str]
    ) -> None:
        super().__init__(
            f"{rows} rows of {address} share their {listed(keys)} with a row of another slice, "
            f"such as {listed(examples)}, so write_mode: merge would keep one of them alone; "
            "nothing was scored; mend the rows, name more id_columns (slice_by, perhaps), or "
            "replace"
        )


class UnsupportedSignature(InputContractError):
    """The signature asks for something that a table's column cannot be."""

    def __init__(self, uri: str, what: str) -> None:
        super().__init__(f"{uri} cannot score a table: {what}")


class FlavorMissing(InputContractError):
    """The version cannot be applied to rows by MLflow's common way."""

    def __init__(self, uri: str, flavors: Iterable[str]) -> None:
        super().__init__(
            f"{uri} lacks the flavour python_function, by which a table is scored; it has: "
            f"{listed(flavors)}; log it by mlflow.pyfunc.log_model, with a PythonModel around it"
        )


class ModuleMissing(InputContractError):
    """What the model imports is not installed here."""

    def __init__(self, uri: str, module: str, asked: Sequence[str]) -> None:
        if asked:
            wants = f"of its requirements.txt these are not installed: {listed(asked)}"
            advice = "install them, or give env_manager: virtualenv"
        else:
            wants = "its requirements.txt names no package that is missing"
            advice = "install it, or log the model with code_paths that hold it"
        super().__init__(
            f"{uri} needs the module {module!r}, which is missing here; {wants}; {advice}"
        )


class ResultUnfit(InputContractError):
    """What the model gives is not what its signature says."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"{uri} cannot be scored: {reason}; log it with the signature of what it gives, by "
            "infer_signature(X, model.predict(X))"
        )


class FeaturesLeftOut(InputContractError):
    """The model fails on every row, and did not get features that its signature calls optional."""

    def __init__(self, uri: str, features: Sequence[str], reason: str) -> None:
        super().__init__(
            f"{uri} could not score any row: {reason}; the table lacks its optional features "
            f"{listed(repr(name) for name in features)}; add them, or name the columns that hold "
            "them: columns"
        )


class MetricUndefined(InputContractError):
    """The metric has no meaning for this prediction and label."""

    def __init__(self, metric: str, reason: str) -> None:
        super().__init__(f"{metric} cannot be computed: {reason}")


class HoldoutEmpty(InputContractError):
    """No row of the holdout has a label."""

    def __init__(self, address: str, label: str, where: str | None = None) -> None:
        among = address if where is None else f"{address} where {where}"
        super().__init__(
            f"no row of {among} has a label in {label!r}, so there is nothing to compare; wait "
            "for labels, or name another version of the table"
            f"{'' if where is None else ' or another filter'}"
        )


class WeightsInvalid(InputContractError):
    """Rows have weights that are none."""

    def __init__(self, wrong: int, rows: int) -> None:
        super().__init__(
            f"{wrong} of {rows} labelled rows have a weight that is missing, negative or infinite; "
            "filter them out (where), or mend them"
        )


class SchemaDrift(InputContractError):
    """The output table exists with other columns than the run would write."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"the output table {address} does not take these rows: {reason}; name another output, "
            "or alter that table"
        )


class TableAppendOnly(InputContractError):
    """Rows cannot be replaced in a table that only grows."""

    def __init__(self, address: str, *, default: bool) -> None:
        whose = (
            "spark.databricks.delta.properties.defaults.appendOnly makes new tables append-only"
            if default
            else "it is append-only (delta.appendOnly)"
        )
        super().__init__(
            f"rows of {address} cannot be replaced: {whose}; nothing was written there; for "
            "predictions say write_mode: append, else unset delta.appendOnly, or name another table"
        )


class TooManyErrors(LakescoreError):
    """More rows could not be scored than the job's file allows."""

    exit_code = 6

    def __init__(  # noqa: PLR0913, PLR0917 - each is a fact of its own
        self,
        uri: str,
        slices: Sequence[str],
        counts: tuple[int, int, int],
        reasons: Sequence[str],
        quarantine: str,
        where: str,
    ) -> None:
        failed, rows, allowed = counts
        first = reasons[0] if reasons else "no error"
        advice = "mend them, or raise max_errors or max_error_fraction"
        told = f"{failed} of {rows} rows, and {allowed} are allowed: {first}"
        if failed == rows and len(reasons) == 1:
            told = f"any of {rows} rows, all for one reason: {first}"
            advice = "mend that in the table or in the model: no row can be scored before"
        super().__init__(
            f"{uri} could not score {told}; "
            f"no prediction of {listed(slices, most=4)} was published; the rows are in "
            f"{quarantine} where {where}; {advice}"
        )
        self.facts = {
            "rows_in": rows,
            "rows_quarantined": failed,
            "quarantine": {"table": quarantine},
        }


class GateFailed(LakescoreError):
    """A version does not reach what the job's gates ask for."""

    exit_code = 6

    def __init__(self, candidate: str, failures: Iterable[str], report: Mapping[str, Any]) -> None:
        super().__init__(
            f"{candidate} does not pass the gates: {listed(failures, most=20)}; no alias was moved"
        )
        # The comparison itself is done.
        self.facts = {key: value for key, value in report.items() if key != "status"}


class AnotherRunWon(LakescoreError):
    """Another run wrote the same slice first."""

    exit_code = 7

    def __init__(self, address: str, what: str) -> None:
        super().__init__(
            f"another run wrote {what} of {address} while this one scored it; "
            "nothing of it was written by this run"
        )


class AliasMoved(LakescoreError):
    """Another one moved the alias first."""

    exit_code = 7

    def __init__(self, name: str, alias: str, expected: int | None, found: int | None) -> None:
        there = "no version" if found is None else f"version {found}"
        wanted = "none" if expected is None else f"version {expected}"
        super().__init__(
            f"{name}@{alias} is {there} and not {wanted}, as expected: another one moved it, and "
            f"nothing was changed; see lakescore history {name}"
        )


class EditedMeanwhile(LakescoreError):
    """Another one changed what was to be edited, since it was looked at."""

    exit_code = 7

    def __init__(self, what: str, expected: str | None, found: str | None) -> None:
        now = "is gone now" if found is None else f"is {_shown(found)} now"
        wanted = "none" if expected is None else _shown(expected)
        super().__init__(
            f"{what} {now}, and {wanted} was expected: another one changed it, and nothing was "
            "written; look at it again, then repeat the edit"
        )


class AliasMoving(AliasMoved):
    """Another one is moving the alias right now, or died a moment ago."""

    def __init__(self, name: str, alias: str, target: int | None, by: str | None, age: int) -> None:
        there = "no version" if target is None else f"version {target}"
        LakescoreError.__init__(
            self,
            f"{by} began to move {name}@{alias} to {there} {age} s ago; nothing was "
            f"changed; wait a minute, look at lakescore history {name}, and try again",
        )
