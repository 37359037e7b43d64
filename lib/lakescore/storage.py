"""Storage: the folders of tables, and the meaning of errors from clients of object stores.

Hadoop's client (in the driver, and in executors, whose errors arrive as text), deltalake's client
and MLflow's client (boto3) describe the same few problems in different words.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lakescore.errors import ConfigError, InputContractError, TemporaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lakescore import executor
    from lakescore.errors import LakescoreError

    Setting = Callable[[str], str | None]
    """Returns the value of a property of Spark, or None if it is not set."""

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
_UNREACHABLE = re.compile(
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
"""The kinds of file systems that workers and delta-rs reach, by scheme."""
_PATIENCE = {"connect_timeout": "5s", "timeout": "60s", "max_retries": "3", "retry_timeout": "30s"}
"""Limits for delta-rs, which otherwise tries for minutes."""
_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER = 5, 60


class StorageFull(TemporaryError):
    """The disk of the table, or the disk of Spark's own files, is full."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"cannot write to {address}: no space left on device; nothing more was published; make "
            "room there and where Spark keeps its files (spark.local.dir), then run the job again"
        )


class StorageUnavailable(TemporaryError):
    """An object store does not answer."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"the object store of {address} does not answer ({reason}); nothing more was "
            "published; check AWS_ENDPOINT_URL (or spark.hadoop.fs.s3a.endpoint), or "
            "AZURE_STORAGE_ENDPOINT, and the network, then run the job again"
        )


class StorageUnsupported(ConfigError):
    """Spark has no client for the scheme of an address."""

    def __init__(self, address: str, scheme: str) -> None:
        remedy = (
            "fetch hadoop-aws (lakescore setup s3) and submit with PLACE=s3, "
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


class TableNotFound(InputContractError):
    """The table does not exist."""

    def __init__(self, address: str) -> None:
        super().__init__(f"there is no table at {address}; check the job's path or table")


class BucketMissing(InputContractError):
    """The bucket does not exist."""

    def __init__(self, address: str) -> None:
        bucket = urlsplit(address).netloc or address
        super().__init__(
            f"there is no bucket {bucket!r}, which {address} needs; create it, or check the job's "
            "path and the store's endpoint"
        )


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The folder of a table, with the address and options for each client that opens its files."""

    path: str
    """The path on the machine's disks, or the path that begins with the bucket."""
    uri: str
    """The address for delta-rs."""
    store: executor.Store
    options: Mapping[str, str] = field(repr=False)
    """The options of delta-rs; they can hold credentials, as `store` can."""

    @property
    def is_local(self) -> bool:
        """Whether the folder is on the machine's disks."""
        return self.store.kind == "local"

    def holds_files(self) -> bool:
        """Return whether the folder has a file that Spark would read."""
        hidden = ("_", ".")
        if not self.is_local:
            from pyarrow.fs import FileSelector  # noqa: PLC0415 - only for an object store

            entries = self.store.system.get_file_info(FileSelector(self.path, allow_not_found=True))
            return any(not entry.base_name.startswith(hidden) for entry in entries)
        for _, folders, files in os.walk(self.path):
            folders[:] = [name for name in folders if not name.startswith(hidden)]
            if any(not name.startswith(hidden) for name in files):
                return True
        return Path(self.path).is_file()

    def read(self, name: str) -> bytes | None:
        """Return the bytes of the file *name* in the folder, or None if the file does not exist."""
        path = f"{self.path}/{name}"
        try:
            if self.is_local:
                return Path(path).read_bytes()
            with self.store.system.open_input_file(path) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None


def folder(address: str, setting: Setting | None = None) -> Folder | None:
    """Return the folder at *address*, or None if only Spark reaches it, as with `hdfs:`.

    Args:
        address: the path or URI of a table, as Spark takes it: nothing in it is decoded.
        setting: Spark's properties. Those that begin with `spark.hadoop.fs.` can give the endpoint
            and the credentials of a store; otherwise environment variables give them.
    """
    from lakescore import executor  # noqa: PLC0415 - without pyarrow, --help is faster

    scheme = address.partition(":")[0] if ":" in address.partition("/")[0] else ""
    kind = _KINDS.get(scheme)
    if kind is None:
        return None
    if kind == "local":
        path = "/" + address.removeprefix("file:").strip("/")
        return Folder(path=path, uri=Path(path).as_uri(), store=executor.LOCAL, options={})
    bucket, _, key = address.partition("://")[2].rstrip("/").partition("/")
    get_setting = setting or (lambda _: None)
    if kind == "s3":
        arrow_options, delta_options = _s3_options(bucket, get_setting)
        uri = f"s3://{bucket}/{key}"
    elif kind == "abfs":
        container, _, host = bucket.partition("@")
        arrow_options, delta_options = _azure_options(host, get_setting)
        bucket, uri = container, f"abfss://{container}@{host}/{key}"
    else:
        arrow_options, delta_options = {}, {}
        uri = f"gs://{bucket}/{key}"
    store = executor.Store(kind=kind, options=arrow_options)  # type: ignore[arg-type]  # of _KINDS
    return Folder(path=f"{bucket}/{key}", uri=uri, store=store, options=_PATIENCE | delta_options)


