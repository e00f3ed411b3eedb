"""Renders pages: templates of all rooms, in the reader's language, with exact amounts."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from operational.i18n import Translate, has_message, messages, translator

HERE = Path(__file__).parent
TEMPLATE_FOLDERS = (HERE / "templates", *sorted(HERE.glob("*/templates")))

_KILOBYTE = 1024
_MEGABYTE = 1024 * 1024
_GIGABYTE = 1024 * _MEGABYTE


def environment() -> Environment:
    """The Jinja environment of all pages: undefined names are errors, everything is escaped."""
    jinja = Environment(
        loader=FileSystemLoader(TEMPLATE_FOLDERS), autoescape=select_autoescape(default=True),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    jinja.filters["money"] = money
    jinja.filters["plain"] = plain
    return jinja


def page_words(language: str, timezone: str) -> dict[str, Any]:
    """What depends on the reader: translation, local times, names in the language."""
    translate = translator(language)
    zone = ZoneInfo(timezone)

    def local_time(moment: datetime | None) -> str:
        return "" if moment is None else moment.astimezone(zone).strftime("%Y-%m-%d %H:%M")

    def local_date(moment: datetime | None) -> str:
        return "" if moment is None else moment.astimezone(zone).strftime("%Y-%m-%d")

    def name_of(row: Any) -> str:
        return str(getattr(row, f"name_{language}"))

    def detail_of(row: Any) -> str:
        return str(getattr(row, f"detail_{language}"))

    def province(code: str) -> str:
        return translate(f"province.{code}") if has_message(f"province.{code}") else code

    def charge_class(code: str) -> str:
        return translate(f"charge_class.{code}") if has_message(f"charge_class.{code}") else code

    def bill_item(code: str) -> str:
        return translate(f"bill_item.{code}") if has_message(f"bill_item.{code}") else code

    def reason(code: str) -> str:
        return translate(f"reason.{code}") if has_message(f"reason.{code}") else code

    def audited(family: str, code: str) -> str:
        key = f"audit_{family}.{code}"
        return translate(key) if has_message(key) else code  # rows of versions before

    def quantity(value: Decimal | int | None, unit: str | None) -> str:
        if value is None or unit is None:
            return "–"  # an item that mixes units has no one quantity
        number = Decimal(value)
        if unit == "second":
            return _duration(number, translate)
        if unit == "octet":
            return _volume(number)
        known = f"unit.{unit}" in messages()
        return f"{plain(number)} {translate(f'unit.{unit}') if known else unit}"

    return {
        "t": translate, "language": language, "local_time": local_time, "local_date": local_date,
        "name_of": name_of, "detail_of": detail_of, "province": province, "quantity": quantity,
        "charge_class": charge_class, "bill_item": bill_item, "reason": reason,
        "audited": audited,
    }  # fmt: skip


def _duration(seconds: Decimal, translate: Translate) -> str:
    """Minutes and the seconds beyond them: 253 min 10 s."""
    minutes, rest = divmod(abs(seconds), 60)
    parts = [f"{plain(minutes)} {translate('unit.minute')}"] if minutes or not rest else []
    parts += [f"{plain(rest)} {translate('unit.second')}"] if rest else []
    return ("-" if seconds < 0 else "") + " ".join(parts)


def _volume(octets: Decimal) -> str:
    if 0 < octets < _KILOBYTE:
        return f"{plain(octets)} B"
    if 0 < octets < _MEGABYTE and octets % _KILOBYTE == 0:
        return f"{plain(octets / _KILOBYTE)} KB"
    if octets and octets % _GIGABYTE == 0:
        return f"{plain(octets / _GIGABYTE)} GB"
    return f"{plain((octets / _MEGABYTE).quantize(Decimal('0.01')))} MB"


def money(amount: Decimal) -> str:
    """An amount with two digits and thousands separators; more digits only where there are more."""
    text = f"{amount:,f}"
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def plain(number: Decimal | int) -> str:
    """A number without an exponent and without trailing zeros."""
    text = f"{Decimal(number).quantize(Decimal('0.000001')):,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
