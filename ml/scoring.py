"""The scoring run: marts in, one row per active subscription in ``raw.customer_score`` out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ml import cards
from ml.churn import ChurnModel, ChurnParameters, CutOffs, features_as_of, plan_cut_offs, train
from ml.churn.reasons import explain
from ml.frames import MissingMartError, SubscriptionFrames, load_frames
from ml.value import (
    PeerGroup,
    ValueParameters,
    monthly_margins,
    peer_groups,
    segment,
    value_at_risk,
    value_of,
)
from tollhouse.settings import Settings
from tollhouse.warehouse import Warehouse, open_warehouse

MODEL_VERSION = "churn-1.0+value-1.0"
TABLE = "raw.customer_score"
SCORE_COLUMNS: dict[str, str] = {
    "subscription_id": "varchar",
    "churn_probability": "double",
    "churn_decile": "integer",
    "churn_reasons": "varchar",
    "value_amount": "decimal(18,2)",
    "value_segment": "varchar",
    "value_at_risk_amount": "decimal(18,2)",
    "model_version": "varchar",
    "data_cut_off": "date",
    "run_id": "varchar",
    "_loaded_at": "timestamp",
}
PROBABILITY_QUANTUM = Decimal("0.000001")

_ARROW_SCHEMA = pa.schema(
    [
        ("subscription_id", pa.string()),
        ("churn_probability", pa.float64()),
        ("churn_decile", pa.int32()),
        ("churn_reasons", pa.string()),
        ("value_amount", pa.decimal128(18, 2)),
        ("value_segment", pa.string()),
        ("value_at_risk_amount", pa.decimal128(18, 2)),
        ("model_version", pa.string()),
        ("data_cut_off", pa.date32()),
        ("run_id", pa.string()),
        ("_loaded_at", pa.timestamp("us")),
    ]
)


WAIT_S = 600.0


class ScoreError(RuntimeError):
    """Scoring could not be done; the message says what to do first."""


@dataclass(frozen=True)
class ScoreResult:
    """What a scoring run did.

    `mode` is ``model``, or ``base_rate`` where the data did not suffice (`fallback_reason`).
    """

    run_id: str
    model_version: str
    data_cut_off: date
    scored: int
    mode: str
    fallback_reason: str | None
    metrics: Mapping[str, Any]
    folder: Path


def create_raw_table(warehouse: Warehouse) -> None:
    """Make ``raw.customer_score`` if it is not there."""
    warehouse.create_table(TABLE, SCORE_COLUMNS)


def score(settings: Settings, *, run_id: str | None = None, wait_s: float = WAIT_S) -> ScoreResult:
    """Train, evaluate and score every subscription active at the end of the cycle.

    Rows of the same data cut-off are replaced in one transaction. The run id follows from the
    cut-off, the model version and the data, so that the same marts give the same rows (but for
    ``_loaded_at``). Metrics and model cards go to ``home/ml/churn`` and ``home/ml/value``.

    Args:
        settings: says where the warehouse is and which cycle is scored.
        run_id: replaces the derived run id.
        wait_s: how long to wait for another writer of the warehouse to end, in seconds.

    Raises:
        ScoreError: the marts are absent or empty.
        WarehouseBusyError: another process writes.
    """
    churn_parameters, value_parameters = ChurnParameters(), ValueParameters()
    with open_warehouse(settings, "score", wait_s) as warehouse:
        create_raw_table(warehouse)
        try:
            frames = load_frames(warehouse, settings.cycle)
        except MissingMartError as error:
            raise ScoreError(str(error)) from error
        cut_offs = plan_cut_offs(frames.first_day, frames.as_of, churn_parameters)
        model = train(frames.days, frames.months, cut_offs, churn_parameters)
        scores, groups = score_frames(frames, cut_offs, model, churn_parameters, value_parameters)
        run = run_id or f"score-{frames.as_of:%Y%m%d}-{MODEL_VERSION}-{frames.fingerprint}"
        loaded_at = datetime.now(UTC).replace(tzinfo=None)
        stamped = [
            {
                **row,
                "model_version": MODEL_VERSION,
                "data_cut_off": frames.as_of,
                "run_id": run,
                "_loaded_at": loaded_at,
            }
            for row in scores
        ]
        with warehouse.transaction():
            warehouse.execute(f"delete from {TABLE} where data_cut_off = ?", [frames.as_of])  # noqa: S608 - our own name
            warehouse.append(TABLE, pa.Table.from_pylist(stamped, _ARROW_SCHEMA))
    metrics = _metrics(
        settings=settings,
        run=run,
        frames=frames,
        cut_offs=cut_offs,
        model=model,
        scores=scores,
        groups=groups,
        churn_parameters=churn_parameters,
        value_parameters=value_parameters,
    )
    folder = settings.home / "ml"
    for part in ("churn", "value"):
        target = folder / part
        target.mkdir(parents=True, exist_ok=True)
        (target / "metrics.json").write_text(
            json.dumps(metrics[part], ensure_ascii=False, indent=2, sort_keys=True) + "\n",
            encoding="utf-8",
        )
        (target / "model_card.md").write_text(cards.render(part, metrics[part]), encoding="utf-8")
    return ScoreResult(
        run_id=run,
        model_version=MODEL_VERSION,
        data_cut_off=frames.as_of,
        scored=len(scores),
        mode=model.mode,
        fallback_reason=model.fallback_reason,
        metrics=metrics,
        folder=folder,
    )


def score_frames(
    frames: SubscriptionFrames,
    cut_offs: CutOffs,
    model: ChurnModel,
    churn_parameters: ChurnParameters,
    value_parameters: ValueParameters,
) -> tuple[list[dict[str, Any]], dict[str, PeerGroup]]:
    """Scores of every subscription valid on the last day, by subscription_id, and the peer groups.

    Decile 1 holds the highest churn probabilities; equal probabilities share a decile.
    """
    features = features_as_of(
        frames.days, frames.months, frames.as_of,
        lookback_days=cut_offs.lookback_days, recent_days=churn_parameters.recent_days,
    )  # fmt: skip
    probabilities = [
        Decimal(repr(float(value))).quantize(PROBABILITY_QUANTUM, ROUND_HALF_UP)
        for value in model.probabilities(features)
    ]
    reasons = explain(
        model, features,
        lookback_days=cut_offs.lookback_days, recent_days=churn_parameters.recent_days,
    )  # fmt: skip
    subscription_ids = [str(key) for key in features.index]
    in_use = (features["days_silent"] < churn_parameters.recent_days).to_numpy()
    groups = peer_groups(
        dict(zip(subscription_ids, features["offering_id"], strict=True)),
        {
            key: probability
            for key, probability, used in zip(subscription_ids, probabilities, in_use, strict=True)
            if used
        },
        churn_parameters.window_days,
        value_parameters,
    )
    margins = monthly_margins(frames.months)
    rows = []
    for key, probability, decile, why, plan in zip(
        subscription_ids, probabilities, _deciles(probabilities), reasons,
        features["offering_id"], strict=True,
    ):  # fmt: skip
        value = value_of(margins.get(key, Decimal(0)), groups[plan])
        rows.append(
            {
                "subscription_id": key,
                "churn_probability": float(probability),
                "churn_decile": decile,
                "churn_reasons": json.dumps(why, ensure_ascii=False),
                "value_amount": value,
                "value_segment": segment(value, value_parameters),
                "value_at_risk_amount": value_at_risk(probability, value),
            }
        )
    return rows, groups


def _deciles(probabilities: list[Decimal]) -> list[int]:
    """1 (highest probability) to 10, by mean rank: equal probabilities share a decile."""
    if not probabilities:
        return []
    ranks = pd.Series([-float(value) for value in probabilities]).rank(method="average")
    return [int(decile) for decile in np.ceil((ranks - 0.5) / len(probabilities) * 10)]


def _metrics(
    *,
    settings: Settings,
    run: str,
    frames: SubscriptionFrames,
    cut_offs: CutOffs,
    model: ChurnModel,
    scores: list[dict[str, Any]],
    groups: Mapping[str, PeerGroup],
    churn_parameters: ChurnParameters,
    value_parameters: ValueParameters,
) -> dict[str, dict[str, Any]]:
    """The numbers of both model cards, JSON-ready."""
    shared = {
        "run_id": run,
        "model_version": MODEL_VERSION,
        "cycle": settings.cycle,
        "data_cut_off": frames.as_of.isoformat(),
        "first_day_of_data": frames.first_day.isoformat(),
        "data_fingerprint": frames.fingerprint,
        "scored": len(scores),
    }
    probabilities = [row["churn_probability"] for row in scores]
    churn = {
        **shared,
        "mode": model.mode,
        "fallback_reason": model.fallback_reason,
        "base_rate": model.base_rate,
        "parameters": {**asdict(churn_parameters), "threshold": churn_parameters.threshold},
        "cut_offs": asdict(cut_offs),
        "mean_probability": float(np.mean(probabilities)) if probabilities else None,
        "above_threshold": sum(value >= churn_parameters.threshold for value in probabilities),
        "training": model.metrics,
    }
    value = {
        **shared,
        "churn_mode": model.mode,
        "parameters": asdict(value_parameters),
        "churn_window_days": churn_parameters.window_days,
        "segments": {
            name: {
                "subscriptions": sum(row["value_segment"] == name for row in scores),
                "value_amount": sum(
                    (row["value_amount"] for row in scores if row["value_segment"] == name),
                    Decimal(0),
                ),
            }
            for name in ("high", "medium", "low")
        },
        "value_amount": sum((row["value_amount"] for row in scores), Decimal(0)),
        "value_at_risk_amount": sum((row["value_at_risk_amount"] for row in scores), Decimal(0)),
        "negative_values": sum(row["value_amount"] < 0 for row in scores),
        "peer_groups": {plan: asdict(group) for plan, group in groups.items()},
    }
    return {"churn": _plain(churn), "value": _plain(value)}


def _plain(value: Any) -> Any:
    """Decimals and dates as text, floats rounded to six digits: stable in JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal | date):
        return str(value)
    if isinstance(value, float):
        return round(value, 6)
    return value
