"""What the churn warning means in days and yuan, and which days it learns from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal


@dataclass(frozen=True)
class ChurnParameters:
    """Every choice of the churn warning; the model card prints them."""

    gap_days: int = 3
    """Days between the cut-off and the label window: the time a retention desk needs to act."""
    window_days: int = 7
    """Days of the label window: churned = left in it, or silent for all of it."""
    recent_days: int = 4
    """The 'recent' part of the look-back; the rest is 'earlier'."""
    longest_lookback_days: int = 28
    shortest_lookback_days: int = 7
    most_training_cut_offs: int = 4
    short_step_days: int = 2
    """Days between training cut-offs while the history is short; a label window apart later."""
    fewest_positives: int = 15
    """Fewer churned (or staying) subscriptions to learn from than this: base rate instead."""
    fewest_evaluation_positives: int = 5
    """Fewer of either class at the evaluation cut-off: quality unknown, base rate instead."""
    least_auc: float = 0.55
    """A model that ranks later data worse than this is not used."""
    prior_rate: float = 0.01
    prior_weight: float = 50.0
    """The base rate is shrunk to `prior_rate` as if that many subscriptions had shown it."""
    folds: int = 5
    seed: int = 20261001
    contact_cost: Decimal = Decimal("10")
    """Yuan one retention contact costs."""
    contact_success: Decimal = Decimal("0.25")
    """Share of those about to leave whom a contact keeps."""
    loss: Decimal = Decimal("400")
    """Yuan of margin lost when a subscription leaves."""

    @property
    def horizon_days(self) -> int:
        """Days after a cut-off until its labels are complete."""
        return self.gap_days + self.window_days

    @property
    def threshold(self) -> float:
        """Probability from which a contact pays: cost / (success x loss)."""
        return float(self.contact_cost / (self.contact_success * self.loss))


@dataclass(frozen=True)
class CutOffs:
    """The days features are taken at, earliest last needed first.

    `training` is empty, or `evaluation` None, where the history is too short for them.
    """

    as_of: date
    evaluation: date | None
    training: tuple[date, ...]
    lookback_days: int


def plan_cut_offs(first_day: date, as_of: date, parameters: ChurnParameters) -> CutOffs:
    """Choose cut-offs so that no label is younger than the features that are judged by it.

    The evaluation cut-off is the latest whose labels are complete at `as_of`; training cut-offs
    have labels complete at the evaluation cut-off. All use the same look-back, so that the
    features mean the same in training, evaluation and scoring.
    """

    def days_until(cut_off: date) -> int:
        return (cut_off - first_day).days + 1

    horizon = timedelta(days=parameters.horizon_days)
    evaluation = as_of - horizon
    latest = evaluation - horizon
    if days_until(latest) < parameters.shortest_lookback_days:
        labelled = days_until(evaluation) >= 1
        return CutOffs(
            as_of,
            evaluation if labelled else None,
            (),
            max(1, min(parameters.longest_lookback_days, days_until(evaluation))),
        )
    step_days = parameters.short_step_days
    if days_until(latest) - parameters.window_days >= parameters.longest_lookback_days:
        step_days = parameters.window_days
    # Room for a second cut-off is worth more than the last days of the look-back.
    room = max(parameters.shortest_lookback_days, days_until(latest) - step_days)
    lookback = min(parameters.longest_lookback_days, room)
    steps = (
        latest - timedelta(days=step_days * step)
        for step in range(parameters.most_training_cut_offs)
    )
    training = tuple(day for day in steps if days_until(day) >= lookback)
    return CutOffs(as_of, evaluation, training, lookback)
