"""Prints documents: HTML, and PDF typeset with Typst."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import typst
from jinja2 import Environment
from markupsafe import Markup
from pylopdf_fonts_zh_cn import sans_path

from operational.templating import environment, page_words

_TEMPLATES = Path(__file__).parent / "documents"

# What a bill or a note is written as, and its type of content.
FORMATS = {
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "ubl": "application/xml",
}


def as_html(template: str, language: str, timezone: str, **values: Any) -> bytes:
    """A page to keep or print, with its style in it."""
    sheet = (_TEMPLATES / "document.css").read_text(encoding="utf-8")
    style = Markup(sheet)  # noqa: S704 - our own file
    words = page_words(language, timezone)
    return _jinja().get_template(template).render(**words, style=style, **values).encode()


@cache
def _jinja() -> Environment:
    return environment()


def as_pdf(template: str, words: dict[str, Any], issued_on: date) -> bytes:
    """A document typeset with the fonts of a package, the same bytes on every machine."""
    content = typst.compile(
        str(_TEMPLATES / template), font_paths=[str(sans_path().parent)], ignore_system_fonts=True,
        sys_inputs={"words": json.dumps(words, ensure_ascii=False)},
        timestamp=datetime(issued_on.year, issued_on.month, issued_on.day, tzinfo=UTC),
    )  # fmt: skip
    return bytes(content)


def yuan(amount: Decimal) -> str:
    """An amount with two digits."""
    return f"{amount:,.2f}"


def percent(rate: Decimal | None) -> str:
    """A rate; nothing where there is none."""
    return "" if rate is None else f"{rate.normalize():f}%"


def tax_text(amount: Decimal | None) -> str:
    """An amount of tax; nothing where none is told."""
    return "" if amount is None else yuan(amount)
