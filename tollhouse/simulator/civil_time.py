"""Civil time for whole columns: UTC seconds to local clock readings and back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.int64]

_STEP_S = 900  # every time zone in use changes its offset at a quarter of an hour
_MARGIN_S = 40 * 86_400  # late files arrive after the window


class LocalClock:
    """Local time of one zone over a stretch of UTC seconds; daylight saving included."""

    def __init__(self, zone: str, begins: int, ends: int) -> None:
        self._base = (begins - _MARGIN_S) // _STEP_S * _STEP_S
        information = ZoneInfo(zone)
        steps = np.arange(self._base, ends + _MARGIN_S, _STEP_S)
        daily = [_offset(information, int(at)) for at in steps[::96]]
        offsets = np.repeat(np.array(daily, dtype=np.int64), 96)[: len(steps)]
        for change in np.flatnonzero(np.diff(daily)):  # a day with a change: look closer
            for step in range(int(change) * 96, min((int(change) + 1) * 96, len(steps))):
                offsets[step] = _offset(information, int(steps[step]))
        self._offsets = offsets

    def offset(self, utc: Seconds) -> Seconds:
        """Seconds by which the local clock is ahead of UTC."""
        return self._offsets[(utc - self._base) // _STEP_S]

    def reading(self, utc: Seconds) -> Seconds:
        """The local clock as the number yyyymmddhhmmss."""
        local = utc + self.offset(utc)
        day, second = np.divmod(local, 86_400)
        dates = day.astype("datetime64[D]")
        months = dates.astype("datetime64[M]").astype(np.int64)
        day_of_month = (dates - dates.astype("datetime64[M]")).astype(np.int64) + 1
        ymd = (1970 + months // 12) * 10_000 + (months % 12 + 1) * 100 + day_of_month
        hms = second // 3600 * 10_000 + second // 60 % 60 * 100 + second % 60
        return np.asarray(ymd * 1_000_000 + hms, dtype=np.int64)

    def offset_text(self, utc: int) -> str:
        """The offset as in ``+0800``."""
        return offset_text(int(self.offset(np.array([utc]))[0]))


def offset_text(seconds: int) -> str:
    """An offset of so many seconds as ``+hhmm``."""
    sign = "-" if seconds < 0 else "+"
    minutes = abs(seconds) // 60
    return f"{sign}{minutes // 60:02d}{minutes % 60:02d}"


@dataclass(frozen=True)
class Window:
    """The simulated days: from the cycle's first local midnight, `days` civil days long.

    `day_starts` holds the local midnights in UTC seconds: one a day, then the end and one more.
    """

    zone: str
    first_date: date
    days: int
    day_starts: Seconds
    clock: LocalClock

    @classmethod
    def of(cls, *, cycle: str, days: int | None, zone: str) -> Window:
        """The window of a cycle 'YYYY-MM', cut to its first `days` days if given."""
        year, month = (int(part) for part in cycle.split("-"))
        first = date(year, month, 1)
        after = date(year + month // 12, month % 12 + 1, 1)
        length = min(days or 31, (after - first).days)
        information = ZoneInfo(zone)
        starts = [
            int(datetime(day.year, day.month, day.day, tzinfo=information).timestamp())
            for day in (first + timedelta(days=count) for count in range(length + 2))
        ]
        clock = LocalClock(zone, starts[0], starts[-1])
        return cls(zone, first, length, np.array(starts, dtype=np.int64), clock)

    @property
    def begins(self) -> int:
        """First second of the window (UTC)."""
        return int(self.day_starts[0])

    @property
    def ends(self) -> int:
        """First second after the window (UTC)."""
        return int(self.day_starts[self.days])

    def day_of(self, utc: Seconds) -> Seconds:
        """Index of the civil day; `days` is the day after the window."""
        return np.asarray(np.searchsorted(self.day_starts, utc, side="right") - 1, dtype=np.int64)

    def at(self, day: Seconds, second_of_day: Seconds) -> Seconds:
        """UTC seconds of a local time of day, kept inside its day."""
        latest = self.day_starts[day + 1] - 1
        return np.asarray(np.minimum(self.day_starts[day] + second_of_day, latest))

    def weekdays(self) -> Seconds:
        """Day of the week of every day of the window, Monday 0."""
        first = self.first_date.weekday()
        days: Seconds = np.arange(first, first + self.days, dtype=np.int64) % 7
        return days


def utc_datetime(second: int) -> datetime:
    """A UTC second as an aware datetime."""
    return datetime.fromtimestamp(second, tz=UTC)


def _offset(zone: ZoneInfo, utc: int) -> int:
    delta = datetime.fromtimestamp(utc, tz=zone).utcoffset()
    return int(delta.total_seconds()) if delta is not None else 0
