"""Reporting: a document about model versions as one page without network access, and as Markdown.

`comparing.document` or `registry_document` returns the document; docs/report.md lists its keys. The
page embeds the document and has no other data.
"""

from lakescore.reporting.drift import drift_page, write_drift
from lakescore.reporting.files import save, write
from lakescore.reporting.markdown import summary
from lakescore.reporting.registered import registry_document
from lakescore.reporting.rendering import Script, page, part, policy, style

__all__ = [
    "Script",
    "drift_page",
    "page",
    "part",
    "policy",
    "registry_document",
    "save",
    "style",
    "summary",
    "write",
    "write_drift",
]
