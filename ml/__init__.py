"""Scores for every subscription: churn warning (流失预警) and customer value (客户价值).

Both read the public marts only (``dm.subscription_day``, ``dm.subscription_month``) and write
``raw.customer_score``, from where the scores travel to the marts and back to the CRM.
"""

from ml.scoring import (
    MODEL_VERSION,
    SCORE_COLUMNS,
    ScoreError,
    ScoreResult,
    create_raw_table,
    score,
)

__all__ = [
    "MODEL_VERSION",
    "SCORE_COLUMNS",
    "ScoreError",
    "ScoreResult",
    "create_raw_table",
    "score",
]
