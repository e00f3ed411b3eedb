"""What the subscribers do: calls, messages and data sessions as columns of raw records.

One row of `Records` is one raw record a network element will write. Counts are Poisson around a
monthly rate that depends on the plan and, heavily tailed, on the person; times follow the load of
the day and the week; usage stays inside the subscription's validity, thins out before a leave, and
moves to another province or abroad during trips.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tollhouse.simulator import network
from tollhouse.simulator.civil_time import Window
from tollhouse.simulator.network import DATA, MO, MT, SMS, VOICE
from tollhouse.simulator.numbering import (
    Numbers,
    Random,
    fixed_numbers,
    foreign_numbers,
    national_numbers,
    stream,
)
from tollhouse.simulator.population import FOREVER, Population

Column = NDArray[Any]
NORMAL, PARTIAL, ABNORMAL = 0, 1, 4  # cause for closing, as the switch writes it
VOLUME_LIMIT, TIME_LIMIT = 16, 17  # causeForRecClosing, TS 32.298 clause 5.1.2.1.5
CONTACTS = 12
_MONTH_DAYS = 30.4
_SESSIONS = 49  # a month


@dataclass(frozen=True)
class Records:
    """Raw records, column by column; codes are explained in `network`."""

    source: Column  # uint8, index into SOURCES
    service: Column  # uint8
    direction: Column  # uint8
    party: Column  # int32, row of Population.msisdns
    started: Column  # int64, UTC seconds
    duration: Column  # int32, seconds of this record
    network: Column  # uint8, index into NETWORKS
    cell: Column  # int64, LAC * 65536 + CI
    prefix: Column  # uint8, index into PREFIXES
    other: Column  # int64, digits after the prefix; -1 is no other party
    trunk_in: Column  # uint8, 1 + index into TRUNKS; 0 is none
    trunk_out: Column  # uint8
    reference: Column  # int64, unique for each call or session
    part: Column  # uint8, 0 a whole call, else 1..n
    is_last: Column  # bool, no further part follows
    cause: Column  # uint8
    uplink: Column  # int64, octets
    downlink: Column  # int64, octets

    def __len__(self) -> int:
        return len(self.source)

    def take(self, rows: Column) -> Records:
        """The rows of a selection (indices or a mask)."""
        return Records(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @classmethod
    def concatenate(cls, parts: Iterable[Records]) -> Records:
        """All rows one below the other."""
        kept = list(parts)
        return cls(
            **{
                field.name: np.concatenate([getattr(part, field.name) for part in kept])
                for field in fields(cls)
            }
        )


_TYPES: dict[str, type[np.generic]] = {
    "source": np.uint8, "service": np.uint8, "direction": np.uint8, "party": np.int32,
    "started": np.int64, "duration": np.int32, "network": np.uint8, "cell": np.int64,
    "prefix": np.uint8, "other": np.int64, "trunk_in": np.uint8, "trunk_out": np.uint8,
    "reference": np.int64, "part": np.uint8, "is_last": np.bool_, "cause": np.uint8,
    "uplink": np.int64, "downlink": np.int64,
}  # fmt: skip
_DEFAULTS: dict[str, Any] = {"is_last": True, "other": -1}


def records(count: int, **columns: Any) -> Records:
    """Records of the given columns; those left out hold their neutral value."""
    values = {
        name: np.broadcast_to(
            np.asarray(columns.get(name, _DEFAULTS.get(name, 0)), dtype=kind), (count,)
        )
        for name, kind in _TYPES.items()
    }
    return Records(**{name: np.ascontiguousarray(value) for name, value in values.items()})


@dataclass(frozen=True)
class _Contacts:
    """The other parties each subscriber knows: arrays of shape (subscribers, CONTACTS)."""

    prefix: Column
    number: Column
    operator: Column


@dataclass(frozen=True)
class _Habits:
    """How each subscriber behaves during the window."""

    calls_out: Column  # a month
    calls_in: Column
    sms_out: Column
    sms_in: Column
    sessions: Column
    octets: Column  # mean of a session
    abroad_from: Column  # day index; trips of nobody start after the window
    abroad_to: Column
    country: Column
    away_from: Column
    away_to: Column
    away_province: Column
    cell_base: Column
    calls_abroad: Column  # chance that an outgoing call goes to a foreign number
    decline_from: Column  # UTC seconds from which usage thins out
    decline_to: Column
    goes_silent: Column


@dataclass(frozen=True)
class _World:
    """Everything the events are drawn from."""

    population: Population
    habits: _Habits
    contacts: _Contacts
    window: Window


def generate(population: Population, *, seed: int, window: Window) -> Records:
    """All raw records of the window, before faults, in no particular order."""
    world = _World(
        population=population,
        habits=_habits(stream(seed, "habits"), population, window),
        contacts=_contacts(stream(seed, "contacts"), population),
        window=window,
    )
    parts = [
        _calls(stream(seed, "calls out"), world, MO),
        _calls(stream(seed, "calls in"), world, MT),
        _messages(stream(seed, "messages out"), world, MO),
        _messages(stream(seed, "messages in"), world, MT),
        _service_calls(stream(seed, "customer service"), world),
        _sessions(stream(seed, "sessions"), world),
        *_roaming(stream(seed, "roaming"), world),
        _special_calls(stream(seed, "emergency"), world, is_test=False),
        _special_calls(stream(seed, "test numbers"), world, is_test=True),
    ]
    whole = Records.concatenate(parts)
    whole = replace(whole, reference=np.arange(len(whole), dtype=np.int64))
    rng = stream(seed, "long calls")
    long_calls = _long_calls(rng, world, len(whole))
    first = len(whole) + (int(long_calls.reference.max()) + 1 - len(whole))
    long_sessions = _long_sessions(rng, world, first)
    return _numbered_by_time(Records.concatenate([whole, long_calls, long_sessions]))


def _numbered_by_time(found: Records) -> Records:
    """References that grow with time, as a counter in the network would give them."""
    begins = np.full(int(found.reference.max()) + 1, FOREVER, dtype=np.int64)
    np.minimum.at(begins, found.reference, found.started)
    rank = np.empty(len(begins), dtype=np.int64)
    rank[np.argsort(begins, kind="stable")] = np.arange(len(begins))
    return replace(found, reference=100_000_000 + rank[found.reference])


def _habits(rng: Random, population: Population, window: Window) -> _Habits:
    size = population.size
    minutes = np.array([plan.minutes for plan in network.PLANS])[population.plan]
    megabytes = np.array([plan.megabytes for plan in network.PLANS])[population.plan]
    talk = rng.lognormal(-0.405, 0.9, size)  # mean 1, heavy tail
    surf = rng.lognormal(-0.405, 0.9, size)
    sessions = _SESSIONS * rng.lognormal(-0.08, 0.4, size)
    leaving = population.is_leaving()
    # Leavers use less from the beginning, and so do some who stay.
    mood = np.where(leaving, rng.uniform(0.55, 1.0, size), rng.uniform(0.85, 1.15, size))
    travels = rng.random(size) < 0.025
    travels[: max(1, size // 100)] |= rng.random(max(1, size // 100)) < 0.5
    travels[int(rng.integers(0, size))] = True
    length = rng.integers(2, 10, size)
    last = max(1, window.days - 2)
    abroad_from = np.where(travels & ~leaving, rng.integers(0, last, size), window.days + 5)
    away = (rng.random(size) < 0.14) & ~travels
    away_from = np.where(away, rng.integers(0, last, size), window.days + 5)
    decline_to = population.valid_to.copy()
    wavering = ~leaving & (rng.random(size) < 0.03)
    decline_to[wavering] = window.begins + rng.integers(
        0, window.ends - window.begins, int(wavering.sum())
    )
    days = rng.integers(6, 14, size)
    decline_from = np.where(
        decline_to == FOREVER, FOREVER, np.minimum(decline_to, FOREVER - 1) - days * 86_400
    )
    return _Habits(
        calls_out=0.85 * minutes**0.7 * talk * mood,
        calls_in=(12 + 1.0 * minutes**0.55) * np.sqrt(talk) * mood,
        sms_out=5 * rng.lognormal(-0.5, 1.0, size) * mood,
        sms_in=np.full(size, 18.0) * rng.lognormal(-0.08, 0.4, size),
        sessions=sessions * mood,
        octets=0.72 * megabytes * 1_048_576 * surf / _SESSIONS,
        abroad_from=abroad_from,
        abroad_to=np.minimum(abroad_from + length, np.maximum(window.days, abroad_from + 1)),
        country=rng.choice(
            len(network.COUNTRIES),
            size,
            p=network.shares([country.weight for country in network.COUNTRIES]),
        ),
        away_from=away_from,
        away_to=away_from + rng.integers(1, 8, size),
        away_province=(population.province + rng.integers(1, len(network.PROVINCES), size))
        % len(network.PROVINCES),
        cell_base=rng.integers(0x2800, 0x2FFF, size) * 65_536 + rng.integers(256, 60_000, size),
        calls_abroad=np.where(rng.random(size) < 0.06, rng.uniform(0.05, 0.3, size), 0.001),
        decline_from=decline_from,
        decline_to=decline_to,
        goes_silent=rng.random(size) < 0.3,
    )


def _contacts(rng: Random, population: Population) -> _Contacts:
    """Favourites of every subscriber: our own numbers, other operators' mobiles, fixed lines."""
    shape = (population.size, CONTACTS)
    count = population.size * CONTACTS
    kind = rng.choice(5, count, p=[0.16, 0.17, 0.42, 0.16, 0.09])
    home = np.repeat(population.province, CONTACTS)
    number = np.empty(count, dtype=np.int64)
    operator = np.choose(
        kind, [network.CUCC, network.CUCC, network.CMCC, network.CTCC, network.CUCC]
    )
    own = np.flatnonzero(kind == 0)
    number[own] = population.msisdns[rng.integers(0, population.size, len(own))] % 10**11
    for code, of in ((1, network.CUCC), (2, network.CMCC), (3, network.CTCC)):
        for province in range(len(network.PROVINCES)):
            rows = np.flatnonzero((kind == code) & (home == province))
            near = national_numbers(rng, of, province, len(rows))
            far = national_numbers(rng, of, None, len(rows))
            number[rows] = np.where(rng.random(len(rows)) < 0.8, near, far)
    fixed = np.flatnonzero(kind == 4)
    areas = rng.integers(0, len(network.FIXED_AREAS), len(fixed))
    number[fixed] = fixed_numbers(rng, areas)
    operator[fixed] = np.array([area.operator for area in network.FIXED_AREAS])[areas]
    mobile_prefix = rng.choice(3, count, p=[0.88, 0.10, 0.02])  # plain, +86, 0086
    prefix = np.where(kind == 4, network.ZERO, mobile_prefix)
    return _Contacts(prefix.reshape(shape), number.reshape(shape), operator.reshape(shape))


