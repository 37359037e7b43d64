"""Where data lies: paths as they stand, and what the errors of object stores' clients mean.

Hadoop's client (in the driver, and in executors, whose errors arrive as text), deltalake's own and
MLflow's (boto3) tell the same few troubles in different words.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lakescore.errors import BucketMissing, StorageRefused, StorageUnavailable, StorageUnsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lakescore import executor
    from lakescore.errors import LakescoreError

    Setting = Callable[[str], str | None]
    """Returns a property of Spark, if it is set."""

_ADDRESS = re.compile(r"\b(?:s3[an]?|abfss|gs)://[^\s'\"`<>,:)]+")
_NO_DRIVER = re.compile(
    r"No FileSystem for scheme \"?(\w+)"
    r"|ClassNotFoundException: Class \S+\.(s3a|azurebfs)\.\w+FileSystem"
)
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|FilesystemNotFound")
_REFUSED = re.compile(
    r"(AuthorizationFailure|AuthenticationFailed|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidClientTokenId|AccessDenied"
    r"|NoAuthWithAWSException|CredentialsNotLoaded|Unable to locate credentials"
    r"|Access Key Id you provided does not exist|signature we calculated does not match"
    r"|Status Code: 403|403 Forbidden|status 403|\(403\))"
)
_AWAY = re.compile(
    r"(Connection refused|Connect(?:ion)? ?timed? ?out|Read timed out|UnknownHostException"
    r"|Name or service not known|No route to host|Connection reset|Status Code: 50[0-9]"
    r"|Could not connect to server|error sending request|Could not connect to the endpoint)",
    re.IGNORECASE,
)
_CLIENTS = re.compile(
    r"awssdk|fs\.s3a|s3[an]?://|Generic S3 error|endpoint URL|when calling the \w+ operation"
    r"|MicrosoftAzure|Azure Error"
    r"|Error performing \w+ http"
    r"|Unable to locate credentials",
    re.IGNORECASE,
)


_S3 = {"s3", "s3a", "s3n"}
_KINDS = {**dict.fromkeys(["", "file"], "local"), **dict.fromkeys(_S3, "s3"), "abfss": "abfs"}
_KINDS["gs"] = "gs"
"""The file systems that workers and delta-rs reach, by scheme."""
_PATIENCE = {"connect_timeout": "5s", "timeout": "60s", "max_retries": "3", "retry_timeout": "30s"}
"""Of delta-rs, which would ask for minutes."""
_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER = 5, 60


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The folder of a table, as each of those that open its files is told of it."""

    path: str
    """Of the machine's disks, or from the bucket on."""
    uri: str
    """For delta-rs."""
    store: executor.Store
    options: Mapping[str, str] = field(repr=False)
    """For delta-rs; they may hold credentials, as `store` may."""

    @property
    def is_local(self) -> bool:
        """Whether it lies on the machine's own disks."""
        return self.store.kind == "local"

    def holds_files(self) -> bool:
        """Tell whether a file lies in it that Spark would read."""
        hidden = ("_", ".")
        if not self.is_local:
            from pyarrow.fs import FileSelector  # noqa: PLC0415 - where a store is used

            there = self.store.system.get_file_info(FileSelector(self.path, allow_not_found=True))
            return any(not each.base_name.startswith(hidden) for each in there)
        for _, folders, files in os.walk(self.path):
            folders[:] = [name for name in folders if not name.startswith(hidden)]
            if any(not name.startswith(hidden) for name in files):
                return True
        return Path(self.path).is_file()

    def read(self, name: str) -> bytes | None:
        """Return what the file *name* in it holds, or none where there is no such file."""
        path = f"{self.path}/{name}"
        try:
            if self.is_local:
                return Path(path).read_bytes()
            with self.store.system.open_input_file(path) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None


def folder(address: str, setting: Setting | None = None) -> Folder | None:
    """Return the folder at *address*, a path or URI as Spark takes it: nothing in it is decoded.

    None where only Spark reaches it, such as `hdfs:`.

    Args:
        address: of a table.
        setting: Spark's properties, in which `spark.hadoop.fs.` ones may say where a store is and
            who asks; else the environment says so.
    """
    from lakescore import executor  # noqa: PLC0415 - pyarrow is no part of --help

    scheme = address.partition(":")[0] if ":" in address.partition("/")[0] else ""
    kind = _KINDS.get(scheme)
    if kind is None:
        return None
    if kind == "local":
        path = "/" + address.removeprefix("file:").strip("/")
        return Folder(path=path, uri=Path(path).as_uri(), store=executor.LOCAL, options={})
    bucket, _, key = address.partition("://")[2].rstrip("/").partition("/")
    told = setting or (lambda _: None)
    if kind == "s3":
        ours, theirs = _of_s3(bucket, told)
        uri = f"s3://{bucket}/{key}"
    elif kind == "abfs":
        container, _, host = bucket.partition("@")
        ours, theirs = _of_azure(host, told)
        bucket, uri = container, f"abfss://{container}@{host}/{key}"
    else:
        ours, theirs = {}, {}
        uri = f"gs://{bucket}/{key}"
    store = executor.Store(kind=kind, options=ours)  # type: ignore[arg-type]  # by its dictionary
    return Folder(path=f"{bucket}/{key}", uri=uri, store=store, options=_PATIENCE | theirs)


