"""Define every error that lakescore raises, each with its exit code.

An error takes the facts and writes the message: the request, the state that it met, the remedy.
Exit codes are part of the interface: 1 anything else, 2 usage or configuration, 3 registry or
resolution, 4 integrity, 5 input contract, 6 error budget or gate not met, 7 another run won, 75 a
retry may help, 143 stopped by SIGTERM.
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

# A password can contain a `/`, and a path an `@`: after host:port comes a path. In an address on
# Azure, the container stands before the host; it is not a secret.
_CREDENTIALS = re.compile(r"(?<=://)(?:(?<!abfss://)[^/\s'\"]*@|[^/:@\s'\"]*:(?!\d+/)[^@\s'\"]*@)")
_SECRETS = re.compile(
    r"(?<=[?&])(\w*(?:token|password|secret|sig|key)\w*=)[^&\s'\"]+", re.IGNORECASE
)
_LONGEST_SHOWN = 80


def redact(text: str) -> str:
    """Return *text* without the user, password and tokens of any URI in it."""
    return _SECRETS.sub(r"\1***", _CREDENTIALS.sub("***@", text))


def visible(text: str) -> str:
    r"""Return *text* with its control and invisible characters escaped, such as `\x1b`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the *known* name nearest to *name*, or an empty text."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def listed(names: Iterable[object], *, most: int = 10) -> str:
    """Return *names* as one comma-separated line that shows at most *most* names."""
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
    """The facts that the receipt records beside the message."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(visible(" ".join(message.split()))))

    def add(self, slices: Sequence[str], facts: Mapping[str, object]) -> None:
        """Add that the run had published *slices* before the error, and the *facts* of them."""
        message = f"{self}; before this error, the run published the slices {listed(slices)}"
        LakescoreError.__init__(self, message)
        self.facts = {**self.facts, **facts}


class JavaMissing(LakescoreError):
    """Spark cannot start without Java."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"Spark needs Java 17 or newer, but {problem}; install a JRE (on Debian: apt-get "
            "install default-jre-headless) or point JAVA_HOME at one"
        )


class ScoringFailed(LakescoreError):
    """The model raises an error on the input rows."""

    def __init__(self, uri: str, where: str, reason: str) -> None:
        super().__init__(
            f"{uri} could not score {where}: {reason}; nothing more was published (-v shows "
            "the full traceback)"
        )


class Stopped(LakescoreError):
    """SIGTERM, as a scheduler sends it, stopped the process."""

    exit_code = 143

    def __init__(self) -> None:
        super().__init__(
            "stopped by SIGTERM: this run publishes nothing more; run it again, and it recognises "
            "everything that is published already"
        )


class JobLost(LakescoreError):
    """The process of one of several jobs died."""

    exit_code = 75

    def __init__(self, code: int | None, reason: str = "") -> None:
        fate = f"ended with code {code}"
        if code is None:
            fate = f"could not be started, or does not end ({reason or 'for an unknown reason'})"
        elif code < 0:
            fate = f"was killed by signal {-code}, for example because memory ran out"
        super().__init__(
            f"the process of the job {fate}; this run publishes nothing more; run it again, "
            "and it recognises everything that is published already"
        )


class NotRun(LakescoreError):
    """One of several jobs was never started, because all jobs were stopped."""

    exit_code = 75

    def __init__(self) -> None:
        super().__init__("the job was not started; run it again")


class TimedOut(LakescoreError):
    """The run took longer than the job allows."""

    exit_code = 75

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the run took longer than timeout_seconds: {seconds:g}, so it was stopped; it "
            "publishes nothing more; run it again, and it recognises everything that is published "
            "already"
        )


class StorageFull(LakescoreError):
    """The disk of the table, or the disk of Spark's own files, is full."""

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
    """The disk has no room for a private copy of a model's files."""

    exit_code = 75

    def __init__(self, uri: str, folder: str, reason: str) -> None:
        super().__init__(
            f"the files of {uri} cannot be copied to {folder}: {reason}; make room there, or set "
            "TMPDIR to another folder, then run it again"
        )