def _moments(
    rng: Random,
    world: _World,
    rates: Column,
    service: int,
    *,
    abroad: bool = False,
) -> tuple[Column, Numbers, Column]:
    """Who does something and when: subscriber, UTC seconds and civil day of each event."""
    mean = rates * world.window.days / _MONTH_DAYS
    count = rng.poisson(mean)
    who = np.repeat(np.arange(world.population.size), count)
    week = network.week_factors(service)[world.window.weekdays()]
    day = rng.choice(world.window.days, len(who), p=week / week.sum()).astype(np.int64)
    hour = rng.choice(24, len(who), p=network.hour_shares(service))
    second = hour * 3_600 + rng.integers(0, 3_600, len(who))
    at = world.window.at(day, second)
    travelling = (day >= world.habits.abroad_from[who]) & (day < world.habits.abroad_to[who])
    kept = travelling == abroad
    kept &= (at >= world.population.valid_from[who]) & (at < world.population.valid_to[who])
    kept &= rng.random(len(who)) < _liveliness(world.habits, who, at)
    return who[kept], at[kept], day[kept]


def _liveliness(habits: _Habits, who: Column, at: Numbers) -> Column:
    """Share of the usual usage that is left while it declines; 1 outside of the decline."""
    begins, ends = habits.decline_from[who], habits.decline_to[who]
    declining = (at >= begins) & (at < ends)
    span = np.where(declining, ends - begins, 1)
    left = np.where(declining, ends - at, 1) / span
    return np.where(declining, np.where(habits.goes_silent[who], 0.04, 0.75 * left), 1.0)


