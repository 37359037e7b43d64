"""Wording: the pieces of text that errors, logs and tables share.

They make text safe to show (no credentials, no control characters), and short: a list that is cut,
a value that is cut, the known name nearest to a wrong one, a table for a notebook.
"""

from __future__ import annotations

import difflib
import html
import re
from itertools import chain, repeat
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# A password can contain a `/`, and a path an `@`: after host:port comes a path. In an address on
# Azure, the container stands before the host; it is not a secret.
_CREDENTIALS = re.compile(r"(?<=://)(?:(?<!abfss://)[^/\s'\"]*@|[^/:@\s'\"]*:(?!\d+/)[^@\s'\"]*@)")
_SECRETS = re.compile(
    r"(?<=[?&])(\w*(?:token|password|secret|sig|key)\w*=)[^&\s'\"]+", re.IGNORECASE
)
_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")
_LONGEST_SHOWN = 80
Name = TypeVar("Name", bound=str)


def redact(text: str) -> str:
    """Return *text* without the user, password and tokens of any URI in it."""
    return _SECRETS.sub(r"\1***", _CREDENTIALS.sub("***@", text))


def visible(text: str) -> str:
    r"""Return *text* with its control and invisible characters escaped, such as `\x1b`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the *known* name nearest to *name*, or an empty text."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def listed(names: Iterable[object], *, most: int = 10) -> str:
    """Return *names* as one comma-separated line that shows at most *most* names."""
    shown = [str(name) for name in names]
    if not shown:
        return "none"
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def counted(number: int, noun: str) -> str:
    """Return *number* with its *noun*, such as `1 row` or `2 rows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def either(choices: Sequence[str], *, last: str = " or ") -> str:
    """Return *choices* as text, such as `a, b or c`; *last* stands before the last one."""
    return last.join(filter(None, [", ".join(choices[:-1]), choices[-1]]))


def described(meanings: Mapping[Name, str]) -> list[str]:
    """Return each name with its meaning, such as `spark (always Spark)`."""
    return [f"{name} ({meaning})" for name, meaning in meanings.items()]


def shortened(value: str) -> str:
    """Return *value* in quotes, cut after 80 characters."""
    return repr(value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}...")


def snake_case(name: str) -> str:
    """Return the *name* of a class in snake case, such as `model_not_found`."""
    return _WORD_START.sub("_", name).lower()


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return *rows* as a table in HTML, with all texts escaped.

    Args:
        columns: the headings; without them, the first cell of a row is its heading.
        rows: the cells of each row.
    """

    def line(tags: Iterable[str], cells: Sequence[str]) -> str:
        pairs = zip(tags, cells, strict=False)
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for tag, c in pairs) + "</tr>"

    head = f"<thead>{line(repeat('th'), columns)}</thead>" if columns else ""
    body = "".join(line(chain([] if columns else ["th"], repeat("td")), row) for row in rows)
    return f"<table>{head}<tbody>{body}</tbody></table>"