class ConnectUnavailable(LakescoreError):
    """A Spark Connect server does not answer."""

    exit_code = 75

    def __init__(self, remote: str) -> None:
        super().__init__(
            f"no Spark Connect server answers at {remote}; start it, or set spark.remote to its "
            "address, then run it again"
        )


class ConfigError(LakescoreError):
    """The job's file or an override is wrong."""

    exit_code = 2


class StorageUnsupported(ConfigError):
    """Spark has no client for the scheme of an address."""

    def __init__(self, address: str, scheme: str) -> None:
        remedy = (
            "fetch hadoop-aws (scripts/fetch_jars.py conf/spark/s3.lock) and submit with PLACE=s3, "
            "or copy its lines to your own place (docs/object-storage.md)"
        )
        if scheme in {"s3", "s3n"}:
            remedy = "write s3a:// for tables on S3"
        elif scheme != "s3a":
            remedy = "name its jars in spark.jars of the place, or give another path"
        super().__init__(f"Spark has no client for {scheme}:, which {address} needs; {remedy}")


class StorageRefused(ConfigError):
    """An object store refuses the credentials, or they do not permit the access."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"the object store refuses {address} ({reason}); give credentials that can read and "
            "write there, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AZURE_STORAGE_ACCOUNT_KEY (docs/object-storage.md)"
        )


class FolderRefused(ConfigError):
    """Spark's user cannot write to the folder of a table."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"cannot write to {address}: {reason}; allow the user that runs Spark to create files "
            "and folders there, or name another table"
        )


class FilesUnwritten(ConfigError):
    """Workers cannot write to the folder of the table of predictions."""

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(
            f"workers cannot write to {folder}: {reason}; nothing more was published; allow the "
            "user that runs Spark's workers to write there, then run it again"
        )


class RunIdReused(ConfigError):
    """The requested run id already belongs to a run with other inputs."""

    def __init__(self, run_id: str, slice_name: str) -> None:
        super().__init__(
            f"run_id {run_id!r} has already scored slice {slice_name!r} with other inputs or "
            "settings; give another run_id, or leave it out, then it is derived"
        )


class EngineRefused(ConfigError):
    """The requested engine cannot give the same values as MLflow."""

    def __init__(
        self, engine: str, reason: str, advice: str = "give engine=auto or spark_udf"
    ) -> None:
        super().__init__(f"engine {engine} cannot be used: {reason}; {advice}")


class RunnerRefused(ConfigError):
    """The job needs Spark, and the requested runner works without it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"runner local cannot be used: {reason}; give runner=auto, which then starts Spark"
        )
        self.reason = reason


class OptionUnknown(ConfigError):
    """The model does not declare this parameter or this key of its configuration."""

    def __init__(self, what: str, name: str, uri: str, known: Sequence[str]) -> None:
        declared = f"it declares {listed(known)}" if known else "it declares none"
        super().__init__(
            f"pyfunc.{what}: {uri} does not know {name!r}{nearest(name, known)}; {declared} (in "
            "its signature, or in the configuration that it was logged with)"
        )


class OptionUnreadable(ConfigError):
    """A value of a parameter or of the configuration does not have the declared type."""

    def __init__(self, name: str, text: object, uri: str, reason: str) -> None:
        super().__init__(f"pyfunc: {name}={text} does not fit the declaration of {uri}: {reason}")


class MetricsNotWritten(ConfigError):
    """The file of metrics cannot be written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"cannot write the metrics to {path}: {reason}; set prometheus to another file"
        )


class ReportNotWritten(ConfigError):
    """The report cannot be written to its folder."""

    def __init__(self, folder: object, reason: str) -> None:
        super().__init__(f"cannot write the report to {folder}: {reason}; name another folder")


class TooManySlices(ConfigError):
    """A column divides the holdout into more slices than can be compared."""

    def __init__(self, column: str, most: int) -> None:
        super().__init__(
            f"column {column!r} has more than {most} slices; slice by a column with fewer values"
        )


