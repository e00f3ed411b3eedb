"""Training: one Pipeline per candidate, calibrated, judged and chosen on later data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ml.churn.evaluation import evaluate
from ml.churn.features import CATEGORICAL, MONOTONE, NUMERIC, features_as_of
from ml.churn.labels import labels_after
from ml.churn.parameters import ChurnParameters, CutOffs

CANDIDATES = ("boosting", "logistic")
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ChurnModel:
    """A churn model ready to score, with what is known about its quality.

    `mode` is ``model`` (calibrated classifier in `classifier`) or ``base_rate`` (everybody gets
    `base_rate`; `fallback_reason` says why). `metrics` are the numbers of the model card.
    """

    mode: str
    classifier: Any
    base_rate: float
    fallback_reason: str | None
    metrics: dict[str, Any]

    def probabilities(self, features: pd.DataFrame) -> Probabilities:
        """Probability of leaving or falling silent in the window after the gap, by row."""
        if self.mode == "base_rate":
            return np.full(len(features), self.base_rate)
        with threadpool_limits(limits=1):
            return np.asarray(self.classifier.predict_proba(features)[:, 1], dtype=np.float64)


@dataclass(frozen=True)
class LabelledFrame:
    """Features and labels of one or more cut-offs; `groups` names the subscription of each row."""

    features: pd.DataFrame
    labels: pd.Series
    groups: npt.NDArray[Any]


def build_pipeline(
    candidate: str,
    numeric: Sequence[str],
    categorical: Sequence[str],
    *,
    monotone: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Pipeline:
    """An unfitted Pipeline, preprocessing inside.

    ``boosting`` is histogram gradient boosting (missing values and categories as they are, the
    features of `monotone` bound to rise (1) or fall (-1));
    ``logistic`` the baseline: median for what is missing, standard scale, one-hot.
    """
    if candidate == "boosting":
        prepare = ColumnTransformer(
            [
                ("numeric", "passthrough", list(numeric)),
                (
                    "categorical",
                    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
                    list(categorical),
                ),
            ]
        )
        is_categorical = [False] * len(numeric) + [True] * len(categorical)
        classifier = HistGradientBoostingClassifier(
            learning_rate=0.06, max_iter=100, max_leaf_nodes=8, min_samples_leaf=30,
            l2_regularization=5.0, early_stopping=False, categorical_features=is_categorical,
            monotonic_cst=[(monotone or {}).get(name, 0) for name in (*numeric, *categorical)],
            random_state=seed,
        )  # fmt: skip
    elif candidate == "logistic":
        prepare = ColumnTransformer(
            [
                (
                    "numeric",
                    make_pipeline(
                        SimpleImputer(strategy="median", keep_empty_features=True),
                        StandardScaler(),
                    ),
                    list(numeric),
                ),
                ("categorical", OneHotEncoder(handle_unknown="ignore"), list(categorical)),
            ]
        )
        classifier = LogisticRegression(C=0.1, max_iter=2000)
    else:
        raise ValueError(f"no candidate '{candidate}': use one of {', '.join(CANDIDATES)}")
    return Pipeline([("prepare", prepare), ("classify", classifier)])


def labelled_frame(
    days: pd.DataFrame,
    months: pd.DataFrame,
    cut_offs: Sequence[Any],
    lookback_days: int,
    parameters: ChurnParameters,
) -> LabelledFrame:
    """Features and labels of the given cut-offs, one below the other."""
    features, labels = [], []
    for cut_off in cut_offs:
        label = labels_after(days, cut_off, parameters)
        frame = features_as_of(
            days, months, cut_off,
            lookback_days=lookback_days, recent_days=parameters.recent_days,
        )  # fmt: skip
        features.append(frame.loc[label.index])
        labels.append(label)
    stacked = pd.concat(features)
    groups = stacked.index.to_numpy()
    return LabelledFrame(
        stacked.reset_index(drop=True), pd.concat(labels).reset_index(drop=True), groups
    )


def train(
    days: pd.DataFrame, months: pd.DataFrame, cut_offs: CutOffs, parameters: ChurnParameters
) -> ChurnModel:
    """Train on the training cut-offs, judge on the later evaluation cut-off, refit on both.

    Falls back to the base rate, and says so, where the history is too short, where either class is
    too small to learn or to judge from, or where the model does not rank later data.
    """
    if cut_offs.evaluation is None:
        return _base_rate_model(None, "history_too_short", {}, parameters)
    evaluation = labelled_frame(
        days, months, [cut_offs.evaluation], cut_offs.lookback_days, parameters
    )
    if not cut_offs.training:
        return _base_rate_model(evaluation.labels, "history_too_short", {}, parameters)
    training = labelled_frame(days, months, cut_offs.training, cut_offs.lookback_days, parameters)
    everything = LabelledFrame(
        pd.concat([training.features, evaluation.features], ignore_index=True),
        pd.concat([training.labels, evaluation.labels], ignore_index=True),
        np.concatenate([training.groups, evaluation.groups]),
    )
    if _smaller_class(training) < parameters.fewest_positives:
        return _base_rate_model(everything.labels, "too_few_to_learn", {}, parameters)
    if _smaller_class(evaluation) < parameters.fewest_evaluation_positives:
        return _base_rate_model(everything.labels, "too_few_to_judge", {}, parameters)

    with threadpool_limits(limits=1):  # so that the same data give the same bits everywhere
        metrics: dict[str, Any] = {
            "training_rate": float(training.labels.mean()),
            "rows": {"training": len(training.labels), "evaluation": len(evaluation.labels)},
            "positives": {
                "training": int(training.labels.sum()),
                "evaluation": int(evaluation.labels.sum()),
            },
            "churned_subscriptions": {
                "training": _distinct(training, 1),
                "evaluation": _distinct(evaluation, 1),
            },
            "evaluation": {},
        }
        for name in CANDIDATES:
            fitted = _calibrated(name, training, parameters)
            metrics["evaluation"][name] = evaluate(
                evaluation.labels.to_numpy(),
                fitted.predict_proba(evaluation.features)[:, 1],
                base_rate=metrics["training_rate"],
                still_active=(
                    evaluation.features["days_silent"] < parameters.recent_days
                ).to_numpy(),
                parameters=parameters,
            )
        chosen = min(CANDIDATES, key=lambda name: metrics["evaluation"][name]["log_loss"])
        metrics["chosen"] = chosen
        if metrics["evaluation"][chosen]["auc"] < parameters.least_auc:
            return _base_rate_model(everything.labels, "ranks_no_better", metrics, parameters)
        classifier = _calibrated(chosen, everything, parameters)
    return ChurnModel("model", classifier, _base_rate(everything.labels, parameters), None, metrics)


def _calibrated(candidate: str, frame: LabelledFrame, parameters: ChurnParameters) -> Any:
    """The candidate fitted to all rows; a sigmoid fitted to its out-of-fold scores on top."""
    classifier = CalibratedClassifierCV(
        build_pipeline(
            candidate, NUMERIC, CATEGORICAL, monotone=MONOTONE, seed=parameters.seed
        ),
        method="sigmoid", cv=_folds(frame, parameters), ensemble=False,
    )  # fmt: skip
    return classifier.fit(frame.features, frame.labels)


def _folds(frame: LabelledFrame, parameters: ChurnParameters) -> list[tuple[Any, Any]]:
    """Folds in which a subscription's rows of several cut-offs stay together."""
    splitter = StratifiedGroupKFold(parameters.folds, shuffle=True, random_state=parameters.seed)
    return list(splitter.split(frame.features, frame.labels, frame.groups))


def _base_rate_model(
    labels: pd.Series | None, reason: str, metrics: dict[str, Any], parameters: ChurnParameters
) -> ChurnModel:
    rows = 0 if labels is None else len(labels)
    positives = 0 if labels is None else int(labels.sum())
    counts = {"labelled_rows": rows, "labelled_positives": positives}
    return ChurnModel(
        "base_rate", None, _base_rate(labels, parameters), reason, {**metrics, **counts}
    )


def _base_rate(labels: pd.Series | None, parameters: ChurnParameters) -> float:
    rows = 0 if labels is None else len(labels)
    positives = 0.0 if labels is None else float(labels.sum())
    weight = parameters.prior_weight
    return (positives + parameters.prior_rate * weight) / (rows + weight)


def _smaller_class(frame: LabelledFrame) -> int:
    """Subscriptions in the smaller class; label windows overlap, so rows would count some twice."""
    return min(_distinct(frame, label) for label in (0, 1))


def _distinct(frame: LabelledFrame, label: int) -> int:
    return len(set(frame.groups[(frame.labels == label).to_numpy()]))
