"""Serve live pages of registered models, to view and change them in a browser, only on loopback.

The API calls `lakescore.registry`. So it refuses the same requests as the command line, and the
ledger records every move of an alias.
"""

from lakescore.serving.api import application
from lakescore.serving.guarding import Guard
from lakescore.serving.running import serve
from lakescore.serving.tables import Tables

__all__ = ["Guard", "Tables", "application", "serve"]