class BadCondition(ConfigError):
    """A condition on a table's rows has a wrong syntax, or uses more than comparisons."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"cannot read the condition {text!r}: {reason}")


class NothingToCompare(ConfigError):
    """A query names no version."""

    def __init__(self, name: str, where: str | None) -> None:
        condition = f" that matches {where!r}" if where else ""
        super().__init__(
            f"{name!r} has no version{condition}; see lakescore versions {name}, or change the "
            "filter"
        )


class FileExists(ConfigError):
    """A file already exists at the place that a file is copied to."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} exists already and was not changed; name another folder: --to")


class RegistryError(LakescoreError):
    """A reference cannot be resolved."""

    exit_code = 3


class NoTrackingStore(RegistryError):
    """No registry is configured, and the embedded one does not exist yet."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"there is no MLflow store at {path} and MLFLOW_TRACKING_URI is not set; set it, or "
            "run ./scripts/demo.sh to create an embedded store"
        )


class BadReference(RegistryError):
    """The reference has a wrong syntax."""

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(
            f"cannot read the reference {reference!r}: {reason}; write name/3, name@alias, "
            "name/latest, models:/name/3 or 'name?where=metrics.rmse < 12&order_by=metrics.rmse'"
        )


class BadFilter(BadReference):
    """A filter or an order has a wrong syntax."""

    def __init__(self, text: str, reason: str, at: int | None = None) -> None:
        place = ""
        if at is not None:
            rest = text[at : at + 20] + ("..." if text[at + 20 :] else "")
            place = f" (at character {at + 1}: {rest!r})" if rest else " (at its end)"
        RegistryError.__init__(self, f"cannot read the filter {text!r}: {reason}{place}")


class BadColumn(RegistryError):
    """No record has such a column."""

    exit_code = 2

    def __init__(self, column: str, columns: Iterable[str]) -> None:
        names = list(columns)
        super().__init__(
            f"there is no column {column!r}{nearest(column, names)}; "
            f"columns: {listed(names, most=40)}"
        )


class BadName(RegistryError):
    """A name, alias or tag is not valid, or would be read as something else."""

    def __init__(self, what: str, name: str, reason: str) -> None:
        shown = name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}..."
        super().__init__(f"cannot use {shown!r} as {what}: {reason}")


class ModelNotFound(RegistryError):
    """No registered model has this name."""

    def __init__(self, name: str, models: Iterable[str], store: str) -> None:
        names = sorted(models)
        super().__init__(
            f"there is no registered model {name!r} at {store}{nearest(name, names)}; "
            f"there are: {listed(names)}"
        )


class VersionNotFound(RegistryError):
    """The registered model has no such version."""

    def __init__(self, name: str, version: object, versions: Iterable[int]) -> None:
        super().__init__(
            f"{name!r} has no version {version}; there are: {listed(sorted(versions))}"
        )


class VersionDeleted(VersionNotFound):
    """The version was deleted: a later version exists."""

    def __init__(self, name: str, version: int, versions: Iterable[int]) -> None:
        RegistryError.__init__(
            self,
            f"version {version} of {name!r} was deleted; there are: {listed(sorted(versions))}",
        )


class AliasNotFound(RegistryError):
    """The registered model has no such alias."""

    def __init__(self, name: str, alias: str, aliases: Mapping[str, int]) -> None:
        known = [f"{known} (version {version})" for known, version in sorted(aliases.items())]
        super().__init__(
            f"{name!r} has no alias {alias!r}{nearest(alias, aliases)}; there are: {listed(known)}"
        )


class SegmentsUnresolved(RegistryError):
    """Some segments have no model."""

    def __init__(
        self, column: str, missing: Mapping[str | None, RegistryError], segments: int
    ) -> None:
        named = [item for item in missing.items() if item[0] is not None]
        segment, error = next(iter(named or missing.items()))
        super().__init__(
            f"{len(missing)} of {segments} segments by {column} have no model: "
            f"{listed(map(repr, missing), most=20)}; for {segment!r}: {error}; register models for "
            "these segments, or set missing: {default: REFERENCE}, or missing: skip if other "
            "segments have a model"
        )
        self.facts = {"segments_without_model": list(missing)}


class ModelExists(RegistryError):
    """The registered model exists already."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the registered model {name!r} exists already; add versions with lakescore register, "
            "and tags with lakescore tag --model"
        )


