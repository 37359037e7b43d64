"""Terms: the value that each row adds to each sum of its version.

The module is pickled by value, as `gathering` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lakescore.comparing.batches import Array, Floats, Ints
from lakescore.comparing.binning import BINS_OF_CALIBRATION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore.comparing.gathering import Spec

Terms = dict[str, tuple[Floats, Ints | None]]
"""By name of a sum, the value that each row adds, and the part that it adds to (class or bin)."""


def terms_of(
    spec: Spec, classes: Sequence[str], label: Array, predicted: Array, weight: Floats
) -> Terms:
    """Return the values of rows by the names of their sums.

    Args:
        spec: the description of the sums.
        classes: the classes that the codes of labels and predictions stand for.
        label: the labels.
        predicted: the predictions.
        weight: the weights of the rows.
    """
    terms: Terms = {
        "n": (np.ones(len(weight)), None),
        "w": (weight, None),
        "ww": (weight * weight, None),
    }
    if spec.task == "regression":
        error, shifted = label - predicted, label - spec.shift
        size = np.abs(error)
        relative = size / np.maximum(np.abs(label), np.finfo(np.float64).eps)
        for name, values in (
            ("error", error), ("absolute", size), ("squared", error * error),
            ("relative", relative), ("label", shifted), ("label squared", shifted * shifted),
        ):  # fmt: skip
            terms[name] = (weight * values, None)
    else:
        decided = decide(spec, predicted)
        terms["support"] = (weight, label)
        terms["predicted"] = (weight, decided)
        terms["hits"] = (weight * (label == decided), label)
        if spec.task == "scores":
            terms |= _score_terms(spec, label, predicted, decided, weight)
    for name, function in spec.custom:
        names = np.array([*classes, ""], dtype=object)
        truth = label if spec.task == "regression" else names[label]
        prediction = names[predicted] if spec.task == "labels" else predicted
        values = np.asarray(function(truth, prediction), np.float64)
        flat = values.reshape(len(weight), -1)
        parts = np.tile(np.arange(flat.shape[1]), len(weight))
        terms[f"custom {name}"] = ((flat * weight[:, None]).reshape(-1), parts)
    return terms


def decide(spec: Spec, predicted: Array) -> Ints:
    """Return the predicted classes of labels or scores."""
    if spec.task == "labels":
        return predicted
    classes: Ints = (
        predicted.argmax(axis=1)
        if spec.threshold is None
        else (predicted[:, 1] >= spec.threshold).astype(np.int64)
    )
    return classes


def _score_terms(spec: Spec, label: Ints, scores: Floats, decided: Ints, weight: Floats) -> Terms:
    width = scores.shape[1]
    known = label < width
    true_score = np.where(known, scores[np.arange(len(label)), np.minimum(label, width - 1)], 0.0)
    epsilon = np.finfo(np.float64).eps
    one_hot = (np.arange(width) == label[:, None]).astype(np.float64)
    distance = ((one_hot - scores) ** 2).sum(axis=1) + ~known
    if len(spec.of_interest) == 1:  # binary: the score of the positive class
        (positive,) = spec.of_interest
        confidence, is_right = scores[:, positive], (label == positive).astype(np.float64)
    else:
        confidence, is_right = scores.max(axis=1), (label == decided).astype(np.float64)
    # As in sklearn.calibration.calibration_curve, an edge belongs to the bin below.
    inner = np.linspace(0.0, 1.0, BINS_OF_CALIBRATION + 1)[1:-1]
    bin_index = np.searchsorted(inner, confidence)
    return {
        "log loss": (-weight * np.log(np.clip(true_score, epsilon, 1.0 - epsilon)), None),
        "distance": (weight * distance, None),
        "bin weight": (weight, bin_index),
        "bin score": (weight * confidence, bin_index),
        "bin right": (weight * is_right, bin_index),
    }