def _serving(rng: Random, world: _World, who: Column, day: Column) -> tuple[Column, Column]:
    """Province whose network serves each event, and the cell."""
    away = (day >= world.habits.away_from[who]) & (day < world.habits.away_to[who])
    province = np.where(away, world.habits.away_province[who], world.population.province[who])
    cell = world.habits.cell_base[who] + rng.integers(0, 6, len(who)) + away * 65_536 * 64
    return province, cell


def _call_seconds(rng: Random, count: int) -> Column:
    return np.clip(rng.lognormal(4.15, 1.1, count), 1, 3_500).astype(np.int64)


def _trunks(rng: Random, operator: Column, province: Column) -> Column:
    """Code of a trunk group between the province and the operator; 0 for our own network."""
    per_route = network.TRUNKS_PER_ROUTE
    route = (operator - 1) * len(network.PROVINCES) + province
    code = 1 + route * per_route + rng.integers(0, per_route, len(operator))
    return np.where(operator == network.CUCC, 0, code)


def _other_parties(
    rng: Random, world: _World, who: Column, direction: int
) -> tuple[Column, Column, Column]:
    """Prefix, digits and operator of the other party: mostly a favourite, seldom abroad."""
    rank = np.minimum(rng.geometric(0.22, len(who)) - 1, CONTACTS - 1)
    prefix = world.contacts.prefix[who, rank]
    number = world.contacts.number[who, rank]
    operator = world.contacts.operator[who, rank]
    foreign = np.flatnonzero(rng.random(len(who)) < world.habits.calls_abroad[who])
    countries = (world.habits.country[who[foreign]] + (rng.random(len(foreign)) < 0.2)) % len(
        network.COUNTRIES
    )
    number[foreign] = foreign_numbers(rng, countries)
    prefix[foreign] = np.where(rng.random(len(foreign)) < 0.5, network.ZERO_ZERO, network.PLUS)
    operator[foreign] = network.CUCC  # handed over at the international gateway, not here
    if direction == MO:
        short = np.flatnonzero(rng.random(len(who)) < 0.02)
        services = np.array(network.SERVICE_NUMBERS, dtype=np.int64)
        number[short] = services[rng.integers(0, len(services), len(short))]
        prefix[short] = network.PLAIN
        operator[short] = network.CUCC
    return prefix, number, operator


