"""Numbers that look like the real ones: MSISDN, IMSI, IMEI, foreign and fixed numbers."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
import phonenumbers
from numpy.typing import NDArray
from phone import Phone

from tollhouse.simulator import network

Numbers = NDArray[np.int64]
Random = np.random.Generator

# `phone_type` of the PyPI package `phone` (Phone.get_phone_no_type).
_TYPE_OF_OPERATOR = {network.CMCC: 1, network.CUCC: 2, network.CTCC: 3}
# Segments of resellers stay out: 170 and 171 hold the numbers kept for tests.
_OWN_PREFIXES = (130, 131, 132, 155, 156, 166, 175, 176, 185, 186)
_COUNTRY_CODE = 86 * 10**11
_MODELS = (86_412_004, 86_587_904, 86_723_405, 35_328_711, 35_391_209, 35_674_108, 99_001_234)


def stream(seed: int, name: str) -> Random:
    """A random stream of its own for each purpose, so that one more draw here moves none there."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


@lru_cache(maxsize=1)
def _segments() -> tuple[Numbers, NDArray[np.uint8], NDArray[np.uint8]]:
    """All seven-digit segments of PyPI `phone`: segment, operator type, index of our province."""
    book = Phone()
    layout = np.dtype([("segment", "<i4"), ("place", "<i4"), ("type", "u1")])
    rows = np.frombuffer(book.buf, dtype=layout, offset=book.first_phone_record_offset)
    places, inverse = np.unique(rows["place"], return_inverse=True)
    names = {province.name_zh: index for index, province in enumerate(network.PROVINCES)}
    province = np.array(
        [
            names.get(book.buf[place : book.buf.index(b"|", place)].decode(), 255)
            for place in places.tolist()
        ],
        dtype=np.uint8,
    )
    return rows["segment"].astype(np.int64), rows["type"].copy(), province[inverse]


@lru_cache(maxsize=64)
def segments(operator: int, province: int | None) -> Numbers:
    """Seven-digit segments of an operator in one of our provinces, or (None) everywhere."""
    segment, kind, place = _segments()
    chosen = kind == _TYPE_OF_OPERATOR[operator]
    if province is not None:
        chosen &= place == province
    if operator == network.CUCC:
        chosen &= np.isin(segment // 10_000, _OWN_PREFIXES)
    own: Numbers = segment[chosen]
    return own


def national_numbers(rng: Random, operator: int, province: int | None, count: int) -> Numbers:
    """Eleven-digit mobile numbers of an operator; they may repeat."""
    pool = segments(operator, province)
    numbers: Numbers = pool[rng.integers(0, len(pool), count)] * 10_000
    numbers += rng.integers(0, 10_000, count)
    return numbers


def distinct_msisdns(rng: Random, province: int, count: int) -> Numbers:
    """Distinct MSISDNs (E.164 digits as a number) of our own segments in a province."""
    pool = segments(network.CUCC, province)
    drawn = np.unique(rng.integers(0, len(pool) * 10_000, count + count // 4 + 100))
    chosen = rng.permutation(drawn)[:count]
    numbers: Numbers = _COUNTRY_CODE + pool[chosen // 10_000] * 10_000 + chosen % 10_000
    return numbers


def distinct_imsis(indices: Numbers) -> Numbers:
    """IMSIs 46001…, one for each index, scattered: a bijection of the last ten digits."""
    return 460_010_000_000_000 + (indices * 7_368_787_003 % 10**10 + 2_718_281_829) % 10**10


def imeis(rng: Random, indices: Numbers) -> Numbers:
    """The first 14 digits of a distinct IMEI for each index: a model's TAC and a serial."""
    models = np.array(_MODELS, dtype=np.int64)[rng.integers(0, len(_MODELS), len(indices))]
    return (models + indices // 1_000_000) * 1_000_000 + indices * 618_033 % 1_000_000


def with_luhn_digit(numbers: Numbers) -> Numbers:
    """Each 14-digit number followed by its Luhn digit (3GPP TS 23.003, annex B)."""
    rest = numbers.copy()
    total = np.zeros_like(numbers)
    for position in range(14):  # from the right, which is doubled first
        digit = rest % 10
        rest //= 10
        doubled = digit * 2
        total += np.where(doubled > 9, doubled - 9, doubled) if position % 2 == 0 else digit
    return numbers * 10 + (10 - total % 10) % 10


def foreign_numbers(rng: Random, countries: NDArray[np.int64]) -> Numbers:
    """E.164 digits of a mobile of each country, near the country's documented example."""
    examples = np.array([_example(country.iso) for country in network.COUNTRIES], dtype=np.int64)
    return examples[countries] // 10_000 * 10_000 + rng.integers(0, 10_000, len(countries))


@lru_cache(maxsize=64)
def _example(iso: str) -> int:
    number = phonenumbers.example_number_for_type(iso, phonenumbers.PhoneNumberType.MOBILE)
    if number is None:
        raise ValueError(f"no example of a mobile number in {iso}: take another country")
    return int(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:])


def fixed_numbers(rng: Random, areas: NDArray[np.int64]) -> Numbers:
    """Area code without its 0, followed by eight digits."""
    codes = np.array([area.area for area in network.FIXED_AREAS], dtype=np.int64)
    return codes[areas] * 10**8 + rng.integers(2 * 10**7, 9 * 10**7, len(areas))