class NotServed(RegistryError):
    """The server shows other models only."""

    def __init__(self, name: str, served: Iterable[str]) -> None:
        super().__init__(
            f"{name!r} is not among the models that this server shows: {listed(sorted(served))}; "
            "start it with that name too, or without names to show all models"
        )


class TagNotFound(RegistryError):
    """The tag to remove does not exist."""

    def __init__(self, owner: str, key: str, tags: Iterable[str]) -> None:
        keys = sorted(tags)
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
    """The source has no model that could be registered."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(
            f"cannot register {source!r}: {reason}; give a run's id, runs:/<run id>/<name>, "
            "models:/m-<hex>, or a folder or URI that holds an MLmodel file"
        )


class NothingToRollBack(RegistryError):
    """The alias has no earlier version to go back to."""

    def __init__(self, name: str, alias: str, reason: str) -> None:
        super().__init__(
            f"cannot roll back {name}@{alias}: {reason}; "
            f"promote a version instead: lakescore promote {name}/<version> --to {alias}"
        )


class LedgerLost(RegistryError):
    """A part of the ledger was deleted with MLflow's own tools."""

    def __init__(self, name: str, command: str) -> None:
        super().__init__(f"the ledger of {name!r} was deleted in MLflow; restore it: {command}")


class QueryNotUnique(RegistryError):
    """A query matches no version, or several versions."""

    def __init__(self, query: str, found: Iterable[int], versions: Iterable[str]) -> None:
        self.found = matches = sorted(found)
        result = f"matches versions {listed(matches)}" if matches else "matches no version"
        super().__init__(
            f"{query!r} {result}, but must match exactly one; there are: {listed(versions)}"
        )


class VersionNotReady(RegistryError):
    """The registration of the version is not finished, or failed."""

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
    """The tracking store does not answer in time."""

    exit_code = 75

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(
            f"the MLflow store at {store} does not answer ({reason}); check MLFLOW_TRACKING_URI "
            "and the server, then try again"
        )


class RegistryRefused(RegistryError):
    """The tracking store refuses the user and password."""

    def __init__(self, store: str) -> None:
        super().__init__(
            f"the MLflow store at {store} does not accept the user and password; set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN)"
        )


class IntegrityError(LakescoreError):
    """Models, files or rows differ from the recorded or allowed ones."""

    exit_code = 4