def _calls(
    rng: Random,
    world: _World,
    direction: int,
) -> Records:
    rates = world.habits.calls_out if direction == MO else world.habits.calls_in
    who, at, day = _moments(rng, world, rates, VOICE)
    province, cell = _serving(rng, world, who, day)
    prefix, number, operator = _other_parties(rng, world, who, direction)
    trunk = _trunks(rng, operator, province)
    answered = rng.random(len(who)) >= (0.07 if direction == MO else 0.04)
    if direction == MO:
        answered[:1] = False  # somebody is not reached, however small the carrier
    dropped = answered & (rng.random(len(who)) < 0.008)
    return records(
        len(who),
        source=province,
        service=VOICE,
        direction=direction,
        party=who,
        started=at,
        duration=np.where(answered, _call_seconds(rng, len(who)), 0),
        cell=cell,
        prefix=prefix,
        other=number,
        trunk_in=trunk if direction == MT else 0,
        trunk_out=trunk if direction == MO else 0,
        cause=np.where(dropped, ABNORMAL, NORMAL),
    )


def _messages(
    rng: Random,
    world: _World,
    direction: int,
) -> Records:
    """Short messages; incoming ones come mostly from services (bank, railway, our own)."""
    rates = world.habits.sms_out if direction == MO else world.habits.sms_in
    who, at, day = _moments(rng, world, rates, SMS)
    province, cell = _serving(rng, world, who, day)
    prefix, number, _ = _other_parties(rng, world, who, direction)
    fixed = prefix == network.ZERO  # fixed lines send and get no messages
    services = np.array(network.SERVICE_NUMBERS, dtype=np.int64)
    from_service = fixed | (rng.random(len(who)) < (0.03 if direction == MO else 0.7))
    number = np.where(from_service, services[rng.integers(0, len(services), len(who))], number)
    return records(
        len(who),
        source=province,
        service=SMS,
        direction=direction,
        party=who,
        started=at,
        cell=cell,
        prefix=np.where(from_service, network.PLAIN, prefix),
        other=number,
    )


def _service_calls(rng: Random, world: _World) -> Records:
    """Calls to customer service: now and then by anyone, more often before a leave."""
    leaving = world.population.is_leaving() & (rng.random(world.population.size) < 0.65)
    rates = np.where(leaving, 3.2, 0.12)
    undiminished = np.full_like(world.habits.decline_from, FOREVER)
    lively = replace(world, habits=replace(world.habits, decline_from=undiminished))
    who, at, day = _moments(rng, lively, rates, VOICE)
    late = leaving[who] & (at < world.population.valid_to[who] - 16 * 86_400)
    who, at, day = who[~late], at[~late], day[~late]
    province, cell = _serving(rng, world, who, day)
    return records(
        len(who),
        source=province,
        service=VOICE,
        direction=MO,
        party=who,
        started=at,
        duration=_call_seconds(rng, len(who)) + 60,
        cell=cell,
        other=network.CUSTOMER_SERVICE,
    )


