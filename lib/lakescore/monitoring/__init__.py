"""Monitoring: the slices that were scored, compared with a baseline.

`units` finds what score jobs published, and which input they read. `reading` and `profiles` count
the rows of columns in bins; only counts leave the workers. `measuring` says how far the counts are
from those of the baseline, `chance` what chance explains, and `judging` which columns alarm.
`tracing` writes the tables, and `gating` checks the conditions of the job's file. `labels` matches
predictions with the labels that have arrived, and `realised` and `quality` evaluate them.
"""

from lakescore.monitoring.document import document
from lakescore.monitoring.gating import alarm_text, evaluate_gates, require_passed
from lakescore.monitoring.quality import Evaluated
from lakescore.monitoring.realised import rank_metric
from lakescore.monitoring.run import Judgement, Monitoring, slice_facts

__all__ = [
    "Evaluated",
    "Judgement",
    "Monitoring",
    "alarm_text",
    "document",
    "evaluate_gates",
    "rank_metric",
    "require_passed",
    "slice_facts",
]
