"""The signature: the inputs and outputs of a model, checked against a table before scoring."""

from lakescore.signature.binding import Binding, bind_all, bind_assigned, bind_side_by_side
from lakescore.signature.contract import Contract, HasSchema, bind
from lakescore.signature.errors import (
    CaseDiffers,
    ColumnsCollide,
    ColumnsUnfit,
    FeaturesMiscounted,
    FeaturesNamed,
    FeaturesUnknown,
    OutputsCollide,
    OutputsDiffer,
    ThresholdUndefined,
    TypesDiffer,
)
from lakescore.signature.features import feature_names, features_of, lacks_names, width
from lakescore.signature.matching import FeatureRequired, Match, fitting_columns, match_columns
from lakescore.signature.naming import check_names, plain_name
from lakescore.signature.outputs import DECISION, PREDICTION, Decision
from lakescore.signature.querying import SCALARS, bind_query, is_scalar, refuse_query
from lakescore.signature.types import column_types, is_lossless

__all__ = [
    "DECISION",
    "PREDICTION",
    "SCALARS",
    "Binding",
    "CaseDiffers",
    "ColumnsCollide",
    "ColumnsUnfit",
    "Contract",
    "Decision",
    "FeatureRequired",
    "FeaturesMiscounted",
    "FeaturesNamed",
    "FeaturesUnknown",
    "HasSchema",
    "Match",
    "OutputsCollide",
    "OutputsDiffer",
    "ThresholdUndefined",
    "TypesDiffer",
    "bind",
    "bind_all",
    "bind_assigned",
    "bind_query",
    "bind_side_by_side",
    "check_names",
    "column_types",
    "feature_names",
    "features_of",
    "fitting_columns",
    "is_lossless",
    "is_scalar",
    "lacks_names",
    "match_columns",
    "plain_name",
    "refuse_query",
    "width",
]