def _special_calls(rng: Random, world: _World, *, is_test: bool) -> Records:
    """Emergency calls, or calls of the numbers kept for tests: valid, but not for rating."""
    count = world.population.scaled(40 if is_test else 60, days=world.window.days)
    steady = np.flatnonzero(
        (world.population.valid_from < world.window.begins)
        & ~world.population.is_leaving()
        & (world.habits.abroad_from > world.window.days)
    )
    who = rng.choice(steady, count)
    day = rng.integers(0, world.window.days, count)
    at = world.window.at(day, rng.integers(0, 86_400, count))
    province, cell = _serving(rng, world, who, day)
    other = np.array(network.EMERGENCY_NUMBERS, dtype=np.int64)[rng.integers(0, 4, count)]
    if is_test:
        who = (
            world.population.size
            + world.population.strangers
            + rng.integers(0, world.population.test_numbers, count)
        )
        other = world.population.msisdns[rng.integers(0, world.population.size, count)] % 10**11
    return records(
        count,
        source=province,
        service=VOICE,
        direction=MO,
        party=who,
        started=at,
        duration=_call_seconds(rng, count),
        cell=cell,
        other=other,
    )


def _octets(rng: Random, mean: Column) -> tuple[Column, Column]:
    """Uplink and downlink of sessions with the given mean volume, heavily tailed."""
    total = mean * rng.lognormal(-0.845, 1.3, len(mean))
    share = rng.beta(2, 14, len(mean))
    uplink = np.maximum(total * share, 40).astype(np.int64)
    return uplink, np.maximum(total * (1 - share), 60).astype(np.int64)


def _sessions(rng: Random, world: _World) -> Records:
    who, at, day = _moments(rng, world, world.habits.sessions, DATA)
    province, cell = _serving(rng, world, who, day)
    uplink, downlink = _octets(rng, world.habits.octets[who])
    return records(
        len(who),
        source=network.FIRST_PACKET_SOURCE + province,
        service=DATA,
        direction=MO,
        party=who,
        started=at,
        duration=np.clip(rng.lognormal(6.2, 1.2, len(who)), 1, 7_100).astype(np.int64),
        cell=cell,
        cause=np.where(rng.random(len(who)) < 0.01, ABNORMAL, NORMAL),
        uplink=uplink,
        downlink=downlink,
    )


def _roaming(rng: Random, world: _World) -> list[Records]:
    """Usage abroad, as the clearing house reports it."""
    found = []
    rates = (
        (VOICE, MO, 0.5 * world.habits.calls_out + 10),
        (VOICE, MT, 0.5 * world.habits.calls_in + 8),
        (SMS, MO, world.habits.sms_out + 4),
        (SMS, MT, world.habits.sms_in),
        (DATA, MO, 0.6 * world.habits.sessions),
    )
    for service, direction, rate in rates:
        who, at, _ = _moments(rng, world, rate, service, abroad=True)
        count = len(who)
        if count == 0:  # the smallest carrier still has someone abroad
            who = np.array([int(np.argmin(world.habits.abroad_from))])
            at = np.maximum(
                world.window.at(
                    world.habits.abroad_from[who].clip(0, world.window.days - 1), np.array([43_200])
                ),
                world.population.valid_from[who],
            )
            count = 1
        local = rng.random(count) < 0.4
        number = np.where(
            local,
            foreign_numbers(rng, world.habits.country[who]),
            86 * 10**11 + national_numbers(rng, network.CMCC, None, count),
        )
        uplink, downlink = _octets(rng, 0.12 * world.habits.octets[who])
        is_data = service == DATA
        duration = {
            VOICE: _call_seconds(rng, count),
            SMS: np.zeros(count, dtype=np.int64),
            DATA: np.clip(rng.lognormal(6.0, 1.0, count), 1, 5_000).astype(np.int64),
        }[service]
        found.append(
            records(
                count,
                source=network.ROAMING_SOURCE,
                service=service,
                direction=direction,
                party=who,
                started=at,
                duration=duration,
                network=1 + world.habits.country[who],
                prefix=network.PLUS,
                other=np.where(is_data, -1, number),
                uplink=uplink if is_data else 0,
                downlink=downlink if is_data else 0,
            )
        )
    return found