def _s3_options(bucket: str, get_setting: Setting) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the options of pyarrow and those of delta-rs."""

    def read_option(name: str, *variables: str) -> str | None:
        bucket_value = get_setting(f"spark.hadoop.fs.s3a.bucket.{bucket}.{name}")
        value = bucket_value or get_setting(f"spark.hadoop.fs.s3a.{name}")
        return value or next((os.environ[v] for v in variables if os.environ.get(v)), None)

    endpoint = read_option("endpoint", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    if endpoint and "://" not in endpoint:
        is_plain = get_setting("spark.hadoop.fs.s3a.connection.ssl.enabled") == "false"
        endpoint = f"{'http' if is_plain else 'https'}://{endpoint}"
    options = {
        "access_key": read_option("access.key", "AWS_ACCESS_KEY_ID"),
        "secret_key": read_option("secret.key", "AWS_SECRET_ACCESS_KEY"),
        "session_token": read_option("session.token", "AWS_SESSION_TOKEN"),
        "region": read_option("endpoint.region", "AWS_REGION", "AWS_DEFAULT_REGION")
        or ("us-east-1" if endpoint else None),
    }
    delta_options = {f"aws_{name}": value for name, value in options.items() if value}
    names = {"aws_access_key": "aws_access_key_id", "aws_secret_key": "aws_secret_access_key"}
    delta_options = {names.get(name, name): value for name, value in delta_options.items()}
    arrow_options: dict[str, Any] = {name: value for name, value in options.items() if value}
    arrow_options |= {"connect_timeout": _SECONDS_TO_CONNECT, "request_timeout": _SECONDS_TO_ANSWER}
    if endpoint:
        parts = urlsplit(endpoint)
        arrow_options |= {"endpoint_override": parts.netloc, "scheme": parts.scheme}
        allow_http = str(parts.scheme == "http").lower()
        delta_options |= {"aws_endpoint": endpoint, "aws_allow_http": allow_http}
    if get_setting("spark.hadoop.fs.s3a.path.style.access") == "false":
        arrow_options["force_virtual_addressing"] = True
        delta_options["aws_virtual_hosted_style_request"] = "true"
    return arrow_options, delta_options


def _azure_options(host: str, get_setting: Setting) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the options of pyarrow and of delta-rs for the account at the beginning of *host*."""
    account, _, suffix = host.partition(".dfs.")

    def read_option(name: str, variable: str) -> str | None:
        value = get_setting(f"spark.hadoop.fs.azure.{name}.{host}") or get_setting(
            f"spark.hadoop.fs.azure.{name}"
        )
        return value or os.environ.get(variable)

    tenant = re.search(r"//[^/]+/([^/]+)/", read_option("account.oauth2.client.endpoint", "") or "")
    credentials = {
        "account_key": read_option("account.key", "AZURE_STORAGE_ACCOUNT_KEY"),
        "sas_token": read_option("sas.fixed.token", "AZURE_STORAGE_SAS_TOKEN"),
        "client_id": read_option("account.oauth2.client.id", "AZURE_CLIENT_ID"),
        "client_secret": read_option("account.oauth2.client.secret", "AZURE_CLIENT_SECRET"),
        "tenant_id": tenant[1] if tenant else os.environ.get("AZURE_TENANT_ID"),
    }
    # Only the first complete kind of credentials is used: the clients refuse several kinds.
    for names in (("account_key",), ("sas_token",), ("client_id", "client_secret", "tenant_id")):
        if all(credentials[name] for name in names):
            credentials = {name: credentials[name] for name in names}
            break
    else:
        credentials = {}
    arrow_options: dict[str, Any] = {"account_name": account, **credentials}
    delta_options = {f"azure_storage_{name}": str(value) for name, value in arrow_options.items()}
    endpoint = os.environ.get("AZURE_STORAGE_ENDPOINT")
    if endpoint:  # of an emulator, whose path has the account
        parts = urlsplit(endpoint)
        for service in ("blob", "dfs"):
            arrow_options[f"{service}_storage_authority"] = parts.netloc
            arrow_options[f"{service}_storage_scheme"] = parts.scheme
        delta_options["azure_allow_http"] = str(parts.scheme == "http").lower()
    elif suffix not in {"", "core.windows.net"}:
        arrow_options["blob_storage_authority"] = f".blob.{suffix}"
        arrow_options["dfs_storage_authority"] = f".dfs.{suffix}"
        endpoint = f"https://{account}.blob.{suffix}"
    return arrow_options, delta_options | ({"azure_storage_endpoint": endpoint} if endpoint else {})


_PATTERN = re.compile(r"[\\*?\[\]{}]")
"""The characters of patterns in a path of Hadoop; a backslash before one makes it plain."""


def plain_path(path: str) -> str:
    """Return *path*, escaped for Spark's readers, which otherwise read parts of it as a pattern."""
    return _PATTERN.sub(r"\\\g<0>", path)


def explain_error(error: BaseException, address: str | None = None) -> LakescoreError | None:
    """Return the lakescore error for an *error* of an object store, or None for any other error.

    Args:
        error: the error that a client raised, also if Spark reports it as text.
        address: the table, if it is known; otherwise the address in the error's text is used.
    """
    text = str(error)
    match = _ADDRESS.search(text)
    place = address or (match[0] if match else "the object store")
    if (no_driver := _NO_DRIVER.search(text)) is not None:
        return StorageUnsupported(place, no_driver[1] or no_driver[2])
    if not _CLIENTS.search(text):
        return None
    if _NO_BUCKET.search(text):
        return BucketMissing(place)
    if (reason := _REFUSED.search(text)) is not None:
        return StorageRefused(place, reason[1])
    if (reason := _UNREACHABLE.search(text)) is not None:
        return StorageUnavailable(place, reason[1].lower())
    return None
