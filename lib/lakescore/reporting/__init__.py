"""Reporting: a document about model versions as one page that asks no network, and as Markdown.

The document is `comparing.document`'s, or `of_registry`'s from what the registry holds;
docs/report.md lists its keys. The page embeds it, and what it shows it draws from nothing else.
"""

from lakescore.reporting.files import save, write
from lakescore.reporting.markdown import summary
from lakescore.reporting.registered import of_registry
from lakescore.reporting.rendering import Script, page, part, policy, style

__all__ = [
    "Script",
    "of_registry",
    "page",
    "part",
    "policy",
    "save",
    "style",
    "summary",
    "write",
]
