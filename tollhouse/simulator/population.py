"""Who the carrier serves: customers, accounts, subscriptions, numbers, payments.

`Population` holds the columns the traffic needs; `operational_tables` writes the same people as
rows of the operational database.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tollhouse.simulator import network
from tollhouse.simulator.civil_time import Window
from tollhouse.simulator.numbering import (
    Numbers,
    Random,
    distinct_imsis,
    distinct_msisdns,
    imeis,
    stream,
)

FOREVER = np.iinfo(np.int64).max
JOINING_SHARE = 0.05
LEAVING_SHARE = 0.06
_FAMILY_LINES = 8  # customers with more lines than this are companies
_FIRST_OFFER_S = 1_404_144_000  # 2014-06-30T16:00Z: every plan is on sale by then
_SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕"
_GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰涛明超秀霞平刚桂英华玉萍红玲建国文辉力鑫宇浩轩子涵梓欣怡佳"
_COMPANY = ("晨星", "远航", "蓝桥", "宏图", "青松", "长风", "瑞丰", "天衡", "云岭", "海纳")
_TRADE = ("科技", "贸易", "物流", "制造", "餐饮", "咨询")
_BANK_CENTS = np.array([0, 15, 30, 45, 60, 85])


@dataclass(frozen=True)
class Population:
    """Columns of the subscriptions, and behind them the served numbers that nobody owns.

    `msisdns`, `imsis` and `imeis` are as long as subscriptions, strangers and test numbers
    together, in this order; the other columns have one row a subscription.
    """

    size: int
    strangers: int
    test_numbers: int
    msisdns: Numbers
    imsis: Numbers
    imeis: Numbers
    province: NDArray[np.int64]
    plan: NDArray[np.int64]
    account: NDArray[np.int64]
    customer_of_account: NDArray[np.int64]
    is_business_account: NDArray[np.bool_]
    valid_from: Numbers
    valid_to: Numbers
    free_msisdns: tuple[Numbers, ...]  # by province

    @property
    def accounts(self) -> int:
        """Number of accounts."""
        return len(self.customer_of_account)

    @property
    def customers(self) -> int:
        """Number of customers."""
        return int(self.customer_of_account[-1]) + 1

    def scaled(self, base: int, *, days: int) -> int:
        """A count given for 2,000 subscribers and a month, scaled to this carrier; at least 1."""
        return max(1, round(base * self.size * days / (2_000 * 31)))

    def is_leaving(self) -> NDArray[np.bool_]:
        """Whether the subscription ends inside the window."""
        return np.not_equal(self.valid_to, FOREVER)


def populate(*, size: int, seed: int, window: Window) -> Population:
    """Draw the carrier's subscriptions, their owners and their numbers."""
    rng = stream(seed, "population")
    account, customer_of_account = _hierarchy(rng, size)
    customers = int(customer_of_account[-1]) + 1
    customer_province = rng.choice(
        len(network.PROVINCES),
        customers,
        p=network.shares([province.share for province in network.PROVINCES]),
    )
    customer_province[: min(3, customers)] = np.arange(min(3, customers))
    province = customer_province[customer_of_account[account]]
    valid_from, valid_to = _validity(rng, size, window)
    strangers = max(4, size // 20)
    test_numbers = max(2, min(999, size // 200))
    msisdns = np.empty(size + strangers + test_numbers, dtype=np.int64)
    free: list[Numbers] = []
    stranger_province = np.arange(strangers) % len(network.PROVINCES)
    for index in range(len(network.PROVINCES)):
        own = np.flatnonzero(province == index)
        foreign = size + np.flatnonzero(stranger_province == index)
        spare = 300
        numbers = distinct_msisdns(rng, index, len(own) + len(foreign) + spare)
        msisdns[own] = numbers[: len(own)]
        msisdns[foreign] = numbers[len(own) : len(own) + len(foreign)]
        free.append(np.sort(numbers[len(own) + len(foreign) :]))
    msisdns[size + strangers :] = int(network.TEST_MSISDN_PREFIX) * 1_000 + np.arange(test_numbers)
    parties = np.arange(len(msisdns), dtype=np.int64)
    business = rng.random(customers) < 0.06
    business |= np.bincount(customer_of_account[account], minlength=customers) > _FAMILY_LINES
    business[:1] = True
    return Population(
        size=size,
        strangers=strangers,
        test_numbers=test_numbers,
        msisdns=msisdns,
        imsis=distinct_imsis(parties),
        imeis=imeis(rng, parties),
        province=province.astype(np.int64),
        plan=rng.choice(
            len(network.PLANS), size, p=network.shares([plan.share for plan in network.PLANS])
        ).astype(np.int64),
        account=account,
        customer_of_account=customer_of_account,
        is_business_account=business[customer_of_account],
        valid_from=valid_from,
        valid_to=valid_to,
        free_msisdns=tuple(free),
    )


def _hierarchy(rng: Random, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Account of every subscription, customer of every account (both without holes)."""
    lines = rng.choice([1, 2, 3, 4, 12], size, p=[0.855, 0.07, 0.05, 0.02, 0.005])
    lines[:2] = (3, 2)  # a family and a customer with two accounts in every population
    account = np.repeat(np.arange(size), lines)[:size]
    accounts = int(account[-1]) + 1
    owned = rng.choice([1, 2, 3], accounts, p=[0.97, 0.02, 0.01])
    owned[1] = 2
    return account, np.repeat(np.arange(accounts), owned)[:accounts]


def _validity(rng: Random, size: int, window: Window) -> tuple[Numbers, Numbers]:
    """Start and end of every subscription; about 5 % join and 6 % leave inside the window.

    Young subscriptions leave more often: the chance falls with tenure.
    """
    tenure = np.maximum(rng.exponential(3.2 * 365 * 86_400, size), 86_400).astype(np.int64)
    valid_from = np.maximum(window.begins - tenure, _FIRST_OFFER_S + rng.integers(0, 10**7, size))
    length = window.ends - window.begins
    weight = 0.25 + np.exp(-(window.begins - valid_from) / (300 * 86_400))
    leaving = rng.choice(
        size, max(1, round(LEAVING_SHARE * size)), replace=False, p=weight / weight.sum()
    )
    valid_to = np.full(size, FOREVER, dtype=np.int64)
    # Some days of usage come before the earliest leave, so that a decline can be seen.
    earliest = min(7 * 86_400, length // 3)
    valid_to[leaving] = window.begins + rng.integers(earliest, length, len(leaving))
    staying = np.flatnonzero(valid_to == FOREVER)
    joining = rng.choice(staying, max(1, round(JOINING_SHARE * size)), replace=False)
    valid_from[joining] = window.begins + rng.integers(0, max(1, length * 9 // 10), len(joining))
    return valid_from, valid_to


def operational_tables(population: Population, *, seed: int, window: Window) -> dict[str, pa.Table]:
    """Rows of the operational database by ``schema.table``."""
    rng = stream(seed, "operational")
    codes = np.array([province.code for province in network.PROVINCES])
    first_line = np.unique(population.account, return_index=True)[1]
    account_province = population.province[first_line]
    first_account = np.unique(population.customer_of_account, return_index=True)[1]
    customer_province = account_province[first_account]
    lines = np.bincount(
        population.customer_of_account[population.account], minlength=population.customers
    )
    business = population.is_business_account[first_account]
    kind = np.where(business, "group", np.where(lines > 1, "household", "individual"))
    names = _names(rng, business)
    customer_ids = _ids("C", population.customers)
    account_ids = _ids("A", population.accounts)
    subscription_ids = _ids("S", population.size)
    account_is_open = (
        np.bincount(population.account, population.valid_to == FOREVER, population.accounts) > 0
    )
    validity = {
        "valid_from": _timestamps(population.valid_from),
        "valid_to": _timestamps(population.valid_to),
    }
    province_codes = pa.array(codes[population.province])
    leaving = population.is_leaving()
    return {
        "crm.customer": pa.table(
            {
                "customer_id": customer_ids,
                "customer_type": pa.array(kind),
                "name": pa.array(names),
                "id_number": pa.array(_identity_numbers(codes[customer_province])),
                "segment": pa.array(
                    np.where(business, "enterprise", np.where(lines > 1, "family", "mass"))
                ),
                "province_code": pa.array(codes[customer_province]),
            }
        ),
        "crm.account": pa.table(
            {
                "account_id": account_ids,
                "customer_id": customer_ids.take(pa.array(population.customer_of_account)),
                "account_name": pa.array(names).take(pa.array(population.customer_of_account)),
                "bill_language": pa.array(
                    np.where(rng.random(population.accounts) < 0.05, "en", "zh")
                ),
                "status": pa.array(np.where(account_is_open, "active", "closed")),
                "province_code": pa.array(codes[account_province]),
            }
        ),
        "crm.subscription": pa.table(
            {
                "subscription_id": subscription_ids,
                "account_id": account_ids.take(pa.array(population.account)),
                "msisdn": pa.array(population.msisdns[: population.size]).cast(pa.string()),
                "imsi": pa.array(population.imsis[: population.size]).cast(pa.string()),
                "service_type": pa.array(np.full(population.size, "mobile")),
                "payment_type": pa.array(
                    np.where(rng.random(population.size) < 0.2, "prepaid", "postpaid")
                ),
                "status": pa.array(np.where(leaving, "terminated", "active")),
                **validity,
                "province_code": province_codes,
            }
        ),
        "crm.product_instance": pa.table(
            {
                "product_instance_id": _ids("I", population.size),
                "subscription_id": subscription_ids,
                "offering_id": pa.array([plan.offering_id for plan in network.PLANS]).take(
                    pa.array(population.plan)
                ),
                "role": pa.array(np.full(population.size, "plan")),
                **validity,
            }
        ),
        "resource.msisdn": _number_pool(population, codes),
        "billing.payment": _payments(rng, population, window, account_ids, codes[account_province]),
        "settlement.trunk_group": _trunk_groups(),
    }


def _names(rng: Random, business: NDArray[np.bool_]) -> list[str]:
    count = len(business)
    surname = rng.integers(0, len(_SURNAMES), count).tolist()
    given = rng.integers(0, len(_GIVEN), (count, 2)).tolist()
    single = (rng.random(count) < 0.2).tolist()
    company = rng.integers(0, [len(_COMPANY), len(_TRADE)], (count, 2)).tolist()
    return [
        f"{_COMPANY[brand]}{_TRADE[trade]}示例{number:03d}号有限公司"
        if is_business
        else _SURNAMES[family] + _GIVEN[one] + ("" if short else _GIVEN[two])
        for number, (is_business, family, (one, two), short, (brand, trade)) in enumerate(
            zip(business.tolist(), surname, given, single, company, strict=True), start=1
        )
    ]


def _identity_numbers(province_codes: NDArray[np.str_]) -> list[str]:
    """Numbers shaped like an identity number that can belong to nobody.

    The region is never issued, the birth date is a serial, the check digit (GB 11643) is wrong.
    """
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    result = []
    for serial, province_code in enumerate(province_codes.tolist(), start=1):
        body = f"{province_code}0000{serial:08d}000"
        total = sum(int(digit) * weight for digit, weight in zip(body, weights, strict=True))
        right = "10X98765432"[total % 11]
        result.append(body + ("0" if right != "0" else "1"))
    return result


def _number_pool(population: Population, codes: NDArray[np.str_]) -> pa.Table:
    used = population.msisdns[: population.size]
    pools = [
        np.concatenate([mobile, network.free_fixed_numbers(province)])
        for mobile, province in zip(population.free_msisdns, network.PROVINCES, strict=True)
    ]
    free = np.concatenate(pools)
    free_province = np.repeat(np.arange(len(pools)), [len(pool) for pool in pools])
    # A number given up rests before it is given out again.
    status = np.concatenate(
        [np.where(population.is_leaving(), "reserved", "assigned"), np.full(len(free), "free")]
    )
    return pa.table(
        {
            "msisdn": pa.array(np.concatenate([used, free])).cast(pa.string()),
            "province_code": pa.array(codes[np.concatenate([population.province, free_province])]),
            "status": pa.array(status),
        }
    ).sort_by("msisdn")


def _payments(
    rng: Random,
    population: Population,
    window: Window,
    account_ids: pa.StringArray,
    province_codes: NDArray[np.str_],
) -> pa.Table:
    """One payment for most accounts, a second one for a few; amounts around the plans' fees."""
    fees = np.array([plan.fee for plan in network.PLANS])
    monthly = np.bincount(population.account, fees[population.plan]).astype(np.int64)
    opened = np.full(population.accounts, FOREVER, dtype=np.int64)
    np.minimum.at(opened, population.account, population.valid_from)
    times = rng.choice([0, 1, 2], population.accounts, p=[0.13, 0.76, 0.11])
    account = np.repeat(np.arange(population.accounts), times)
    channel = rng.choice(4, len(account), p=[0.62, 0.18, 0.12, 0.08])
    # By bank the bill to the cent, otherwise a round sum.
    exact = monthly[account] * 100 + rng.integers(0, 40, len(account)) * 100
    exact += _BANK_CENTS[rng.integers(0, len(_BANK_CENTS), len(account))]
    rounded = -(-monthly[account] // 50) * 5_000
    fen = np.where(channel == 1, exact, rounded)
    earliest = np.maximum(opened[account], window.begins)
    paid_at = earliest + ((window.ends - earliest) * rng.random(len(account))).astype(np.int64)
    order = np.lexsort((account, paid_at))
    account, channel, fen, paid_at = account[order], channel[order], fen[order], paid_at[order]
    payment_ids = _ids("P", len(account))
    amounts = [Decimal(cents).scaleb(-2) for cents in fen.tolist()]
    return pa.table(
        {
            "payment_id": payment_ids,
            "account_id": account_ids.take(pa.array(account)),
            "paid_at": _timestamps(paid_at),
            "amount": pa.array(amounts, type=pa.decimal128(18, 2)),
            "currency_code": pa.array(np.full(len(account), "CNY")),
            "channel": pa.array(np.array(["online", "bank", "counter", "card"])[channel]),
            "idempotency_key": pa.array([f"simulated-{key}" for key in payment_ids.to_pylist()]),
            "province_code": pa.array(province_codes[account]),
        }
    )


def _trunk_groups() -> pa.Table:
    rows = [
        {
            "trunk_group_id": network.trunk_group_id(operator, province_code, direction, number),
            "operator_code": operator,
            "direction": direction,
            "province_code": province_code,
        }
        for operator, province_code, number in network.TRUNKS
        for direction in ("in", "out")
    ]
    return pa.Table.from_pylist(rows)


def _ids(letter: str, count: int) -> pa.StringArray:
    """Identifiers like ``S0000001``, counted from 1."""
    return pa.array([f"{letter}{number:07d}" for number in range(1, count + 1)])


def _timestamps(seconds: Numbers) -> pa.TimestampArray:
    """UTC timestamps; FOREVER becomes null."""
    return (
        pa.array(seconds, mask=seconds == FOREVER)
        .cast(pa.timestamp("s", tz="UTC"))
        .cast(pa.timestamp("us", tz="UTC"))
    )
