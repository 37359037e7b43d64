"""Comparing: several versions on one holdout, on every labelled row, with their uncertainty.

`pin_candidates` pins the versions and `select` selects the rows. `compare` scores the versions side
by side, infers the problem (`infer`), puts labels beside predictions (`pair`), adds up all rows and
ranks the versions (`evaluate`). `evaluate_gates` and `act_on_gates` check a candidate against
gates. `decide` answers whether a version should replace the baseline. `document` returns the whole
comparison as JSON.
"""

from lakescore.comparing.candidates import Candidates, pin_candidates
from lakescore.comparing.comparison import Comparison, compare
from lakescore.comparing.deciding import Decision, decide
from lakescore.comparing.document import document, lines
from lakescore.comparing.evaluating import Evaluation, cached, evaluate
from lakescore.comparing.gates import GateResult, act_on_gates, evaluate_gates
from lakescore.comparing.holdout import LABEL, check, labelled, select
from lakescore.comparing.pairing import Paired, pair
from lakescore.comparing.problem import Problem, infer

__all__ = [
    "LABEL",
    "Candidates",
    "Comparison",
    "Decision",
    "Evaluation",
    "GateResult",
    "Paired",
    "Problem",
    "act_on_gates",
    "cached",
    "check",
    "compare",
    "decide",
    "document",
    "evaluate",
    "evaluate_gates",
    "infer",
    "labelled",
    "lines",
    "pair",
    "pin_candidates",
    "select",
]
