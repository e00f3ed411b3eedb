"""The simulated carrier's network and the world around it: elements, operators, countries.

Everything here is a plain fact table; the order of a tuple is the code that the columns of
`traffic.Records` carry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

HOME_PLMN = "46001"


@dataclass(frozen=True)
class Province:
    """A province of the carrier: GB/T 2260 code, its name as PyPI `phone` writes it."""

    code: str
    name_zh: str
    area: int  # of its capital, without the 0
    share: float  # of the customers


PROVINCES = (
    Province("11", "北京", 10, 0.25),
    Province("44", "广东", 20, 0.50),
    Province("51", "四川", 28, 0.25),
)
FREE_FIXED_NUMBERS = 40  # for each province; nobody has a fixed line yet


def free_fixed_numbers(province: Province) -> list[int]:
    """Numbers for fixed lines that a customer may order."""
    first = int(f"86{province.area}55500001")
    return list(range(first, first + FREE_FIXED_NUMBERS))


FileFormat = Literal["switch_cdr", "3gpp_cdr", "roaming_cdr"]


@dataclass(frozen=True)
class Source:
    """A network element, or the clearing house, that delivers files."""

    source_id: str
    format: FileFormat
    province_code: str


SOURCES = (
    *(Source(f"MSC-{province.code}", "switch_cdr", province.code) for province in PROVINCES),
    *(Source(f"PGW-{province.code}", "3gpp_cdr", province.code) for province in PROVINCES),
    Source("DCH-00", "roaming_cdr", "00"),
)
FIRST_PACKET_SOURCE = len(PROVINCES)
ROAMING_SOURCE = 2 * len(PROVINCES)

VOICE, SMS, DATA = 0, 1, 2
SERVICES = ("voice", "sms", "data")
MO, MT = 0, 1
DIRECTIONS = ("mo", "mt")

# Operators a trunk group leads to; 0 is our own network, which needs none.
OPERATORS = ("CUCC", "CMCC", "CTCC")
CUCC, CMCC, CTCC = range(3)


def trunk_group_id(operator: str, province_code: str, direction: str, number: int) -> str:
    """Name of a trunk group, e.g. ``CMCC-44-IN1``."""
    return f"{operator}-{province_code}-{direction.upper()}{number}"


TRUNKS_PER_ROUTE = 2
# Code of a trunk group: 1 + (operator - 1) * provinces * 2 + province * 2 + number; 0 is none.
TRUNKS = [
    (operator, province.code, number)
    for operator in OPERATORS[1:]
    for province in PROVINCES
    for number in range(1, TRUNKS_PER_ROUTE + 1)
]

# How a dialled number is written before its digits.
PREFIXES = ("", "+86", "0086", "0", "00", "+")
PLAIN, PLUS_86, ZERO_86, ZERO, ZERO_ZERO, PLUS = range(6)

CUSTOMER_SERVICE = 10010
EMERGENCY_NUMBERS = (110, 119, 120, 122)
SERVICE_NUMBERS = (95588, 95533, 95599, 95566, 12306, 12345, 10010)
TEST_MSISDN_PREFIX = "8617090000"


@dataclass(frozen=True)
class FixedArea:
    """A fixed-line area with eight-digit numbers: area code without its 0, and who runs it."""

    area: int
    operator: int


# North of the Yangtze fixed lines are China Unicom's own, in the south China Telecom's.
FIXED_AREAS = (
    FixedArea(10, CUCC),
    FixedArea(20, CTCC),
    FixedArea(755, CTCC),
    FixedArea(769, CTCC),
    FixedArea(28, CTCC),
    FixedArea(21, CTCC),
    FixedArea(22, CUCC),
    FixedArea(571, CTCC),
)


@dataclass(frozen=True)
class Country:
    """A country people call and travel to, with one of its networks (MCC-MNC)."""

    iso: str
    plmn: str
    zone: str
    weight: float


COUNTRIES = (
    Country("HK", "45400", "Asia/Hong_Kong", 0.26),
    Country("JP", "44010", "Asia/Tokyo", 0.16),
    Country("KR", "45005", "Asia/Seoul", 0.09),
    Country("TW", "46692", "Asia/Taipei", 0.08),
    Country("SG", "52501", "Asia/Singapore", 0.08),
    Country("TH", "52001", "Asia/Bangkok", 0.08),
    Country("MO", "45500", "Asia/Macau", 0.07),
    Country("US", "310260", "America/Los_Angeles", 0.08),
    Country("GB", "23430", "Europe/London", 0.04),
    Country("DE", "26202", "Europe/Berlin", 0.03),
    Country("AU", "50501", "Australia/Sydney", 0.03),
)
# Serving networks: 0 is home, then one a country.
NETWORKS = (HOME_PLMN, *(country.plmn for country in COUNTRIES))


@dataclass(frozen=True)
class Plan:
    """A plan of the catalogue as far as it shapes behaviour: fee, minutes, megabytes, share."""

    offering_id: str
    fee: int
    minutes: int
    megabytes: int
    share: float


PLANS = (
    Plan("plan-4g-56", 56, 100, 500, 0.22),
    Plan("plan-4g-76", 76, 200, 800, 0.25),
    Plan("plan-4g-106", 106, 300, 1024, 0.18),
    Plan("plan-4g-136", 136, 500, 1024, 0.13),
    Plan("plan-4g-166", 166, 500, 2048, 0.09),
    Plan("plan-4g-196", 196, 500, 3072, 0.06),
    Plan("plan-4g-296", 296, 1000, 4096, 0.04),
    Plan("plan-4g-396", 396, 2000, 6144, 0.02),
    Plan("plan-4g-596", 596, 3000, 11264, 0.01),
)

_VOICE_HOURS = (
    6, 3, 2, 1, 1, 3, 10, 28, 62, 88, 96, 92, 78, 62, 70, 82, 86, 92, 88, 84, 78, 60, 34, 15,
)  # fmt: skip
_SMS_HOURS = (
    10, 5, 3, 2, 2, 4, 14, 36, 66, 84, 90, 86, 74, 62, 66, 72, 76, 78, 76, 80, 82, 66, 40, 22,
)  # fmt: skip
_DATA_HOURS = (
    38, 22, 14, 9, 8, 12, 30, 58, 68, 66, 64, 70, 88, 76, 66, 64, 66, 78, 84, 92, 104, 108, 96, 64,
)  # fmt: skip
_WEEK = (  # Monday to Sunday
    (1.06, 1.05, 1.05, 1.05, 1.10, 0.90, 0.79),
    (1.04, 1.03, 1.03, 1.03, 1.06, 0.93, 0.88),
    (0.97, 0.97, 0.97, 0.98, 1.02, 1.06, 1.03),
)


def hour_shares(service: int) -> NDArray[np.float64]:
    """Share of each hour of the day in the service's load, adding up to 1."""
    hours = np.array((_VOICE_HOURS, _SMS_HOURS, _DATA_HOURS)[service], dtype=np.float64)
    share: NDArray[np.float64] = hours / hours.sum()
    return share


def week_factors(service: int) -> NDArray[np.float64]:
    """Load of each day of the week, Monday first, around 1."""
    return np.array(_WEEK[service], dtype=np.float64)


def shares(weights: list[float]) -> NDArray[np.float64]:
    """Weights scaled so that they add up to 1."""
    values = np.array(weights, dtype=np.float64)
    share: NDArray[np.float64] = values / values.sum()
    return share
