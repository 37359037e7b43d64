"""A job as a command, several jobs of one command, and the run that a caller in Python asks for."""

from lakescore.job.command import main
from lakescore.job.running import explain, perform, record, warn_without_policy
from lakescore.job.stopping import TimedOut

__all__ = ["TimedOut", "explain", "main", "perform", "record", "warn_without_policy"]
