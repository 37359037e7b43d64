"""A job as a command, and several jobs of one command."""

from lakescore.job.command import main
from lakescore.job.stopping import TimedOut

__all__ = ["TimedOut", "main"]
