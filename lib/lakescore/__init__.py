"""lakescore: batch scoring on Spark with one pinned model version and its lineage in every row.

`score` and `compare` run the jobs, and `predict` adds predictions to a DataFrame of Spark.
`lakescore.ml` has a transformer of Spark ML, and `lakescore.sql` the function PREDICT for SQL.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakescore import ml, sql
    from lakescore.interface import compare, predict, score

__all__ = ["compare", "ml", "predict", "score", "sql"]
_MODULES = ("ml", "sql")


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the functions and modules of __all__
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Now, and not with this module: it takes seconds, and only some callers need it.
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(f"{__name__}.interface"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
