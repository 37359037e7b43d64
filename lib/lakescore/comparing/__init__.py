"""Comparing: several versions on one holdout, every labelled row, honest about uncertainty.

`enter` pins the versions and `select` the rows. `compare` scores them side by side, tells what the
problem is (`infer`), puts labels beside predictions (`pair`), adds all rows up and ranks
(`evaluate`). `hold` and `settle` hold a candidate against gates, and `document` says all in JSON.
"""

from lakescore.comparing.comparison import Comparison, compare
from lakescore.comparing.document import document, lines
from lakescore.comparing.entrants import Entrants, enter
from lakescore.comparing.evaluating import Evaluation, evaluate, held
from lakescore.comparing.gates import Threshold, Verdict, hold, settle
from lakescore.comparing.pairing import LABEL, Paired, Problem, check, infer, labelled, pair, select

__all__ = [
    "LABEL",
    "Comparison",
    "Entrants",
    "Evaluation",
    "Paired",
    "Problem",
    "Threshold",
    "Verdict",
    "check",
    "compare",
    "document",
    "enter",
    "evaluate",
    "held",
    "hold",
    "infer",
    "labelled",
    "lines",
    "pair",
    "select",
    "settle",
]
