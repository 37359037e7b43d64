"""Where data lies: paths as they stand, and what the errors of object stores' clients mean.

Hadoop's client (in the driver, and in executors, whose errors arrive as text), deltalake's own and
MLflow's (boto3) tell the same few troubles in different words.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lakescore.errors import BucketMissing, StorageAway, StorageRefused, StorageUnsupported

if TYPE_CHECKING:
    from lakescore.errors import LakescoreError

_ADDRESS = re.compile(r"\bs3[an]?://[^\s'\"`<>,:)]+")
_NO_DRIVER = re.compile(
    r"No FileSystem for scheme \"?(\w+)|ClassNotFoundException: Class \S+\.(s3a)\.S3AFileSystem"
)
_NO_BUCKET = re.compile(r"NoSuchBucket")
_REFUSED = re.compile(
    r"(InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidClientTokenId|AccessDenied"
    r"|NoAuthWithAWSException|CredentialsNotLoaded|Unable to locate credentials"
    r"|Access Key Id you provided does not exist|signature we calculated does not match"
    r"|Status Code: 403|403 Forbidden|status 403|\(403\))"
)
_AWAY = re.compile(
    r"(Connection refused|Connect(?:ion)? ?timed? ?out|Read timed out|UnknownHostException"
    r"|Name or service not known|No route to host|Connection reset|Status Code: 50[0-9]"
    r"|error sending request|Could not connect to the endpoint)",
    re.IGNORECASE,
)
_CLIENTS = re.compile(
    r"awssdk|fs\.s3a|s3[an]?://|Generic S3 error|endpoint URL|when calling the \w+ operation"
    r"|Error performing \w+ http"
    r"|Unable to locate credentials",
    re.IGNORECASE,
)


_PATTERN = re.compile(r"[\\*?\[\]{}]")
"""What Hadoop reads in a path as a pattern, unless a backslash stands before it."""


def plain_path(path: str) -> str:
    """Return how Spark's readers, which take patterns, are told *path* as it stands."""
    return _PATTERN.sub(r"\\\g<0>", path)


def trouble(error: BaseException, address: str | None = None) -> LakescoreError | None:
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
        return StorageAway(place, reason[1].lower())
    return None