class ArtifactsMissing(IntegrityError):
    """The version is registered, but its files are missing."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"the artifacts of {uri} cannot be fetched: {reason}")


class NotTrusted(IntegrityError):
    """The trust policy refuses the version."""

    def __init__(self, uri: str, rule: str, has: str, allowed: Iterable[str]) -> None:
        super().__init__(
            f"{uri} is refused by the trust policy's rule {rule!r}: {has}; "
            f"allowed: {listed(allowed, most=20)}"
        )


class DigestDiffers(IntegrityError):
    """The files differ from the registered files."""

    def __init__(self, uri: str, digest: str, known: str, where: str) -> None:
        super().__init__(
            f"the files of {uri} differ from the registered files: their digest is {digest}, but "
            f"{where} says {known}; find out who changed them, and register the model again"
        )


class RowsLost(IntegrityError):
    """The scored and quarantined rows do not add up to the input rows."""

    def __init__(self, slices: str, rows_in: int, scored: int, failed: int) -> None:
        super().__init__(
            f"slice {slices} has {rows_in} input rows, but {scored} were scored and {failed} "
            "quarantined; the slice was not published; try again with engine=spark_udf, and report "
            "this error"
        )


class WrittenFilesMissing(IntegrityError):
    """The driver does not find a file that workers wrote."""

    def __init__(self, folder: str, name: str) -> None:
        super().__init__(
            f"workers wrote {name} into {folder}, but the driver does not find the same file "
            "there; nothing more was published; keep tables in a folder that all machines share"
        )


class ReplayDiffers(IntegrityError):
    """A replay of a run gives other predictions than the run published."""

    def __init__(self, run: str, counts: Mapping[str, Any]) -> None:
        example = counts["examples"][0] if counts["examples"] else "none"
        super().__init__(
            f"of {counts['rows']} rows of run {run}, {counts['same']} are the same, "
            f"{counts['different']} differ, {counts['only_published']} are only in the table and "
            f"{counts['only_replayed']} only in the replay, such as {example}; check if the model "
            "depends on more than its input, or set a tolerance"
        )
        self.facts = {**counts, "status": "different", "run": run}


class InputContractError(LakescoreError):
    """The input does not fit the model's signature or the job's file."""

    exit_code = 5


class TableNotFound(InputContractError):
    """The table does not exist."""

    def __init__(self, address: str) -> None:
        super().__init__(f"there is no table at {address}; check the job's path or table")


class TableNotAtPath(TableNotFound):
    """The folder does not exist, and its path looks like a name of a catalog."""

    def __init__(self, address: str, name: str) -> None:
        LakescoreError.__init__(
            self,
            f"there is no table at {address}; without Spark, give the table's folder or URI, not "
            f"its name in a catalog (DESCRIBE DETAIL {name} shows the location)",
        )


class BucketMissing(InputContractError):
    """The bucket does not exist."""

    def __init__(self, address: str) -> None:
        bucket = urlsplit(address).netloc or address
        super().__init__(
            f"there is no bucket {bucket!r}, which {address} needs; create it, or check the job's "
            "path and the store's endpoint"
        )


class TableNotMade(InputContractError):
    """A table to write to does not exist, and cannot be created."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"the table {address} cannot be created: {reason}; fix that (CREATE SCHEMA, or another "
            "name for a column), or name another table"
        )


class NotADeltaTable(InputContractError):
    """The address exists, but is not a Delta table."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address} is not a Delta table; convert it (CONVERT TO DELTA) or name another table"
        )


class ViewNotPinned(NotADeltaTable):
    """The address names a view, which has no versions."""

    def __init__(self, address: str) -> None:
        LakescoreError.__init__(
            self,
            f"{address} is a view, but a run reads and writes Delta tables at one version, and a "
            "view has no versions: its tables can change during the run, and a replay could not "
            "read the same rows again; name the Delta table itself, or create one from the view's "
            "rows (CREATE TABLE name USING delta AS TABLE of the view)",
        )


class SnapshotNotFound(InputContractError):
    """The table does not have that version."""

    def __init__(self, address: str, version: object, newest: int) -> None:
        super().__init__(f"{address} has no version {version} to read; the newest is {newest}")


class FilesGone(InputContractError):
    """Files that a version of a table needs do not exist any more."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the file {path} does not exist any more, but the version of the table that the run "
            "reads needs it; probably VACUUM removed it; restore it, or read a newer version, and "
            "keep files longer (delta.deletedFileRetentionDuration)"
        )


