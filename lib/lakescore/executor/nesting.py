"""Nesting: values within structs and lists are changed in place of the old values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable


def innermost(array: pa.Array, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Return *array* with *change* applied to the values in its structs and lists, at any depth.

    Maps stay as they are.
    """
    kind = array.type
    if pa.types.is_struct(kind) and kind.num_fields:
        fields = [innermost(field, change) for field in array.flatten()]
        names = [kind.field(n).name for n in range(kind.num_fields)]
        return pa.StructArray.from_arrays(fields, names=names, mask=array.is_null())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        make = pa.ListArray if pa.types.is_list(kind) else pa.LargeListArray
        places = pa.array(offsets, pa.int32() if pa.types.is_list(kind) else pa.int64())
        members = innermost(array.flatten(), change)
        return make.from_arrays(places, members, mask=array.is_null())
    return change(array)


def leaf_types(kind: pa.DataType) -> list[pa.DataType]:
    """Return the types of the values in *kind* that are no structs, lists or maps."""
    types = pa.types
    if types.is_struct(kind):
        return [leaf for field in kind for leaf in leaf_types(field.type)]
    if types.is_map(kind):
        return [*leaf_types(kind.key_type), *leaf_types(kind.item_type)]
    if types.is_list(kind) or types.is_large_list(kind):
        return leaf_types(kind.value_type)
    return [kind]


def plain_value(value: Any, kind: pa.DataType) -> Any:
    """Return a value of Arrow's *kind* with dicts for its structs and maps, at any depth."""
    if value is None or not pa.types.is_nested(kind):
        return value
    if pa.types.is_map(kind):
        return {key: plain_value(item, kind.item_type) for key, item in value}
    if pa.types.is_struct(kind):
        return {field.name: plain_value(value[field.name], field.type) for field in kind}
    return [plain_value(item, kind.value_type) for item in value]
