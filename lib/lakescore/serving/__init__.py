"""Serving: registered models live in a browser, seen and changed, on loopback alone.

The API's calls are those of `lakescore.registry`, so what the command line refuses is refused here,
and every move of an alias stands in the ledger.
"""

from lakescore.serving.api import application
from lakescore.serving.guarding import Guard
from lakescore.serving.running import serve

__all__ = ["Guard", "application", "serve"]
