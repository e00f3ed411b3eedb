"""Reading columns of text as numbers, times, offsets and truths, all rows at once.

Every reader gives the values and two facts of each row: whether it could be read, and whether it
was given at all. Digits are reckoned with in NumPy: a lenient parser would take "2026-2-30" or
"0x1F" for something, and a strict one would stop at the first row it cannot read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
OctetArray = npt.NDArray[np.uint8]

EPOCHS = {"epoch": 1, "epoch_ms": 1000}  # counts since 1970-01-01 UTC, so many a second
LONGEST_NUMBER = 18  # digits that surely fit 64 bits
LONGEST_MOMENT = 40  # octets; nothing longer is looked at as a time
FIRST_YEAR, LAST_YEAR = 1900, 2099
QUARTER = 15 * 60  # no zone changes its offset between the quarters of an hour
MOST_QUARTERS = 1_000_000  # of a block whose offsets are looked up in a table: 28 years

_MONTH_STARTS: IntArray = (
    np.arange(f"{FIRST_YEAR}-01", f"{LAST_YEAR + 1}-02", dtype="datetime64[M]")
    .astype("datetime64[D]")
    .astype(np.int64)
)
_MONTH_LENGTHS: IntArray = np.diff(_MONTH_STARTS)

_WIDTHS = {"Y": 4, "y": 2, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}
_OFFSET = re.compile(r"([+-])(0[0-9]|1[0-4]):?([0-5][0-9])", re.ASCII)


@dataclass(frozen=True)
class Values:
    """A column as numbers; 0 where it `is_read` not, which may be because it was not given."""

    numbers: IntArray
    is_read: BoolArray
    is_given: BoolArray

    @property
    def is_unreadable(self) -> BoolArray:
        """Rows with something there that makes no sense."""
        unreadable: BoolArray = self.is_given & ~self.is_read
        return unreadable

    def array(self, kind: pa.DataType) -> pa.Array:
        """The same as an Arrow array, null where nothing was read."""
        mask = None if self.is_read.all() else ~self.is_read
        return pa.array(self.numbers, pa.int64(), mask=mask).cast(kind)


@dataclass(frozen=True)
class _Texts:
    octets: OctetArray
    starts: IntArray
    lengths: IntArray

    @classmethod
    def of(cls, text: pa.StringArray) -> _Texts:
        count = len(text)
        _, offset_buffer, value_buffer = text.buffers()
        if count == 0 or value_buffer is None or value_buffer.size == 0:
            nothing = np.zeros(count, np.int64)
            return cls(np.zeros(1, np.uint8), nothing, nothing)
        offsets = np.frombuffer(offset_buffer, np.int32)[text.offset : text.offset + count + 1]
        starts = offsets[:-1].astype(np.int64)
        lengths = np.diff(offsets).astype(np.int64)
        if text.null_count:
            lengths[text.is_null().to_numpy(zero_copy_only=False)] = 0
        return cls(np.frombuffer(value_buffer, np.uint8), starts, lengths)

    def matrix(self, rows: IntArray | None, length: int) -> OctetArray:
        """The octets of rows of one length, one array a position; None means every row."""
        if rows is None:
            first = int(self.starts[0])
            size = len(self.starts) * length
            if int(self.starts[-1]) == first + size - length:
                block = self.octets[first : first + size].reshape(-1, length)
                return np.ascontiguousarray(block.T)
            rows = np.arange(len(self.starts))
        gathered: OctetArray = self.octets[
            self.starts[rows][None, :] + np.arange(length, dtype=np.int64)[:, None]
        ]
        return gathered


def read_numbers(text: pa.StringArray) -> Values:
    """Whole decimal numbers, with `-` before them if negative, of at most 18 digits."""
    quick = _read_plain_numbers(text)
    if quick is not None:
        return quick
    texts = _Texts.of(text)
    is_given = texts.lengths > 0
    safe = np.minimum(texts.starts, len(texts.octets) - 1)
    is_negative = is_given & (texts.octets[safe] == ord("-"))
    digits = texts.lengths - is_negative
    is_read = is_given & (digits >= 1) & (digits <= LONGEST_NUMBER)
    last = texts.starts + texts.lengths - 1
    numbers = np.zeros(len(digits), np.int64)
    longest = int(digits[is_read].max(initial=0))
    for place in range(longest):
        has_digit = is_read & (digits > place)
        octet = texts.octets[np.where(has_digit, last - place, 0)]
        digit = octet - np.uint8(48)  # what is no digit wraps round to something above 9
        is_read &= ~has_digit | (digit <= 9)
        numbers += np.where(has_digit, digit, 0).astype(np.int64) * 10**place
    numbers = np.where(is_negative, -numbers, numbers)
    return Values(np.where(is_read, numbers, 0), is_read, is_given)


def _read_plain_numbers(text: pa.StringArray) -> Values | None:
    """The same where every octet of the column is a digit, which is nearly always; else None."""
    texts = _Texts.of(text)
    count = len(text)
    if count in (0, text.null_count):
        nothing = np.zeros(count, bool)
        return Values(np.zeros(count, np.int64), nothing, nothing)
    end = int(texts.starts[-1] + texts.lengths[-1])
    octets = texts.octets[int(texts.starts[0]) : end]
    if not len(octets) or octets.min() < 48 or octets.max() > 57:
        return None
    if int(texts.lengths.max()) > LONGEST_NUMBER:
        return None
    is_given = texts.lengths > 0
    if not is_given.all():
        text = pc.if_else(pa.array(is_given), text, None)
    numbers = pc.cast(text, pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return Values(numbers, is_given, is_given)


def scale(
    values: Values, multiply_by: int | None, divide_by: int | None, rounding: str | None
) -> Values:
    """The numbers in another unit; one too large for 64 bits counts as unreadable."""
    numbers, is_read = values.numbers, values.is_read
    if multiply_by is not None:
        limit = (2**63 - 1) // multiply_by
        is_read = is_read & (np.abs(numbers) <= limit)
        numbers = np.where(is_read, numbers, 0) * multiply_by
    if divide_by is not None:
        # Away from zero, towards it, and to the nearest with halves away from zero.
        size = np.abs(numbers)
        raised = {"down": 0, "half_up": divide_by // 2, "up": divide_by - 1}
        numbers = np.sign(numbers) * ((size + raised[rounding or "down"]) // divide_by)
    return Values(numbers, is_read, values.is_given)


def within_32_bits(values: Values) -> Values:
    """Numbers that a 32-bit column cannot hold count as unreadable."""
    fits = values.is_read & (values.numbers >= -(2**31)) & (values.numbers < 2**31)
    return Values(np.where(fits, values.numbers, 0), fits, values.is_given)


@dataclass(frozen=True)
class MomentFormat:
    """A format of times, taken apart: a directive letter or a literal octet at each place."""

    parts: tuple[tuple[str, int], ...]  # directive and width, or ("", the literal octet)
    has_offset: bool  # it ends in the offset from UTC
    has_fraction: bool

    @property
    def width(self) -> int:
        """Octets without the fraction of a second, and without the offset."""
        return sum(size if letter else 1 for letter, size in self.parts if letter != "f")


@lru_cache
def compile_moment(text: str) -> MomentFormat | None:
    """A strptime-like format with date; None for a count since 1970 (`EPOCHS`).

    Directives: %Y %y %m %d %H %M %S, %f after the seconds, %z as the last thing.

    Raises:
        ValueError: it has others, lacks the date, or has one twice.
    """
    if text in EPOCHS:
        return None
    plan = _compile(text)
    letters = [letter for letter, _ in plan.parts if letter]
    if not ({"Y", "y"} & set(letters) and {"m", "d"} <= set(letters)):
        raise ValueError(
            f"format '{text}' has no whole date: give %Y (or %y), %m and %d,"
            f" or one of {', '.join(EPOCHS)}"
        )
    return plan


@lru_cache
def compile_clock(text: str) -> MomentFormat:
    """A format of durations: %H, %M and %S only.

    Raises:
        ValueError: it has anything else.
    """
    plan = _compile(text)
    letters = {letter for letter, _ in plan.parts if letter}
    if not letters or not letters <= {"H", "M", "S"} or plan.has_offset:
        raise ValueError(f"format '{text}' is no duration: give %H, %M and %S only")
    return plan


def _compile(text: str) -> MomentFormat:
    body = text.removesuffix("%z")
    parts: list[tuple[str, int]] = []
    at = 0
    while at < len(body):
        letter = body[at + 1 : at + 2] if body[at] == "%" else ""
        if letter == "f" or letter in _WIDTHS:
            parts.append((letter, _WIDTHS.get(letter, 0)))
        elif body[at] == "%":
            raise ValueError(
                f"format '{text}' has '%{letter}': give %Y %y %m %d %H %M %S %f, %z as the last,"
                f" or one of {', '.join(EPOCHS)}"
            )
        elif not body[at].isascii():
            raise ValueError(f"format '{text}' has '{body[at]}': give ASCII characters only")
        else:
            parts.append(("", ord(body[at])))
        at += 2 if letter else 1
    letters = [letter for letter, _ in parts if letter]
    if len(letters) != len(set(letters)):
        raise ValueError(f"format '{text}' has a part of the time twice: keep one")
    return MomentFormat(tuple(parts), body != text, "f" in letters)


def read_moments(text: pa.StringArray, plan: MomentFormat) -> tuple[Values, Values | None]:
    """Microseconds from 1970-01-01 to the times as written, and the offsets written with them.

    A time must exist in the calendar, between 1900 and 2099; seconds end at 59.
    """
    offsets = None
    is_given = None
    if plan.has_offset:
        whole = _Texts.of(text).lengths > 0
        split = pc.extract_regex(text, r"^(?P<moment>.*?)(?P<offset>Z|[+-][0-9]{2}:?[0-9]{2})$")
        text = pc.fill_null(pc.struct_field(split, 0), "")
        offsets = read_offsets(pc.fill_null(pc.struct_field(split, 1), ""))
        is_given = whole
    texts = _Texts.of(text)
    count = len(texts.lengths)
    values, is_read = np.zeros(count, np.int64), np.zeros(count, bool)
    given = texts.lengths > 0
    sizes = np.bincount(np.minimum(texts.lengths, LONGEST_MOMENT + 1), minlength=1)
    for length in np.flatnonzero(sizes[: LONGEST_MOMENT + 1]).tolist():
        fraction = length - plan.width
        if length == 0 or (not 1 <= fraction <= 6 if plan.has_fraction else fraction != 0):
            continue
        is_all = int(sizes[length]) == count
        rows = None if is_all else np.flatnonzero(texts.lengths == length)
        moments, exists = _reckon(texts.matrix(rows, length), plan, fraction)
        if rows is None:
            values, is_read = moments, exists
        else:
            values[rows], is_read[rows] = moments, exists
    if offsets is not None:
        is_read = is_read & offsets.is_read
    return Values(values, is_read, given if is_given is None else is_given), offsets


def _reckon(octets: OctetArray, plan: MomentFormat, fraction: int) -> tuple[IntArray, BoolArray]:
    """The microseconds, and which of them exist, of times of one length; octets by position."""
    count = octets.shape[1]
    is_right = np.ones(count, bool)
    worst = np.zeros(count, np.uint8)
    found: dict[str, npt.NDArray[np.int32]] = {}
    at = 0
    for letter, size in plan.parts:
        if not letter:
            is_right &= octets[at] == size
            at += 1
            continue
        width = fraction if letter == "f" else size
        number = np.zeros(count, np.int32)
        for place in range(at, at + width):
            digit = octets[place] - np.uint8(48)
            np.maximum(worst, digit, out=worst)
            number = number * 10 + digit
        found[letter] = number
        at += width
    is_right &= worst <= 9
    hour, minute, second = (found.get(letter, np.int32(0)) for letter in "HMS")
    is_right &= (hour < 24) & (minute < 60) & (second < 60)
    seconds = (np.asarray(hour, np.int64) * 60 + minute) * 60 + second
    year = found.get("Y")
    if year is None:  # two digits: 69 to 99 are of the last century, as in POSIX
        short = found["y"]
        year = np.where(short >= 69, 1900 + short, 2000 + short)
    month, day = found["m"], found["d"]
    is_right &= (year >= FIRST_YEAR) & (year <= LAST_YEAR) & (month >= 1) & (month <= 12)
    index = np.where(is_right, (year - FIRST_YEAR) * 12 + month - 1, 0)
    is_right &= (day >= 1) & (day <= _MONTH_LENGTHS[index])
    seconds = seconds + (_MONTH_STARTS[index] + day - 1) * 86_400
    micros = seconds * 1_000_000
    if "f" in found:
        micros = micros + found["f"].astype(np.int64) * 10 ** (6 - fraction)
    return np.where(is_right, micros, 0), is_right


def read_clocks(text: pa.StringArray, plan: MomentFormat) -> Values:
    """Seconds of durations written as hours, minutes and seconds; hours may be up to 99."""
    texts = _Texts.of(text)
    is_given = texts.lengths > 0
    numbers, is_read = np.zeros(len(is_given), np.int64), np.zeros(len(is_given), bool)
    rows = np.flatnonzero(texts.lengths == plan.width)
    if len(rows):
        octets = texts.matrix(None if len(rows) == len(is_given) else rows, plan.width)
        worst = np.zeros(len(rows), np.uint8)
        is_right = np.ones(len(rows), bool)
        seconds = np.zeros(len(rows), np.int64)
        at = 0
        for letter, size in plan.parts:
            if not letter:
                is_right &= octets[at] == size
                at += 1
                continue
            tens, ones = octets[at] - np.uint8(48), octets[at + 1] - np.uint8(48)
            worst = np.maximum(worst, np.maximum(tens, ones))
            number = tens.astype(np.int64) * 10 + ones
            if letter != "H":
                is_right &= number < 60
            seconds += number * {"H": 3600, "M": 60, "S": 1}[letter]
            at += 2
        is_right &= worst <= 9
        numbers[rows], is_read[rows] = np.where(is_right, seconds, 0), is_right
    return Values(numbers, is_read, is_given)


def read_offsets(text: pa.StringArray) -> Values:
    """Minutes ahead of UTC of offsets like +0800, +08:00 or Z."""
    encoded = pc.dictionary_encode(text)
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    known = [_offset_minutes(value) for value in encoded.dictionary.to_pylist()]
    is_blank = np.array([not value for value in encoded.dictionary.to_pylist()] + [True])
    minutes = np.array([value or 0 for value in known] + [0], np.int64)
    is_right = np.array([value is not None for value in known] + [False])
    rows = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    return Values(minutes[rows], is_right[rows], ~is_blank[rows])


def _offset_minutes(text: str | None) -> int | None:
    if text == "Z":
        return 0
    match = _OFFSET.fullmatch(text or "")
    if match is None:
        return None
    minutes = int(match[2]) * 60 + int(match[3])
    return -minutes if match[1] == "-" else minutes


def read_truths(
    text: pa.StringArray, true_values: list[str], false_values: list[str]
) -> tuple[pa.Array, BoolArray]:
    """Truths, null where the text is empty or none of the values; and where it is none of them."""
    is_true = pc.is_in(text, pa.array(true_values, pa.string()))
    is_false = pc.is_in(text, pa.array(false_values, pa.string()))
    is_known = pc.or_(is_true, is_false)
    is_given = _Texts.of(text).lengths > 0
    unreadable: BoolArray = is_given & ~is_known.to_numpy(zero_copy_only=False)
    return pc.if_else(is_known, is_true, pa.scalar(None, pa.bool_())), unreadable


def zone_offsets(seconds: IntArray, is_read: BoolArray, zone: tzinfo, *, in_utc: bool) -> IntArray:
    """Minutes that the zone was ahead of UTC at the times (local ones unless `in_utc`).

    A local time that happens twice, when clocks go back, is taken as the first of the two.
    """
    offsets = np.zeros(len(seconds), np.int64)
    quarters = np.floor_divide(seconds, QUARTER)
    given = quarters[is_read]
    if not len(given):
        return offsets
    first, last = int(given.min()), int(given.max())
    if last - first <= MOST_QUARTERS:
        is_met = np.zeros(last - first + 1, bool)
        is_met[given - first] = True
        table = np.zeros(last - first + 1, np.int64)
        met = np.flatnonzero(is_met)
        table[met] = [_zone_minutes(first + at, zone, in_utc=in_utc) for at in met.tolist()]
        offsets[is_read] = table[given - first]
        return offsets
    several, rows = np.unique(given, return_inverse=True)
    table = np.array([_zone_minutes(at, zone, in_utc=in_utc) for at in several.tolist()], np.int64)
    offsets[is_read] = table[rows]
    return offsets


@lru_cache(maxsize=65_536)
def _zone_minutes(quarter: int, zone: tzinfo, *, in_utc: bool) -> int:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=quarter * QUARTER)
    local = moment.astimezone(zone) if in_utc else moment.replace(tzinfo=zone)
    return round((local.utcoffset() or timedelta()).total_seconds() / 60)
