"""Reporting: a document about model versions as one page that asks no network, and as Markdown.

The document is `comparing.document`'s, or `registry_document`'s from what the registry holds;
docs/report.md lists its keys. The page embeds it, and what it shows it draws from nothing else.
"""

from lakescore.reporting.files import save, write
from lakescore.reporting.markdown import summary
from lakescore.reporting.registered import registry_document
from lakescore.reporting.rendering import Script, page, part, policy, style

__all__ = [
    "Script",
    "page",
    "part",
    "policy",
    "registry_document",
    "save",
    "style",
    "summary",
    "write",
]
