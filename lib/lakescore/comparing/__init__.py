"""Comparing: several versions on one holdout, every labelled row, honest about uncertainty.

`pin_candidates` pins the versions and `select` the rows. `compare` scores them side by side, tells
what the problem is (`infer`), puts labels beside predictions (`pair`), adds all rows up and ranks
(`evaluate`). `evaluate_gates` and `act_on_gates` hold a candidate against gates, and `document`
says all in JSON.
"""

from lakescore.comparing.candidates import Candidates, pin_candidates
from lakescore.comparing.comparison import Comparison, compare
from lakescore.comparing.document import document, lines
from lakescore.comparing.evaluating import Evaluation, evaluate, held
from lakescore.comparing.gates import GateResult, Threshold, act_on_gates, evaluate_gates
from lakescore.comparing.pairing import LABEL, Paired, Problem, check, infer, labelled, pair, select

__all__ = [
    "LABEL",
    "Candidates",
    "Comparison",
    "Evaluation",
    "GateResult",
    "Paired",
    "Problem",
    "Threshold",
    "act_on_gates",
    "check",
    "compare",
    "document",
    "evaluate",
    "evaluate_gates",
    "held",
    "infer",
    "labelled",
    "lines",
    "pair",
    "pin_candidates",
    "select",
]