def _of_s3(bucket: str, told: Setting) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the options of pyarrow and of delta-rs."""

    def asked(name: str, *variables: str) -> str | None:
        own = told(f"spark.hadoop.fs.s3a.bucket.{bucket}.{name}")
        found = own or told(f"spark.hadoop.fs.s3a.{name}")
        return found or next((os.environ[v] for v in variables if os.environ.get(v)), None)

    endpoint = asked("endpoint", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    if endpoint and "://" not in endpoint:
        plain = told("spark.hadoop.fs.s3a.connection.ssl.enabled") == "false"
        endpoint = f"{'http' if plain else 'https'}://{endpoint}"
    given = {
        "access_key": asked("access.key", "AWS_ACCESS_KEY_ID"),
        "secret_key": asked("secret.key", "AWS_SECRET_ACCESS_KEY"),
        "session_token": asked("session.token", "AWS_SESSION_TOKEN"),
        "region": asked("endpoint.region", "AWS_REGION", "AWS_DEFAULT_REGION")
        or ("us-east-1" if endpoint else None),
    }
    theirs = {f"aws_{name}": value for name, value in given.items() if value}
    names = {"aws_access_key": "aws_access_key_id", "aws_secret_key": "aws_secret_access_key"}
    theirs = {names.get(name, name): value for name, value in theirs.items()}
    ours: dict[str, Any] = {name: value for name, value in given.items() if value}
    ours |= {"connect_timeout": _SECONDS_TO_CONNECT, "request_timeout": _SECONDS_TO_ANSWER}
    if endpoint:
        parts = urlsplit(endpoint)
        ours |= {"endpoint_override": parts.netloc, "scheme": parts.scheme}
        theirs |= {"aws_endpoint": endpoint, "aws_allow_http": str(parts.scheme == "http").lower()}
    if told("spark.hadoop.fs.s3a.path.style.access") == "false":
        ours["force_virtual_addressing"] = True
        theirs["aws_virtual_hosted_style_request"] = "true"
    return ours, theirs


def _of_azure(host: str, told: Setting) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the options of pyarrow and of delta-rs, of the account that *host* begins with."""
    account, _, suffix = host.partition(".dfs.")

    def asked(name: str, variable: str) -> str | None:
        found = told(f"spark.hadoop.fs.azure.{name}.{host}") or told(
            f"spark.hadoop.fs.azure.{name}"
        )
        return found or os.environ.get(variable)

    tenant = re.search(r"//[^/]+/([^/]+)/", asked("account.oauth2.client.endpoint", "") or "")
    given = {
        "account_key": asked("account.key", "AZURE_STORAGE_ACCOUNT_KEY"),
        "sas_token": asked("sas.fixed.token", "AZURE_STORAGE_SAS_TOKEN"),
        "client_id": asked("account.oauth2.client.id", "AZURE_CLIENT_ID"),
        "client_secret": asked("account.oauth2.client.secret", "AZURE_CLIENT_SECRET"),
        "tenant_id": tenant[1] if tenant else os.environ.get("AZURE_TENANT_ID"),
    }
    # One way to ask is enough, and more are refused.
    for names in (("account_key",), ("sas_token",), ("client_id", "client_secret", "tenant_id")):
        if all(given[name] for name in names):
            given = {name: given[name] for name in names}
            break
    else:
        given = {}
    ours: dict[str, Any] = {"account_name": account, **given}
    theirs = {f"azure_storage_{name}": str(value) for name, value in ours.items()}
    endpoint = os.environ.get("AZURE_STORAGE_ENDPOINT")
    if endpoint:  # an emulator's, which has the account in its path
        parts = urlsplit(endpoint)
        for service in ("blob", "dfs"):
            ours[f"{service}_storage_authority"] = parts.netloc
            ours[f"{service}_storage_scheme"] = parts.scheme
        theirs["azure_allow_http"] = str(parts.scheme == "http").lower()
    elif suffix not in {"", "core.windows.net"}:
        ours["blob_storage_authority"] = f".blob.{suffix}"
        ours["dfs_storage_authority"] = f".dfs.{suffix}"
        endpoint = f"https://{account}.blob.{suffix}"
    return ours, theirs | ({"azure_storage_endpoint": endpoint} if endpoint else {})


_PATTERN = re.compile(r"[\\*?\[\]{}]")
"""What Hadoop reads in a path as a pattern, unless a backslash stands before it."""


def plain_path(path: str) -> str:
    """Return how Spark's readers, which take patterns, are told *path* as it stands."""
    return _PATTERN.sub(r"\\\g<0>", path)


def explain_error(error: BaseException, address: str | None = None) -> LakescoreError | None:
    """Return what *error* says of an object store, if it says anything of one.

    Args:
        error: what a client raised, or Spark told of it.
        address: the table, where it is known; else it is looked for in the text.
    """
    text = str(error)
    found = _ADDRESS.search(text)
    place = address or (found[0] if found else "the object store")
    if (unknown := _NO_DRIVER.search(text)) is not None:
        return StorageUnsupported(place, unknown[1] or unknown[2])
    if not _CLIENTS.search(text):
        return None
    if _NO_BUCKET.search(text):
        return BucketMissing(place)
    if (reason := _REFUSED.search(text)) is not None:
        return StorageRefused(place, reason[1])
    if (reason := _AWAY.search(text)) is not None:
        return StorageUnavailable(place, reason[1].lower())
    return None
