"""Filtering: a condition on the holdout's rows, as SQL that can only compare.

Spark's SQL can call Java and read files. Therefore the text is parsed, each of its parts must be on
a list, and Spark gets a text that is written from the parsed parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlglot
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from sqlglot import expressions as sql

from lakescore.comparing.errors import BadCondition
from lakescore.wording import listed, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import Column

_ALLOWED = (
    sql.And, sql.Or, sql.Not, sql.Paren, sql.EQ, sql.NEQ, sql.LT, sql.LTE, sql.GT, sql.GTE,
    sql.NullSafeEQ, sql.In, sql.Between, sql.Is, sql.Like, sql.Null, sql.Boolean, sql.Literal,
    sql.Neg, sql.Add, sql.Sub, sql.Mul, sql.Div, sql.Column, sql.Identifier, sql.Cast,
    sql.DataType,
)  # fmt: skip
_LONGEST = 4000


def condition(text: str, columns: Sequence[str]) -> Column:
    """Return *text* as a condition on a table's *columns*.

    It can compare (`= != <> < <= > >= <=>`, `between`, `in`, `like`, `is null`) columns, numbers,
    texts and dates (`DATE '2013-10-01'`, `TIMESTAMP '...'`), with `+ - * /`, `and`, `or`, `not`.

    Raises:
        BadCondition: the text does not parse, names an unknown column, or does more than compare.
    """
    if len(text) > _LONGEST:
        raise BadCondition(text[:80], f"it is longer than {_LONGEST} characters")
    try:
        tree = sqlglot.parse_one(text, dialect="spark")
        nodes = list(tree.walk())
    except (sqlglot.errors.SqlglotError, RecursionError) as error:
        raise BadCondition(text[:80], str(error).splitlines()[0]) from None
    for node in nodes:
        if type(node) not in _ALLOWED:
            is_unknown = isinstance(node, sql.Anonymous)  # a function that sqlglot does not know
            name = node.name if is_unknown else type(node).__name__.lower()
            raise BadCondition(text[:80], f"{name} is not allowed")
        if isinstance(node, sql.Cast) and not isinstance(node.this, sql.Literal):
            raise BadCondition(text[:80], "only a text can be cast")
        if isinstance(node, sql.Column) and (node.table or node.name not in columns):
            raise BadCondition(
                text[:80],
                f"there is no column {node.name!r}{nearest(node.name, columns)}; there are: "
                f"{listed(columns, most=40)}",
            )
    for column in tree.find_all(sql.Identifier):
        column.set("quoted", True)  # noqa: FBT003 - sqlglot's interface
    return F.expr(tree.sql(dialect="spark"))
