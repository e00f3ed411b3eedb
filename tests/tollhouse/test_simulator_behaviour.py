"""The invented subscribers behave enough like real ones for tariffs, reports and scores."""

from __future__ import annotations

import numpy as np
import pytest

from tollhouse.simulator import network
from tollhouse.simulator.civil_time import LocalClock, Window
from tollhouse.simulator.population import FOREVER, Population, populate
from tollhouse.simulator.traffic import Records, generate

WINDOW = Window.of(cycle="2026-10", days=None, zone="Asia/Shanghai")


@pytest.fixture(scope="module")
def population() -> Population:
    return populate(size=1_000, seed=3, window=WINDOW)


@pytest.fixture(scope="module")
def traffic(population: Population) -> Records:
    return generate(population, seed=3, window=WINDOW)


def settled(population: Population) -> np.ndarray:
    return (population.valid_from < WINDOW.begins) & (population.valid_to == FOREVER)


def test_a_subscriber_makes_about_150_records_a_month(traffic: Records) -> None:
    assert 120 <= len(traffic) / 1_000 <= 180


def test_calls_are_rare_at_night_and_frequent_in_the_morning(traffic: Records) -> None:
    hours = (traffic.started + 8 * 3_600) % 86_400 // 3_600
    calls = np.bincount(hours[traffic.service == network.VOICE], minlength=24)
    assert calls[2:5].max() * 10 < calls[10]


def test_some_but_not_most_exceed_the_minutes_and_the_data_of_their_plan(
    population: Population, traffic: Records
) -> None:
    plans = network.PLANS
    minutes = np.array([plan.minutes for plan in plans])[population.plan]
    megabytes = np.array([plan.megabytes for plan in plans])[population.plan]
    own = traffic.take((traffic.party < population.size) & (traffic.network == 0))
    calls = own.take((own.service == network.VOICE) & (own.direction == network.MO))
    talked = np.bincount(calls.party, -(-calls.duration // 60), population.size)
    surfed = np.bincount(own.party, own.uplink + own.downlink, population.size) / 2**20
    stable = settled(population)
    assert 0.02 <= (talked > minutes)[stable].mean() <= 0.25
    assert 0.08 <= (surfed > megabytes)[stable].mean() <= 0.40


def test_usage_falls_before_a_leave(population: Population, traffic: Records) -> None:
    ends = np.append(
        population.valid_to,
        np.full(population.strangers + population.test_numbers, FOREVER, dtype=np.int64),
    )[traffic.party]
    days_left = (ends - traffic.started) / 86_400
    last = ((days_left > 0) & (days_left <= 4)).sum()
    eligible = (ends - WINDOW.begins) / 86_400 > 16  # whose earlier days lie inside the window
    before = (eligible & (days_left > 12) & (days_left <= 16)).sum()
    assert last < before


def test_leavers_call_customer_service_more_often(population: Population, traffic: Records) -> None:
    calls = traffic.take(
        (traffic.service == network.VOICE) & (traffic.other == network.CUSTOMER_SERVICE)
    )
    called = np.bincount(calls.party, minlength=population.size)[: population.size] > 0
    assert called[population.is_leaving()].mean() > 1.5 * called[settled(population)].mean()


def test_local_clocks_follow_daylight_saving() -> None:
    clock = LocalClock("Europe/Berlin", WINDOW.begins, WINDOW.ends)
    change = 1_792_890_000  # 2026-10-25T01:00Z
    readings = clock.reading(np.array([change - 1, change]))
    assert readings.tolist() == [20261025025959, 20261025020000]
    assert clock.offset(np.array([change - 1, change])).tolist() == [7_200, 3_600]
