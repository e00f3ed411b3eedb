"""Model cards, filled from the metrics of the run that wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_ROOM = Path(__file__).parent

FALLBACK_REASONS = {
    "history_too_short": (
        "历史天数不足以划分训练期与评估期",
        "too few days of history for a training and an evaluation period",
    ),
    "too_few_to_learn": ("训练期流失样本过少", "too few churned (or staying) rows to learn from"),
    "too_few_to_judge": ("评估期流失样本过少", "too few churned (or staying) rows to judge by"),
    "ranks_no_better": (
        "模型在较晚数据上的排序能力不足",
        "the model does not rank later data well enough",
    ),
}


def render(part: str, metrics: Mapping[str, Any]) -> str:
    """The card of ``churn`` or ``value`` as Markdown, Chinese first, then English."""
    environment = Environment(  # noqa: S701 - Markdown from our own numbers, not HTML
        loader=FileSystemLoader(_ROOM),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = _number
    template = environment.get_template(f"{part}/model_card.md.jinja")
    return template.render(m=metrics, fallback_reasons=FALLBACK_REASONS)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