class FileUnreadable(InputContractError):
    """Spark cannot read a file of a table."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"Spark cannot read {path}, a file of the table: {reason}; write its rows again in a "
            "format that Spark reads, with the types of the table, or restore the file"
        )


class RunNotPublished(InputContractError):
    """No commit of the table belongs to that run."""

    def __init__(self, address: str, run: str) -> None:
        super().__init__(
            f"no commit in the log of {address} belongs to run {run}; look for a scoring_run_id in "
            "the table's rows; if the log no longer has the commit, keep it longer "
            "(delta.logRetentionDuration)"
        )


class RunNotOne(InputContractError):
    """The slices of a run were scored with different inputs or settings."""

    def __init__(self, run: str, first: Sequence[str], others: Sequence[str]) -> None:
        super().__init__(
            f"run {run} scored {listed(first)} with other inputs or settings than "
            f"{listed(others)}, so it cannot be replayed as one run; give each run its own id"
        )


class KeysNotPublished(InputContractError):
    """The rows of a run have no keys that identify them."""

    def __init__(self, address: str, run: str) -> None:
        super().__init__(
            f"run {run} wrote no keys into {address} (passthrough: none), so its rows cannot be "
            "compared with the rows of a replay"
        )


class RowNotFound(InputContractError):
    """Neither the table nor its quarantine has a row with that key."""

    def __init__(self, address: str, key: Mapping[str, str], unread: Sequence[str] = ()) -> None:
        values = listed(f"{name}={value}" for name, value in key.items())
        problem = f"neither {address} nor its quarantine has a row with {values}"
        advice = "check the values, or score the row"
        if unread:  # names of a catalog
            problem = (
                f"no row of {address} has {values}, and its quarantine {listed(unread)} was not "
                "read: only Spark can open a table by its name"
            )
            advice = "check the values, or give that table's folder"
        super().__init__(f"{problem}; {advice}")


class KeyUnreadable(ConfigError):
    """A value does not have the type of its column."""

    def __init__(self, name: str, text: str, kind: str) -> None:
        super().__init__(
            f"--key {name}={text}: {text!r} does not fit the type of the column, {kind}"
        )


class ColumnsMissing(InputContractError):
    """The input lacks columns that the signature or the job's file names."""

    def __init__(self, address: str, missing: Iterable[str], existing: Iterable[str]) -> None:
        names, columns = list(missing), list(existing)
        lacking = listed(f"{name!r}{nearest(name, columns)}" for name in names)
        super().__init__(f"{address} lacks the columns {lacking}; there are: {listed(columns)}")


class TypesDiffer(InputContractError):
    """Columns cannot be converted to the types of the signature without loss."""

    def __init__(self, address: str, differing: Mapping[str, tuple[str, str]]) -> None:
        pairs = [f"{name!r} is {has}, not {asks}" for name, (has, asks) in differing.items()]
        super().__init__(
            f"{address} does not fit the model's signature: {listed(pairs)}; cast the columns in "
            "the table, or log the model with the types of the table"
        )


class ColumnsCollide(InputContractError):
    """Two columns of the output, or of its quarantine, would have the same name."""

    def __init__(self, what: str, names: Iterable[str]) -> None:
        chosen = "passthrough" if what == "output" else "quarantine_columns"
        super().__init__(
            f"the {what} would have the columns {listed(repr(name) for name in names)} twice; "
            f"rename the input's column, or leave it out of id_columns and {chosen}"
        )


class CaseDiffers(InputContractError):
    """The input has the name of an optional feature in another case."""

    def __init__(self, address: str, column: str, feature: str) -> None:
        super().__init__(
            f"{address} has the column {column!r}, but the model's optional feature is called "
            f"{feature!r}; rename the column, or set columns: {{{feature}: {column}}}"
        )


class OutputsCollide(InputContractError):
    """Outputs or classes of a model cannot become columns of one table."""

    def __init__(self, uri: str, what: str, names: Iterable[object], reason: str) -> None:
        super().__init__(
            f"{uri} gives the {what} {listed(repr(name) for name in names)}, but {reason}; log the "
            "model with other names for them"
        )


class ColumnsUnfit(InputContractError):
    """The input has columns whose names cannot be used."""

    def __init__(self, address: str, names: Iterable[str], reason: str) -> None:
        super().__init__(
            f"{address} has the columns {listed(repr(name) for name in names)}, but {reason}; "
            "rename them in the table"
        )


class FeaturesUnknown(ConfigError):
    """The job's file names features that the model does not take."""

    def __init__(self, uri: str, unknown: Sequence[str], known: Sequence[str]) -> None:
        names = listed(f"{name!r}{nearest(name, known)}" for name in unknown)
        super().__init__(
            f"columns or nulls name {names}, which {uri} does not take; it takes: {listed(known)}"
        )


class ThresholdUndefined(ConfigError):
    """A threshold is set, but the model does not give exactly one score."""

    def __init__(self, uri: str, outputs: str, classes: int) -> None:
        result = f"{classes} classes" if classes else outputs
        super().__init__(
            f"threshold needs one score, but {uri} gives {result}; leave threshold out, or set "
            "prediction: proba for a classifier of two classes"
        )


