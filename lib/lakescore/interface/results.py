"""The receipt of a run as an object: a mapping that a notebook shows as a table."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lakescore.console import in_notebook
from lakescore.encoding import as_json
from lakescore.errors import ConfigError
from lakescore.registry.table import text
from lakescore.wording import counted, html_table

_ROWS_SHOWN = 20
_HEIGHT = 800
"""The height of the report in a notebook, in pixels."""


class Receipt(Mapping[str, Any]):
    """The receipt of a run. Its keys are those of the receipt that the command prints.

    Args:
        facts: the receipt.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = dict(facts)

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 - any JSON value
        return self._facts[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def __repr__(self) -> str:
        """Return the receipt as JSON."""
        return as_json(self._facts, indent=2)

    def _repr_html_(self) -> str:
        tables = [html_table([], self._lines()), *self._tables()]
        return "".join(tables)

    def _lines(self) -> list[tuple[str, str]]:
        """Return the names and values of the facts that a person looks for first."""
        model, source, output = (self[key] for key in ("model", "input", "output"))
        version = model.get("uri") or model["name"]
        written = output.get("version")
        lines = [
            ("status", self["status"]),
            ("model", f"{version} ({model['reference']})"),
            ("input", f"{source['table']} at version {source['version']}"),
            ("output", output["table"] + ("" if written is None else f" at version {written}")),
            ("columns", text(output["columns"])),
            ("rows", str(self["rows_in"])),
            ("scored", str(self["rows_scored"])),
            ("quarantined", str(self["rows_quarantined"])),
        ]
        for key, name in (("rows_skipped", "skipped"), ("rows_of_no_slice", "in no slice")):
            if key in self:
                lines.append((name, str(self[key])))
        if "would" in self:
            would = self["would"]
            lines[5:] = [("would score", counted(would["rows"], "row"))]
        return lines

    def _tables(self) -> list[str]:
        """Return further tables: the slices, or the rows that a plan scored."""
        if "probe" in self:
            return [_first_rows(self["probe"])]
        return [_first_rows(self["slices"])]


class Comparison(Receipt):
    """The receipt of a comparison, which can show its report."""

    def show(self) -> None:
        """Show the report: in a notebook inline and without network, elsewhere as its path.

        Raises:
            ConfigError: the file of the report is gone.
        """
        path = Path(self["report"]["html"])
        if not in_notebook():
            print(path)  # noqa: T201 - this answers a person
            return
        from IPython.display import HTML, display  # noqa: PLC0415 - only in a notebook

        try:
            page = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"there is no report at {path}: {error.strerror}; compare again to write it"
            ) from None
        display(HTML(framed(page)))

    def _lines(self) -> list[tuple[str, str]]:
        holdout, gates = self["holdout"], self.get("gates")
        lines = [
            ("verdict", self["verdict"]),
            ("holdout", f"{holdout['table']} at version {holdout['version']}"),
            ("rows", f"{self['rows_common']} of {self['rows']} scored by all versions"),
            ("baseline", self["baseline"]),
        ]
        if gates:
            passed = "passed" if gates["passed"] else "not passed"
            sentences = "; ".join(check["sentence"] for check in gates["checks"])
            lines.append(("gates", f"{passed}: {sentences}"))
        return lines

    def _tables(self) -> list[str]:
        ranked = [
            {"rank": line["rank"], "version": line["uri"], **line["metrics"],
             "failed rows": line["rows_failed"]}
            for line in self["ranking"]
        ]  # fmt: skip
        return [_first_rows(ranked)]


def framed(page: str) -> str:
    """Return a report's *page* in a frame, for a notebook.

    The frame's sandbox keeps the page apart from the notebook, and the page's own policy keeps it
    from the network.
    """
    return (
        f'<iframe title="comparison" sandbox="allow-scripts allow-downloads" '
        f'style="width: 100%; height: {_HEIGHT}px; border: 0" '
        f'srcdoc="{html.escape(page)}"></iframe>'
    )


def _first_rows(rows: list[dict[str, Any]]) -> str:
    """Return *rows* as a table that shows at most 20 of them, and says how many there are."""
    if not rows:
        return ""
    shown = [[text(value) for value in row.values()] for row in rows[:_ROWS_SHOWN]]
    more = len(rows) - len(shown)
    note = f"<p>and {counted(more, 'more row')}</p>" if more else ""
    return html_table([str(name) for name in rows[0]], shown) + note