def _steady(world: _World) -> Column:
    """Subscribers who are there, and at home, during the whole world.window."""
    return np.flatnonzero(
        (world.population.valid_from < world.window.begins)
        & ~world.population.is_leaving()
        & (world.habits.abroad_from > world.window.days)
        & (world.habits.away_from > world.window.days)
    )


def _long_counts(world: _World, complete: int, incomplete: int) -> tuple[int, int]:
    """How many long calls there are in all, and how many of them never end; never only those."""
    population, days = world.population, world.window.days
    open_ended = population.scaled(incomplete, days=days)
    return open_ended + population.scaled(complete, days=days), open_ended


def _in_parts(
    rng: Random, count: int, incomplete: int, limit: Column
) -> tuple[Column, Column, Column, Column, Column]:
    """Parts of long calls: call, part number, start after the first part, seconds, is last.

    The first `incomplete` calls lose their last part.
    """
    parts = rng.integers(2, 6, count)
    parts[:incomplete] = np.maximum(parts[:incomplete], 3)
    call = np.repeat(np.arange(count), parts)
    number = np.arange(len(call)) - np.repeat(np.cumsum(parts) - parts, parts) + 1
    is_last = number == parts[call]
    seconds = np.where(is_last, rng.integers(30, limit[call]), limit[call])
    kept = ~(is_last & (call < incomplete))
    after = (number - 1) * limit[call]
    return call[kept], number[kept], after[kept], seconds[kept], is_last[kept]


def _long_calls(
    rng: Random,
    world: _World,
    first_reference: int,
) -> Records:
    """Calls the switch wrote in two to five parts; many cross midnight."""
    count, incomplete = _long_counts(world, 150, 20)
    limit = rng.choice([1_800, 3_600], count)
    call, number, after, seconds, is_last = _in_parts(rng, count, incomplete, limit)
    who = rng.choice(_steady(world), count)
    day = rng.integers(0, world.window.days, count)
    evening = rng.random(count) < 0.5
    second = np.where(
        evening, rng.integers(78_000, 86_000, count), rng.integers(30_000, 76_000, count)
    )
    at = world.window.at(day, second)
    direction = (rng.random(count) < 0.35).astype(np.int64)
    province, cell = _serving(rng, world, who, day)
    prefix, other, operator = _other_parties(rng, world, who, MT)
    trunk = _trunks(rng, operator, province)
    return records(
        len(call),
        source=province[call],
        service=VOICE,
        direction=direction[call],
        party=who[call],
        started=at[call] + after,
        duration=seconds,
        cell=cell[call],
        prefix=prefix[call],
        other=other[call],
        trunk_in=np.where(direction == MT, trunk, 0)[call],
        trunk_out=np.where(direction == MO, trunk, 0)[call],
        reference=first_reference + call,
        part=number,
        is_last=is_last,
        cause=np.where(is_last, NORMAL, PARTIAL),
    )


def _long_sessions(rng: Random, world: _World, first_reference: int) -> Records:
    """Data sessions the gateway wrote in parts, each closed by a time or volume limit."""
    count, incomplete = _long_counts(world, 200, 15)
    limit = rng.choice([3_600, 7_200, 14_400], count)
    call, number, after, seconds, is_last = _in_parts(rng, count, incomplete, limit)
    who = rng.choice(_steady(world), count)
    day = rng.integers(0, world.window.days, count)
    at = world.window.at(day, rng.integers(20_000, 86_000, count))
    province, cell = _serving(rng, world, who, day)
    uplink, downlink = _octets(rng, 1.5 * world.habits.octets[who[call]])
    limit_cause = np.where(rng.random(len(call)) < 0.6, TIME_LIMIT, VOLUME_LIMIT)
    return records(
        len(call),
        source=network.FIRST_PACKET_SOURCE + province[call],
        service=DATA,
        direction=MO,
        party=who[call],
        started=at[call] + after,
        duration=seconds,
        cell=cell[call],
        reference=first_reference + call,
        part=number,
        is_last=is_last,
        cause=np.where(is_last, NORMAL, limit_cause),
        uplink=uplink,
        downlink=downlink,
    )