class NullsFound(InputContractError):
    """Columns have nulls, and the job's file forbids them with `nulls: fail`."""

    def __init__(self, address: str, counts: Mapping[str, int]) -> None:
        columns = listed(f"{name!r} in {count} rows" for name, count in counts.items())
        super().__init__(
            f"{address} has nulls, which nulls: fail does not allow: {columns}; their slices were "
            "not scored; fix the rows, or set null or quarantine instead of fail"
        )


class SegmentsUnfit(InputContractError):
    """Values of the segment column cannot be a part of a model's name."""

    def __init__(self, address: str, column: str, values: Iterable[str]) -> None:
        super().__init__(
            f"column {column!r} of {address} has segments that cannot be a part of a model's name: "
            f"{listed(map(_shown, values))}; nothing was scored; fix these rows, or filter them "
            "out"
        )


class OutputsDiffer(InputContractError):
    """Versions that write to one table give different columns."""

    def __init__(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        super().__init__(
            f"{one[0]} gives {one[1]}, but {other[0]} gives {other[1]}; the models of all segments "
            "must give the same columns"
        )


class DuplicateKeys(InputContractError):
    """Rows of a slice have the same key."""

    def __init__(
        self, address: str, keys: Sequence[str], rows: int, examples: Sequence[str]
    ) -> None:
        super().__init__(
            f"{rows} rows of {address} share their {listed(keys)} with another row of their "
            f"slice, such as {listed(examples)}; their slices were not scored; fix the rows, add "
            "id_columns, or set on_duplicate_key: keep"
        )


class KeysInTwoSlices(InputContractError):
    """Rows of different slices have the same key, and the run merges rows by key."""

    def __init__(
        self, address: str, keys: Sequence[str], rows: int, examples: Sequence[str]
    ) -> None:
        super().__init__(
            f"{rows} rows of {address} share their {listed(keys)} with a row of another slice, "
            f"such as {listed(examples)}, so write_mode: merge would keep only one of them; "
            "nothing was scored; fix the rows, add id_columns (for example slice_by), or set "
            "write_mode: replace"
        )


class UnsupportedSignature(InputContractError):
    """The signature needs a type that a table's column cannot have."""

    def __init__(self, uri: str, what: str) -> None:
        super().__init__(f"{uri} cannot score a table: {what}")


class FlavorMissing(InputContractError):
    """The version has no flavour that MLflow can apply to rows."""

    def __init__(self, uri: str, flavors: Iterable[str]) -> None:
        super().__init__(
            f"{uri} lacks the flavour python_function, which scoring a table needs; it has: "
            f"{listed(flavors)}; wrap it in a PythonModel, and log that with "
            "mlflow.pyfunc.log_model"
        )


class ModuleMissing(InputContractError):
    """A module that the model imports is not installed here."""

    def __init__(self, uri: str, module: str, missing: Sequence[str]) -> None:
        if missing:
            cause = f"these packages of its requirements.txt are not installed: {listed(missing)}"
            advice = "install them, or set env_manager: virtualenv"
        else:
            cause = "its requirements.txt names no package that is missing"
            advice = "install it, or log the model with code_paths that contain it"
        super().__init__(
            f"{uri} needs the module {module!r}, which is missing here; {cause}; {advice}"
        )


class ResultUnfit(InputContractError):
    """The model gives other predictions than its signature says."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"{uri} cannot score the rows: {reason}; log it with the signature of its real "
            "output: infer_signature(X, model.predict(X))"
        )


class FeaturesLeftOut(InputContractError):
    """The model fails on every row, and the table lacks some of its optional features."""

    def __init__(self, uri: str, features: Sequence[str], reason: str) -> None:
        super().__init__(
            f"{uri} could not score any row: {reason}; the table lacks its optional features "
            f"{listed(repr(name) for name in features)}; add them, or map other names in the "
            "table with columns: {feature: column}"
        )


class MetricUndefined(InputContractError):
    """The metric is not defined for these predictions and labels."""

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
    """Some rows have weights that are not valid."""

    def __init__(self, wrong: int, rows: int) -> None:
        super().__init__(
            f"{wrong} of {rows} labelled rows have a weight that is missing, negative or infinite; "
            "filter these rows out (where), or fix them"
        )


class SchemaDrift(InputContractError):
    """The output table has other columns than the run writes."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"the output table {address} does not accept these rows: {reason}; name another "
            "output, or alter that table"
        )


