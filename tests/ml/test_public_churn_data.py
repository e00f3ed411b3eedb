"""The churn Pipelines on public data sets, against figures measured elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from ml.churn import build_pipeline
from tollhouse.settings import PROJECT_ROOT

FOLDER = PROJECT_ROOT.parent / "shared" / "data" / "churn"
TOLERANCE = 0.015  # AUC: other folds, other preprocessing, no tuning


@dataclass(frozen=True)
class PublicSet:
    file: str
    label: str
    positive: object
    categorical: tuple[str, ...]
    dropped: tuple[str, ...]
    boosting_floor: float
    logistic_floor: float


# The floors are five-fold AUCs of a small LightGBM and of plain logistic regression.
SETS = (
    PublicSet(
        "ibm_telco.csv", "Churn", "Yes",
        (
            "gender", "Partner", "Dependents", "PhoneService", "MultipleLines", "InternetService",
            "OnlineSecurity", "OnlineBackup", "DeviceProtection", "TechSupport", "StreamingTV",
            "StreamingMovies", "Contract", "PaperlessBilling", "PaymentMethod",
        ),
        ("customerID",), 0.846, 0.844,
    ),
    PublicSet(
        "bigml_3333.csv", "churn", "True",
        ("international plan", "voice mail plan"), ("state", "area code", "phone number"),
        0.915, 0.804,
    ),
    PublicSet("iranian_3150.csv", "Churn", "1", ("Tariff Plan", "Status"), (), 0.986, 0.929),
)  # fmt: skip


@pytest.mark.parametrize("candidate", ["boosting", "logistic"])
@pytest.mark.parametrize("public", SETS, ids=lambda public: public.file)
def test_pipeline_ranks_public_churn_as_well_as_the_reference(
    public: PublicSet, candidate: str
) -> None:
    path = FOLDER / public.file
    if not path.exists():
        pytest.skip(f"the public churn file {public.file} is not beside the project")
    rows = pd.read_csv(path, dtype=str)
    rows.columns = [" ".join(name.split()) for name in rows.columns]
    labels = (rows.pop(public.label).str.strip() == public.positive).astype(int)
    rows = rows.drop(columns=list(public.dropped))
    numeric = [name for name in rows.columns if name not in public.categorical]
    for name in numeric:
        rows[name] = pd.to_numeric(rows[name], errors="coerce")

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    with threadpool_limits(limits=1):  # as in training; threads only wait on a busy machine
        scores = cross_val_predict(
            build_pipeline(candidate, numeric, public.categorical),
            rows, labels, cv=folds, method="predict_proba",
        )[:, 1]  # fmt: skip

    floor = public.boosting_floor if candidate == "boosting" else public.logistic_floor
    auc = np.mean(
        [roc_auc_score(labels.iloc[part], scores[part]) for _, part in folds.split(rows, labels)]
    )
    assert auc >= floor - TOLERANCE
