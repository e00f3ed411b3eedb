"""Orders: how a request becomes a subscription, exactly once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import ValidationError

from operational.crm import service
from operational.crm.products import OrderError
from operational.crm.service import (
    IdempotencyError,
    NewSubscriptionRequest,
    cancel_order,
    place_order,
    save_draft,
    submit_order,
)  # fmt: skip
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ForbiddenError, InvalidRequestError, NotFoundError
from tollhouse.settings import Settings

AGENT = Principal("agent44", "agent44", "agent", "44")


def free_number(settings: Settings, province_code: str = "44") -> str:
    with transaction(settings) as session:
        return service.free_numbers(
            session,
            principal=Principal("admin", "admin", "admin", "00"),
            province_code=province_code,
        )[0]


def test_mobile_numbers_are_offered_before_fixed_ones(operational: Settings, psql: Any) -> None:
    with psql() as connection:
        connection.execute(
            "insert into resource.msisdn (msisdn, province_code, status)"
            " select '862055510' || to_char(number, 'FM000'), '44', 'free'"
            " from generate_series(1, 30) as number"
        )
    with transaction(operational) as session:
        offered = service.free_numbers(session, principal=AGENT, province_code="44")
        at_end = service.free_numbers(session, principal=AGENT, province_code="44", ending="10007")
    kinds = [service.service_type_of(number) for number in offered]
    assert kinds == sorted(kinds, reverse=True)
    assert 0 < kinds.count("fixed") < kinds.count("mobile") <= 20
    assert at_end == ["862055510007"]
    with psql() as connection:
        connection.execute("delete from resource.msisdn where msisdn like '862055510%'")


def request(msisdn: str, **changes: Any) -> NewSubscriptionRequest:
    fields = {
        "province_code": "44", "customer_name": "赵六", "offering_id": "plan-4g-106",
        "msisdn": msisdn,
    } | changes  # fmt: skip
    return NewSubscriptionRequest.model_validate(
        {name: value for name, value in fields.items() if value is not None}
    )


def one(psql: Any, query: str, *values: Any) -> tuple[Any, ...]:
    with psql() as connection:
        row: tuple[Any, ...] = connection.execute(query, values).fetchone()
    return row


def events(psql: Any, order_id: str) -> list[str]:
    with psql() as connection:
        rows = connection.execute(
            "select to_state from crm.customer_order_event where order_id = %s order by event_id",
            (order_id,),
        ).fetchall()
    return [state for (state,) in rows]


def test_an_order_creates_customer_account_subscription_and_plan(
    operational: Settings, psql: Any
) -> None:
    number = free_number(operational)
    order = place_order(operational, principal=AGENT, order_id="O-new", request=request(number))
    assert order.state == "completed"
    found = one(
        psql,
        """
        select cus.name, cus.province_code, acc.bill_language, sub.msisdn, sub.status,
            pri.offering_id, num.status
        from crm.customer_order as ord
        join crm.subscription as sub on sub.subscription_id = ord.subscription_id
        join crm.account as acc on acc.account_id = sub.account_id
        join crm.customer as cus on cus.customer_id = acc.customer_id
        join crm.product_instance as pri on pri.subscription_id = sub.subscription_id
        join resource.msisdn as num on num.msisdn = sub.msisdn
        where ord.order_id = 'O-new' and cus.customer_id = ord.customer_id
        """,
    )
    assert found == ("赵六", "44", "zh", number, "active", "plan-4g-106", "assigned")
    assert events(psql, "O-new") == ["draft", "submitted", "completed"]


def test_ids_of_new_customers_continue_after_the_loaded_ones(
    operational: Settings, psql: Any
) -> None:
    order = place_order(
        operational, principal=AGENT, order_id="O-ids", request=request(free_number(operational))
    )
    assert order.customer_id is not None
    assert order.customer_id > "C0000004"


def test_the_same_order_again_gives_the_same_subscription(operational: Settings, psql: Any) -> None:
    wanted = request(free_number(operational))
    first = place_order(operational, principal=AGENT, order_id="O-twice", request=wanted)
    again = place_order(operational, principal=AGENT, order_id="O-twice", request=wanted)
    assert again.subscription_id == first.subscription_id
    assert events(psql, "O-twice") == ["draft", "submitted", "completed"]


def test_an_order_id_used_for_another_request_is_refused(operational: Settings) -> None:
    number = free_number(operational)
    save_draft(operational, principal=AGENT, order_id="O-reused", request=request(number))
    with pytest.raises(IdempotencyError, match="O-reused"):
        save_draft(
            operational, principal=AGENT, order_id="O-reused",
            request=request(number, offering_id="plan-4g-56"),
        )  # fmt: skip


def test_an_existing_customer_gets_a_second_number_on_the_same_account(
    operational: Settings, psql: Any
) -> None:
    order = place_order(
        operational, principal=AGENT, order_id="O-second",
        request=request(
            free_number(operational), customer_name=None, customer_id="C0000001",
            account_id="A0000001",
        ),
    )  # fmt: skip
    assert order.customer_id == "C0000001"
    assert one(
        psql, "select account_id from crm.subscription where subscription_id = %s",
        order.subscription_id,
    ) == ("A0000001",)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"msisdn": "8618600000001"}, "is assigned; choose another number"),
        ({"msisdn": "8613900000000"}, "not in the pool of province 44"),
        ({"offering_id": "plan-3g-1"}, "plan plan-3g-1 is not on sale"),
        ({"customer_name": None, "customer_id": "C0000003"}, "there is no customer C0000003"),
        (
            {"customer_name": None, "customer_id": "C0000001", "account_id": "A0000002"},
            "account A0000002 does not belong to customer C0000001",
        ),
    ],
)
def test_an_order_that_cannot_be_completed_fails_and_leaves_nothing_behind(
    operational: Settings, psql: Any, changes: dict[str, Any], message: str
) -> None:
    order_id = f"O-fails-{message[:20]}"
    number = free_number(operational)
    everything = (
        "select (select count(*) from crm.customer), (select count(*) from crm.account),"
        " (select count(*) from crm.subscription),"
        " (select count(*) from resource.msisdn where status = 'free')"
    )
    before = one(psql, everything)
    with pytest.raises(OrderError, match=message):
        place_order(
            operational, principal=AGENT, order_id=order_id,
            request=request(**({"msisdn": number} | changes)),
        )  # fmt: skip
    assert one(psql, everything) == before
    assert events(psql, order_id) == ["draft", "submitted", "failed"]
    with pytest.raises(OrderError, match="failed; place a new order"):
        submit_order(operational, principal=AGENT, order_id=order_id)


def test_a_number_that_somebody_has_is_refused_even_if_the_pool_calls_it_free(
    operational: Settings, psql: Any
) -> None:
    with psql() as connection:
        connection.execute(
            "update resource.msisdn set status = 'free' where msisdn = '8618600000004'"
        )
    try:
        with pytest.raises(OrderError, match="choose another number"):
            place_order(
                operational, principal=Principal("admin", "admin", "admin", "00"),
                order_id="O-wrong-pool", request=request("8618600000004", province_code="51"),
            )  # fmt: skip
        assert events(psql, "O-wrong-pool") == ["draft", "submitted", "failed"]
    finally:
        with psql() as connection:
            connection.execute(
                "update resource.msisdn set status = 'assigned' where msisdn = '8618600000004'"
            )


def test_of_many_orders_for_a_number_at_once_exactly_one_is_completed(
    operational: Settings, psql: Any
) -> None:
    number = free_number(operational)
    rivals = 6
    barrier = threading.Barrier(rivals)
    outcomes: list[str] = []

    def order(position: int) -> None:
        barrier.wait(timeout=30)
        try:
            place_order(
                operational, principal=AGENT, order_id=f"O-rival-{position}",
                request=request(number, customer_name=f"客户{position}"),
            )  # fmt: skip
            outcomes.append("completed")
        except OrderError:
            outcomes.append("failed")

    threads = [threading.Thread(target=order, args=(position,)) for position in range(rivals)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(outcomes) == ["completed"] + ["failed"] * (rivals - 1)
    assert one(psql, "select count(*) from crm.subscription where msisdn = %s", number) == (1,)


def test_one_order_placed_many_times_at_once_is_completed_once(
    operational: Settings, psql: Any
) -> None:
    number = free_number(operational)
    subscriptions: list[str | None] = []

    def order() -> None:
        placed = place_order(
            operational, principal=AGENT, order_id="O-parallel", request=request(number)
        )
        subscriptions.append(placed.subscription_id)

    threads = [threading.Thread(target=order) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(subscriptions) == 4
    assert len(set(subscriptions)) == 1
    assert events(psql, "O-parallel") == ["draft", "submitted", "completed"]


def test_an_order_interrupted_after_submission_is_completed_when_submitted_again(
    operational: Settings, psql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = request(free_number(operational))

    def interrupted(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(service, "_complete", interrupted)
        place_order(operational, principal=AGENT, order_id="O-killed", request=wanted)
    assert events(psql, "O-killed") == ["draft", "submitted"]
    order = place_order(operational, principal=AGENT, order_id="O-killed", request=wanted)
    assert order.state == "completed"


def test_a_draft_can_be_cancelled_and_a_completed_order_cannot(operational: Settings) -> None:
    save_draft(
        operational, principal=AGENT, order_id="O-draft", request=request(free_number(operational))
    )
    assert cancel_order(operational, principal=AGENT, order_id="O-draft").state == "cancelled"
    place_order(
        operational, principal=AGENT, order_id="O-done", request=request(free_number(operational))
    )
    with pytest.raises(OrderError, match="may go to none"):
        cancel_order(operational, principal=AGENT, order_id="O-done")


def test_an_agent_orders_in_the_own_province_only(operational: Settings) -> None:
    with pytest.raises(InvalidRequestError, match="province 11"):
        place_order(
            operational, principal=AGENT, order_id="O-11",
            request=request(free_number(operational, "11"), province_code="11"),
        )  # fmt: skip
    admin = Principal("admin", "admin", "admin", "00")
    save_draft(
        operational, principal=admin, order_id="O-of-11",
        request=request(free_number(operational, "11"), province_code="11"),
    )  # fmt: skip
    with pytest.raises(NotFoundError):
        submit_order(operational, principal=AGENT, order_id="O-of-11")


def test_an_analyst_places_no_orders(operational: Settings) -> None:
    analyst = Principal("analyst", "analyst", "analyst", "00")
    with pytest.raises(ForbiddenError, match=r"order\.place"):
        place_order(
            operational, principal=analyst, order_id="O-analyst",
            request=request(free_number(operational)),
        )  # fmt: skip


def test_a_request_names_one_customer(operational: Settings) -> None:
    with pytest.raises(ValidationError, match="not both"):
        request("8618500000000", customer_id="C0000001")
    with pytest.raises(ValidationError, match="not both"):
        request("8618500000000", customer_name=None)


def test_every_step_of_an_order_is_audited_without_personal_data(
    operational: Settings, psql: Any
) -> None:
    number = free_number(operational)
    place_order(operational, principal=AGENT, order_id="O-audit", request=request(number))
    with psql() as connection:
        rows = connection.execute(
            "select username, action, detail::text from identity.audit_log"
            " where entity_id = 'O-audit' order by id"
        ).fetchall()
    assert [(user, action) for user, action, _ in rows] == [
        ("agent44", "save_order"), ("agent44", "order_submitted"), ("agent44", "order_completed"),
    ]  # fmt: skip
    assert not any(number in detail or "赵六" in detail for _, _, detail in rows)
