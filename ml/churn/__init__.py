"""Churn warning (流失预警): who is likely to leave, or to fall silent, and why."""

from ml.churn.features import CATEGORICAL, NUMERIC, features_as_of
from ml.churn.labels import labels_after
from ml.churn.model import ChurnModel, build_pipeline, train
from ml.churn.parameters import ChurnParameters, CutOffs, plan_cut_offs

__all__ = [
    "CATEGORICAL",
    "NUMERIC",
    "ChurnModel",
    "ChurnParameters",
    "CutOffs",
    "build_pipeline",
    "features_as_of",
    "labels_after",
    "plan_cut_offs",
    "train",
]
