"""Creating: an empty table, as Spark would make it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lakescore.logs.errors import NotEligible
from lakescore.logs.history import MADE
from lakescore.logs.log import Log
from lakescore.logs.opening import first_line, is_encoded
from lakescore.storage import folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.storage import Setting


def create(  # noqa: PLR0913 - all but the first two by name
    address: str,
    schema: Mapping[str, Any],
    *,
    partition_by: Sequence[str],
    properties: Mapping[str, str],
    metadata: Mapping[str, Any],
    setting: Setting | None = None,
) -> None:
    """Make an empty table at *address*, unless another run makes it at the same moment.

    Args:
        address: a folder or URI, as Spark takes it.
        schema: the columns, as Spark writes them in JSON.
        partition_by: the partition columns.
        properties: the properties of the table.
        metadata: the commit metadata in `userMetadata`, besides `MADE`.
        setting: Spark's properties.

    Raises:
        NotEligible: Spark has to make the table, or to report why it cannot be made.
    """
    from deltalake import CommitProperties, DeltaTable, Schema  # noqa: PLC0415 - not needed for --help

    place = folder(address, setting)
    if place is None or is_encoded(place):
        raise NotEligible("delta-rs does not reach the table's folder")
    user_metadata = {**MADE, **metadata}
    commit_info = {
        "userMetadata": json.dumps(user_metadata),
        "operationMetrics": {"numOutputRows": "0"},
    }
    try:
        DeltaTable.create(
            place.uri,
            Schema.from_json(json.dumps(schema)),
            partition_by=list(partition_by),
            configuration=dict(properties),
            storage_options=dict(place.options) or None,
            commit_properties=CommitProperties(custom_metadata=commit_info, max_commit_retries=0),
        )
    except Exception as error:  # noqa: BLE001 - Spark reports any error better
        try:
            Log(address, setting=setting)
        except FileNotFoundError:
            raise NotEligible(f"delta-rs does not make the table: {first_line(error)}") from error
