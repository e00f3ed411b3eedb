"""What became of a subscription after a cut-off and a gap."""

from __future__ import annotations

from datetime import date, timedelta

import pandas as pd

from ml.churn.parameters import ChurnParameters
from ml.frames import USAGE_COLUMNS


def labels_after(days: pd.DataFrame, cut_off: date, parameters: ChurnParameters) -> pd.Series:
    """1 = left during the label window or silent for the whole of it, 0 = stayed and used.

    The window is the `window_days` days after the gap. A subscription that left during the gap gets
    no label: a warning could not have reached it in time.

    Returns:
        Series indexed by subscription_id, of those valid on the cut-off and on the gap's last day.
    """
    gap_end = cut_off + timedelta(days=parameters.gap_days)
    window_end = gap_end + timedelta(days=parameters.window_days)

    def valid_on(day: date) -> pd.Index[str]:
        is_day = days["usage_date"] == pd.Timestamp(day)
        valid = days.loc[is_day].set_index("subscription_id")
        return valid.index

    candidates = valid_on(cut_off).intersection(valid_on(gap_end)).sort_values()
    window = days.loc[
        (days["usage_date"] > pd.Timestamp(gap_end))
        & (days["usage_date"] <= pd.Timestamp(window_end))
    ]
    used = window.loc[(window[list(USAGE_COLUMNS)] > 0).any(axis=1), "subscription_id"].unique()
    stayed = candidates.isin(valid_on(window_end)) & candidates.isin(used)
    return pd.Series((~stayed).astype(int), index=candidates, name="is_churned")
