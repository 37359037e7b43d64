"""The errors of versions that cannot be applied to the rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakescore.errors import InputContractError
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterable


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
