"""How good churn probabilities are: ranking, calibration, and what acting on them would cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from ml.churn.parameters import ChurnParameters


def evaluate(
    labels: npt.NDArray[Any],
    probabilities: npt.NDArray[Any],
    *,
    base_rate: float,
    still_active: npt.NDArray[np.bool_],
    parameters: ChurnParameters,
) -> dict[str, Any]:
    """Metrics of probabilities against what happened.

    Args:
        labels: 1 = churned; both classes must occur.
        probabilities: of churn, by row.
        base_rate: the rate a forecaster without any features would give.
        still_active: rows not yet silent at the cut-off; ranking is also given for them alone, as
            who has been silent for a week is easily foretold to stay so.
        parameters: cost of a contact and of a loss.
    """
    constant = np.full(len(labels), base_rate)
    active_labels = labels[still_active]
    has_both = 0 < active_labels.sum() < len(active_labels)
    return {
        "auc": float(roc_auc_score(labels, probabilities)),
        "auc_still_active": (
            float(roc_auc_score(active_labels, probabilities[still_active])) if has_both else None
        ),
        "pr_auc": float(average_precision_score(labels, probabilities)),
        "observed_rate": float(labels.mean()),
        "mean_probability": float(probabilities.mean()),
        "brier": float(brier_score_loss(labels, probabilities)),
        "brier_base_rate": float(brier_score_loss(labels, constant)),
        "log_loss": float(log_loss(labels, probabilities, labels=[0, 1])),
        "log_loss_base_rate": float(log_loss(labels, constant, labels=[0, 1])),
        "lift_top_decile": _lift_top_decile(labels, probabilities),
        "calibration": _calibration(labels, probabilities),
        "threshold": _cost(labels, probabilities, parameters),
    }


def _lift_top_decile(labels: npt.NDArray[Any], probabilities: npt.NDArray[Any]) -> float:
    count = max(1, len(labels) // 10)
    top = np.argsort(-probabilities, kind="stable")[:count]
    return float(labels[top].mean() / labels.mean())


def _calibration(
    labels: npt.NDArray[Any], probabilities: npt.NDArray[Any], bins: int = 5
) -> list[dict[str, float]]:
    """Predicted against observed rate in equally large groups, from low to high."""
    order = np.argsort(probabilities, kind="stable")
    return [
        {
            "rows": len(part),
            "predicted": float(probabilities[part].mean()),
            "observed": float(labels[part].mean()),
        }
        for part in np.array_split(order, bins)
        if len(part)
    ]


def _cost(
    labels: npt.NDArray[Any], probabilities: npt.NDArray[Any], parameters: ChurnParameters
) -> dict[str, float]:
    """Yuan per 1,000 subscriptions when contacting above the threshold, nobody, or everybody."""
    contact = float(parameters.contact_cost)
    success = float(parameters.contact_success)
    loss = float(parameters.loss)

    def per_thousand(is_contacted: npt.NDArray[np.bool_]) -> float:
        lost = loss * (labels.sum() - success * labels[is_contacted].sum())
        return float((lost + contact * is_contacted.sum()) * 1000 / len(labels))

    chosen = probabilities >= parameters.threshold
    hits = float(labels[chosen].sum())
    return {
        "probability": parameters.threshold,
        "contacted_share": float(chosen.mean()),
        "precision": hits / float(chosen.sum()) if chosen.any() else 0.0,
        "recall": hits / float(labels.sum()),
        "cost_at_threshold": per_thousand(chosen),
        "cost_contact_nobody": per_thousand(np.zeros(len(labels), dtype=bool)),
        "cost_contact_everybody": per_thousand(np.ones(len(labels), dtype=bool)),
    }
