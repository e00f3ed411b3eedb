"""The words of the web module in Chinese and English: one catalogue, messages.yaml."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import yaml

LANGUAGES = ("zh", "en")
DEFAULT_LANGUAGE = "zh"
MESSAGES = Path(__file__).with_name("messages.yaml")

Translate = Callable[..., str]


class MissingMessageError(KeyError):
    """A message is not in the catalogue; add it to messages.yaml in both languages."""


@cache
def messages() -> dict[str, dict[str, str]]:
    """Key → language → text. Keys are the path in the file, joined with dots."""
    flat: dict[str, dict[str, str]] = {}

    def walk(prefix: str, node: dict[str, object]) -> None:
        for key, value in node.items():
            name = f"{prefix}{key}"
            if isinstance(value, list):
                flat[name] = dict(zip(LANGUAGES, map(str, value), strict=True))
            elif isinstance(value, dict):
                walk(f"{name}.", value)
            else:
                raise TypeError(f"messages.yaml, {name}: write [Chinese, English]")

    walk("", yaml.safe_load(MESSAGES.read_text(encoding="utf-8")))
    return flat


def translator(language: str) -> Translate:
    """A function from message key (and values for its {places}) to text in the language."""
    chosen = language if language in LANGUAGES else DEFAULT_LANGUAGE

    def translate(key: str, **values: object) -> str:
        try:
            text = messages()[key][chosen]
        except KeyError:
            raise MissingMessageError(key) from None
        return text.format(**values) if values else text

    return translate


def has_message(key: str) -> bool:
    """Whether a message is in the catalogue."""
    return key in messages()


def field_label(translate: Translate, name: str) -> str:
    """What pages call a field; one without a label goes by its name."""
    return translate(f"field.{name}") if has_message(f"field.{name}") else name
