"""lakescore: batch scoring on Spark with one pinned model version and its lineage in every row.

`score` and `compare` run the jobs, and `predict` adds predictions to a DataFrame of Spark.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakescore.interface import compare, predict, score

__all__ = ["compare", "predict", "score"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the functions of __all__
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lakescore import interface  # noqa: PLC0415 - seconds of import, only for who uses it

    return getattr(interface, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
