"""Friend numbers, groups with short numbers and fixed lines: what may be, and what is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from operational.crm import relations
from operational.crm.products import OrderError
from operational.crm.relations import RelationError, add_friend_number, add_member
from operational.crm.service import NewSubscriptionRequest, place_order, service_type_of
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ForbiddenError, InvalidRequestError, NotFoundError
from tollhouse.settings import Settings

AGENT = Principal("agent44", "agent44", "agent", "44")
OTHER = Principal("agent11", "agent11", "agent", "11")
ADMIN = Principal("admin", "admin", "admin", "00")
ANALYST = Principal("analyst", "analyst", "analyst", "00")
LINE, SECOND = "S0000001", "S0000002"  # of province 44
TOMORROW = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture(autouse=True)
def unrelated(psql: Any) -> Iterator[None]:
    """Whatever a test relates is unrelated after it."""
    yield
    with psql() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("delete from crm.friend_number")
        connection.execute("delete from crm.call_group_member")
        connection.execute("delete from crm.call_group")
        connection.execute("update crm.customer set customer_type = 'individual'")


@pytest.fixture
def group_id(operational: Settings, psql: Any) -> str:
    """A group of the first customer, who is a group customer then."""
    with psql() as connection:
        connection.execute(
            "update crm.customer set customer_type = 'group' where customer_id = 'C0000001'"
        )
    group = relations.create_call_group(
        operational, principal=AGENT, customer_id="C0000001", name="研发部"
    )
    return group.call_group_id


def befriend(settings: Settings, number: str, **changes: Any) -> Any:
    asked = {"principal": AGENT, "subscription_id": LINE, "number": number} | changes
    return add_friend_number(settings, **asked)


def friends_of(settings: Settings, subscription_id: str = LINE) -> list[str]:
    with transaction(settings) as session:
        found = relations.friend_numbers(session, principal=ADMIN, subscription_id=subscription_id)
        return [row.number for row in found]


def join(settings: Settings, group_id: str, line: str, short: str, **changes: Any) -> Any:
    asked = {"principal": AGENT, "call_group_id": group_id, "subscription_id": line,
             "short_number": short} | changes  # fmt: skip
    return add_member(settings, **asked)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("13812345678", "8613812345678"), ("138 1234 5678", "8613812345678"),
        ("+86 138-1234-5678", "8613812345678"), ("008613812345678", "8613812345678"),
        ("010-65551234", "861065551234"), ("(0755)86001234", "8675586001234"),
        ("8613812345678", "8613812345678"), ("+44 20 7946 0000", "442079460000"),
    ],
)  # fmt: skip
def test_a_number_is_understood_as_people_write_it(written: str, number: str) -> None:
    assert relations.e164(written) == number


@pytest.mark.parametrize("written", ["", "66001", "abc", "0", "+", "138123456789012345", "١٣٨"])
def test_what_is_no_number_is_refused(written: str) -> None:
    with pytest.raises(InvalidRequestError, match="not a phone number"):
        relations.e164(written)


def test_a_friend_number_holds_from_now_until_it_is_ended(operational: Settings, psql: Any) -> None:
    first = befriend(operational, "13812345678")
    assert befriend(operational, "+8613812345678").friend_number_id == first.friend_number_id
    assert friends_of(operational) == ["8613812345678"]
    ended = [
        relations.end_friend_number(
            operational, principal=AGENT, subscription_id=LINE,
            friend_number_id=first.friend_number_id,
        ).valid_to
        for _ in range(2)
    ]  # fmt: skip
    assert ended[0] is not None and ended[0] == ended[1]
    assert friends_of(operational) == []
    again = befriend(operational, "13812345678")
    assert again.friend_number_id != first.friend_number_id
    with psql() as connection:
        actions = connection.execute(
            "select action from identity.audit_log where entity_id = %s order by id desc"
            " limit 3", (LINE,),
        ).fetchall()  # fmt: skip
    assert [action for (action,) in actions] == [
        "add_friend_number", "end_friend_number", "add_friend_number",
    ]  # fmt: skip


def test_a_friend_to_come_may_be_given_up_before_it_begins(operational: Settings) -> None:
    friend = befriend(operational, "13812345678", valid_from=TOMORROW)
    assert friend.valid_from == TOMORROW
    ended = relations.end_friend_number(
        operational, principal=AGENT, subscription_id=LINE, friend_number_id=friend.friend_number_id
    )
    assert ended.valid_to == TOMORROW
    befriend(operational, "13812345678")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"number": "18600000001"}, RelationError, "number of the line itself"),
        ({"valid_from": datetime(2026, 1, 1, tzinfo=UTC)}, InvalidRequestError, "in the past"),
        ({"subscription_id": "S9999999"}, NotFoundError, "no subscription"),
        ({"principal": OTHER}, NotFoundError, "no subscription"),
        ({"principal": ANALYST}, ForbiddenError, "role"),
    ],
)
def test_a_friend_number_that_cannot_be_is_refused(
    operational: Settings, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        befriend(operational, changes.pop("number", "13812345678"), **changes)
    assert friends_of(operational) == []


def test_a_line_is_in_one_group_and_a_short_number_is_one_member_s(
    operational: Settings, group_id: str
) -> None:
    member = join(operational, group_id, LINE, "66001")
    again = join(operational, group_id, LINE, "66001")
    assert again.call_group_member_id == member.call_group_member_id
    with pytest.raises(RelationError, match="in a group already"):
        join(operational, group_id, LINE, "66009")
    with pytest.raises(RelationError, match="another member has this short number"):
        join(operational, group_id, SECOND, "66001")
    relations.end_member(
        operational, principal=AGENT, call_group_id=group_id,
        call_group_member_id=member.call_group_member_id,
    )  # fmt: skip
    join(operational, group_id, SECOND, "66001")
    with transaction(operational) as session:
        members = relations.members_of(session, principal=AGENT, call_group_id=group_id)
    assert [(row.subscription_id, row.short_number) for row in members] == [(SECOND, "66001")]


@pytest.mark.parametrize("short", ["", "12", "110", "10010", "95588", "0661", "6600111", "66a"])
def test_numbers_of_services_and_areas_are_no_short_numbers(
    operational: Settings, group_id: str, short: str
) -> None:
    with pytest.raises(InvalidRequestError, match="a short number has"):
        join(operational, group_id, LINE, short)


def test_only_a_group_customer_has_groups_each_by_its_name_once(
    operational: Settings, group_id: str
) -> None:
    def create(customer_id: str, name: str) -> str:
        return relations.create_call_group(
            operational, principal=AGENT, customer_id=customer_id, name=name
        ).call_group_id

    assert create("C0000001", " 研发部 ") == group_id
    assert create("C0000001", "销售部") != group_id
    with pytest.raises(RelationError, match="not a group"):
        create("C0000002", "家")
    with pytest.raises(InvalidRequestError, match="name"):
        create("C0000001", " ")
    with pytest.raises(NotFoundError):
        create("C0000003", "别省")


@pytest.mark.parametrize(
    "statement",
    [
        "update crm.friend_number set number = '8613900000000'",
        "update crm.friend_number set valid_from = now() - interval '30 days'",
        "update crm.friend_number set valid_to = now() - interval '1 day'",
        "delete from crm.friend_number",
        "update crm.call_group_member set short_number = '66999'",
        "delete from crm.call_group_member",
    ],
)
def test_the_database_keeps_what_calls_were_priced_by(
    operational: Settings, psql: Any, group_id: str, statement: str
) -> None:
    befriend(operational, "13812345678")
    join(operational, group_id, LINE, "66001")
    with pytest.raises(psycopg.errors.RestrictViolation), psql() as connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    "row",
    [
        "'S0000001', '8613812345678', '2026-02-01', null",
        "'S0000001', '8613812345678', '2025-01-01', '2026-01-02'",
    ],
)
def test_the_database_refuses_a_friend_twice_at_a_time(psql: Any, row: str) -> None:
    insert = "insert into crm.friend_number (subscription_id, number, valid_from, valid_to) values"
    with pytest.raises(psycopg.errors.ExclusionViolation), psql() as connection:
        connection.execute(f"{insert} ('S0000001', '8613812345678', '2026-01-01', null)")
        connection.execute(f"{insert} ('S0000002', '8613812345678', '2026-01-01', null)")
        connection.execute(f"{insert} ({row})")


def test_the_pages_name_end_and_show_relations(
    browser: Callable[..., TestClient], psql: Any, group_id: str
) -> None:
    client = browser("agent44", "en")

    def send(path: str, page: str, **fields: str) -> Any:
        token = re.findall(r'name="csrf_token" value="(\w+)"', client.get(page).text)[0]
        return client.post(path, data={"csrf_token": token} | fields)

    line = f"/subscriptions/{LINE}"
    assert send(f"{line}/friend-numbers", line, number="138 1234 5678").status_code == 303
    assert "8613812345678" in client.get(line).text
    (ending,) = re.findall(rf'"({line}/friend-numbers/\d+/end)"', client.get(line).text)
    assert send(ending, line).status_code == 303
    assert "No friend numbers" in client.get(line).text
    refused = send(f"{line}/friend-numbers", line, number="x")
    assert (refused.status_code, "not a phone number" in refused.text) == (422, True)
    group = f"/call-groups/{group_id}"
    joined = send(f"{group}/members", group, subscription_id=LINE.lower(), short_number="66001")
    assert joined.status_code == 303
    assert "研发部" in client.get(line).text
    assert "66001" in client.get(group).text
    assert "8618600000001" in client.get(group).text
    assert "8618600000001" not in browser("analyst").get(group).text
    with psql() as connection:
        connection.execute("update crm.call_group set province_code = '11'")
    assert client.get(group).status_code == 404


def test_the_interface_names_ends_and_lists_relations(application: Any, group_id: str) -> None:
    sign_in = ("agent44", "tollhouse")
    friend = f"/tmf-api/serviceInventory/v4/service/{LINE}/friendNumber"
    member = f"/tmf-api/partyManagement/v4/callGroup/{group_id}/member"
    with TestClient(application) as client:
        made = client.post(friend, json={"number": "13812345678"}, auth=sign_in)
        assert made.status_code == 201
        assert client.get(friend, auth=sign_in).json() == [made.json()]
        ended = client.post(f"{friend}/{made.json()['id']}/end", auth=sign_in).json()
        assert ended["validTo"] is not None
        assert client.get(friend, auth=sign_in).json() == []
        beyond = client.post(f"{friend}/{10**30}/end", auth=sign_in)
        assert beyond.status_code == 404
        body = {"subscriptionId": LINE, "shortNumber": "66001"}
        assert client.post(member, json=body, auth=sign_in).status_code == 201
        taken = client.post(member, json=body | {"subscriptionId": SECOND}, auth=sign_in)
        assert (taken.status_code, taken.json()["status"]) == (409, 409)
        assert [row["shortNumber"] for row in client.get(member, auth=sign_in).json()] == ["66001"]
        groups = client.get(
            "/tmf-api/partyManagement/v4/callGroup", params={"customerId": "C0000001"}, auth=sign_in
        )
        assert [row["id"] for row in groups.json()] == [group_id]


# Fixed lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("msisdn", "service_type"),
    [("8618600000001", "mobile"), ("861065551234", "fixed"), ("8675586001234", "fixed"),
     ("862087654321", "fixed"), ("85291234567", "mobile")],
)  # fmt: skip
def test_the_number_tells_a_fixed_line(msisdn: str, service_type: str) -> None:
    assert service_type_of(msisdn) == service_type


def test_a_fixed_line_is_ordered_with_a_plan_of_fixed_lines_and_no_card(
    operational: Settings, psql: Any
) -> None:
    with psql() as connection:
        connection.execute(
            "insert into resource.msisdn (msisdn, province_code, status)"
            " values ('862087654321', '44', 'free') on conflict do nothing"
        )
    fields = {"province_code": "44", "customer_name": "赵六", "msisdn": "862087654321"}

    def order(order_id: str, **changes: str) -> str:
        request = NewSubscriptionRequest.model_validate(fields | changes)
        return place_order(
            operational, principal=AGENT, order_id=order_id, request=request
        ).state  # fmt: skip

    with pytest.raises(OrderError, match="plans of their own"):
        order("O-fixed-1", offering_id="plan-4g-76")
    with pytest.raises(OrderError, match="plans of their own"):
        order("O-fixed-2", offering_id="plan-fixed-line", msisdn="8618500000001")
    with pytest.raises(ValidationError, match="no card"):
        order("O-fixed-3", offering_id="plan-fixed-line", imsi="460010000000001")
    assert order("O-fixed-4", offering_id="plan-fixed-line") == "completed"
    with psql() as connection:
        row = connection.execute(
            "select service_type, imsi from crm.subscription where msisdn = '862087654321'"
        ).fetchone()
    assert row == ("fixed", None)