class TableAppendOnly(InputContractError):
    """Rows of an append-only table cannot be replaced."""

    def __init__(self, address: str, *, default: bool) -> None:
        cause = (
            "spark.databricks.delta.properties.defaults.appendOnly makes new tables append-only"
            if default
            else "it is append-only (delta.appendOnly)"
        )
        super().__init__(
            f"rows of {address} cannot be replaced: {cause}; nothing was written there; for "
            "predictions set write_mode: append; otherwise unset delta.appendOnly, or name another "
            "table"
        )


class TooManyErrors(LakescoreError):
    """More rows failed than the job's file allows."""

    exit_code = 6

    def __init__(  # noqa: PLR0913, PLR0917 - separate facts
        self,
        uri: str,
        slices: Sequence[str],
        counts: tuple[int, int, int],
        reasons: Sequence[str],
        quarantine: str,
        where: str,
    ) -> None:
        failed, rows, allowed = counts
        reason = reasons[0] if reasons else "no error"
        advice = "fix them, or raise max_errors or max_error_fraction"
        failure = f"{failed} of {rows} rows, but only {allowed} may fail: {reason}"
        if failed == rows and len(reasons) == 1:
            failure = f"any of {rows} rows, all for one reason: {reason}"
            advice = "fix the cause in the table or in the model: until then, no row can be scored"
        super().__init__(
            f"{uri} could not score {failure}; "
            f"no prediction of {listed(slices, most=4)} was published; the failed rows are in "
            f"{quarantine} where {where}; {advice}"
        )
        self.facts = {
            "rows_in": rows,
            "rows_quarantined": failed,
            "quarantine": {"table": quarantine},
        }


class GateFailed(LakescoreError):
    """A version does not meet the job's gates."""

    exit_code = 6

    def __init__(self, candidate: str, failures: Iterable[str], report: Mapping[str, Any]) -> None:
        super().__init__(
            f"{candidate} does not pass the gates: {listed(failures, most=20)}; no alias was moved"
        )
        # The comparison itself succeeded, so the receipt keeps its facts.
        self.facts = {key: value for key, value in report.items() if key != "status"}


class AnotherRunWon(LakescoreError):
    """Another run wrote the same slice first."""

    exit_code = 7

    def __init__(self, address: str, what: str) -> None:
        super().__init__(
            f"another run wrote {what} of {address} while this run scored it; "
            "this run did not write it"
        )


class AliasMoved(LakescoreError):
    """Another process moved the alias first."""

    exit_code = 7

    def __init__(self, name: str, alias: str, expected: int | None, found: int | None) -> None:
        current = "no version" if found is None else f"version {found}"
        wanted = "no version" if expected is None else f"version {expected}"
        super().__init__(
            f"{name}@{alias} points at {current}, but {wanted} was expected: someone else moved "
            f"it; nothing was changed; see lakescore history {name}"
        )


class EditedMeanwhile(LakescoreError):
    """Someone else changed the value after it was read for the edit."""

    exit_code = 7

    def __init__(self, what: str, expected: str | None, found: str | None) -> None:
        current = "does not exist now" if found is None else f"is {_shown(found)} now"
        wanted = "no value" if expected is None else _shown(expected)
        super().__init__(
            f"{what} {current}, but {wanted} was expected: someone else changed it; nothing was "
            "written; look at it again, then repeat the edit"
        )


class AliasMoving(AliasMoved):
    """Another process is moving the alias right now, or died a moment ago."""

    def __init__(self, name: str, alias: str, target: int | None, by: str | None, age: int) -> None:
        destination = "no version" if target is None else f"version {target}"
        LakescoreError.__init__(
            self,
            f"{by} began to move {name}@{alias} to {destination} {age} s ago; nothing was "
            f"changed; wait a minute, look at lakescore history {name}, and try again",
        )
