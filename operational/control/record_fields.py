"""The fields of a record that may be corrected: what a value of each looks like."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from operational.i18n import Translate, field_label
from operational.problems import InvalidRequestError

SERVICES = ("voice", "sms", "mms", "data", "vas")
DIRECTIONS = ("mo", "mt", "forwarded")

# ITU-T E.164 and 3GPP TS 23.003 bound the lengths; numbers may stand as dialled, so without code.
_OFFSET_LIMIT_MINUTES = 14 * 60
_EARLIEST_YEAR = 1990


def _is_time(value: str) -> bool:
    if not re.fullmatch(r"[0-9]{14}", value):
        return False
    try:
        moment = datetime.strptime(value, "%Y%m%d%H%M%S")  # noqa: DTZ007 - civil time, no zone
    except ValueError:
        return False
    return moment.year >= _EARLIEST_YEAR


def _is_offset(value: str) -> bool:
    return bool(re.fullmatch(r"-?[0-9]{1,3}", value)) and abs(int(value)) <= _OFFSET_LIMIT_MINUTES


def _matching(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda value: compiled.fullmatch(value) is not None


# Field → whether a text is a value of it. The order is that of the forms.
CHECKS: dict[str, Callable[[str], bool]] = {
    "service": SERVICES.__contains__,
    "direction": DIRECTIONS.__contains__,
    "served_msisdn": _matching(r"\+?[0-9]{3,20}"),
    "served_imsi": _matching(r"[0-9]{6,15}"),
    "other_party": _matching(r"\+?[0-9*#]{1,32}"),
    "started_local": _is_time,
    "utc_offset_minutes": _is_offset,
    "duration_seconds": _matching(r"[0-9]{1,10}"),
    "uplink_octets": _matching(r"[0-9]{1,18}"),
    "downlink_octets": _matching(r"[0-9]{1,18}"),
    "serving_plmn": _matching(r"[0-9]{5,6}|[A-Z0-9]{5}"),
    "call_reference": _matching(r"[\x21-\x7e]{1,256}"),
}
FIELDS = tuple(CHECKS)


class FieldValueError(InvalidRequestError):
    """Values are not ones of their fields; the message says of each what it should be."""

    def __init__(self, wrong: Mapping[str, str]) -> None:
        self.wrong = dict(wrong)  # field → the value refused
        super().__init__("field_values")

    def text(self, translate: Translate) -> str:
        """One clause a field."""
        return self._clauses(translate, {field: field for field in self.wrong})

    def page_text(self, translate: Translate) -> str:
        """One clause a field, which goes by its label."""
        return self._clauses(
            translate, {field: field_label(translate, field) for field in self.wrong}
        )

    def _clauses(self, translate: Translate, called: Mapping[str, str]) -> str:
        return "; ".join(
            f"{called[field]} = '{value}': {translate(f'field_rule.{field}')}"
            for field, value in self.wrong.items()
        )


def check_values(values: Mapping[str, str]) -> None:
    """Raise FieldValueError naming every value that is not one of its field.

    Raises:
        InvalidRequestError: a field is not one that may be corrected.
    """
    require_fields(values)
    wrong = {field: value for field, value in values.items() if not CHECKS[field](value)}
    if wrong:
        raise FieldValueError(wrong)


def require_fields(names: Mapping[str, object] | tuple[str, ...]) -> None:
    """Raise InvalidRequestError for a name that is not a field that may be corrected."""
    if unknown := sorted(set(names) - set(FIELDS)):
        raise InvalidRequestError("unknown_fields", names=unknown, known=list(FIELDS))
