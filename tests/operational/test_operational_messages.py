"""Words of the pages: complete in both languages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from operational import permissions
from operational.accounts.collection import ACTIONS
from operational.accounts.notes import NOTE_STATES, NOTE_TYPES
from operational.accounts.reports import BUCKETS
from operational.accounts.web import ROOM
from operational.billing.explanation import RECORD_FIELDS
from operational.billing.service import CYCLE_STATES
from operational.catalogue.authoring import (
    BILL_ITEMS,
    DAY_TYPES,
    AllowanceRow,
    CommitmentRow,
    ComponentRow,
    DiscountRow,
    Occasion,
    UsagePriceRow,
    VersionRow,
)  # fmt: skip
from operational.control.record_fields import DIRECTIONS, FIELDS, SERVICES, FieldValueError
from operational.control.rollbacks import SCOPES
from operational.control.rules import RULE_CODES, SEVERITIES
from operational.control.service import CONTROL_ACTIONS
from operational.crm.service import ORDER_STATES, BundleRequest, NewSubscriptionRequest
from operational.i18n import LANGUAGES, MESSAGES, MissingMessageError, messages, translator
from operational.pages import NAVIGATION
from operational.problems import ConflictError, InvalidRequestError, Problem
from operational.templating import TEMPLATE_FOLDERS
from tollhouse.settings import PROJECT_ROOT

TEMPLATES = sorted(path for folder in TEMPLATE_FOLDERS for path in folder.rglob("*.html"))
PYTHON = sorted((PROJECT_ROOT / "operational").rglob("*.py"))

_FAMILIES = re.compile(r"\bt\('([a-z_.]+\.)'\s*~")
_FIXED = re.compile(r"\bt\('([a-z_.0-9]+)'\s*[,)]")
_CHOICE = re.compile(r"\bt\('([a-z_.]+)' if [^)]*? else '([a-z_.]+)'\)")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_message_of_a_template_is_in_the_catalogue(template: Path) -> None:
    text = template.read_text(encoding="utf-8")
    used = set(_FIXED.findall(text)) | {key for pair in _CHOICE.findall(text) for key in pair}
    assert sorted(used - set(messages())) == []
    for family in _FAMILIES.findall(text):
        assert any(key.startswith(family) for key in messages()), family


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_holds_no_words_of_its_own(template: Path) -> None:
    text = template.read_text(encoding="utf-8")
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", " ", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>|&[a-z]+;", " ", text)
    words = set(re.findall(r"[A-Za-z\u4e00-\u9fff]{2,}", text))
    assert words <= {"IMSI", "KB", "Tollhouse"}


def test_every_message_is_there_in_both_languages_with_the_same_places() -> None:
    for key, text in messages().items():
        assert set(text) == set(LANGUAGES)
        assert all(text.values()), key
        places = [sorted(re.findall(r"\{(\w+)\}", text[language])) for language in LANGUAGES]
        assert places[0] == places[1], key


def test_every_problem_raised_has_its_message() -> None:
    raised = {
        code
        for path in PYTHON
        for code in re.findall(r"Error\(\s*\"([a-z_]+)\"", path.read_text(encoding="utf-8"))
    }
    assert raised >= {"no_customer", "number_not_free", "final_cycle"}
    assert sorted(code for code in raised if f"problem.{code}" not in messages()) == []


def test_every_finding_of_a_catalogue_has_its_message_and_every_message_its_finding() -> None:
    catalogue = [path for path in PYTHON if path.parent.name == "catalogue"]
    text = "".join(path.read_text(encoding="utf-8") for path in catalogue)
    found = set(re.findall(r"(?:Finding|_twice|_misplaced_tier)\(\s*\"([a-z_]+)\"", text))
    own_errors = re.findall(r"_refusal\(\s*\"([a-z_]+)\"", text)
    found |= {f"field_{code}" for code in (*own_errors, "not_positive", "negative")}
    written = {key.removeprefix("finding.") for key in messages() if key.startswith("finding.")}
    written = {key for key in written if not key.startswith("row.") and key != "refused"}
    from_pydantic = {key for key in written if key.startswith("field_")}
    assert found - written == set()
    assert written - found <= from_pydantic


# What the accounts' pages look up by a value the database holds (migration 0005).
ACCOUNTS_FAMILIES = {
    "document_type": ["bill", "debit_note", "late_fee", "deduction"],
    "note_type": NOTE_TYPES,
    "note_state": NOTE_STATES,
    "note_title": NOTE_TYPES,
    "note_total": NOTE_TYPES,
    "note_explained": NOTE_TYPES,
    "fund_kind": ["deposit", "bonus"],
    "payment_kind": ["payment", "refund", "reversal"],
    "entry_type": [
        "bill", "payment", "allocation", "refund", "reversal", "credit_note", "debit_note",
        "late_fee", "bonus_grant", "bonus_expiry", "write_off", "bank_line", "bank_match",
        "deduction", "security_deposit", "security_return",
    ],
    "security_movement": ["received", "returned", "applied", "application_reversed"],
    "balance_standing": ["enough", "low", "barred"],
    "deduction_reason": ["charges_rose", "charges_fell", "final_bill"],
    "dunning_action": [*ACTIONS, "restore"],
    "service_order_state": ["requested", "sent", "completed", "failed", "cancelled"],
    "case_outcome": ["paid", "written_off"],
    "bucket": [name for name, _, _ in BUCKETS],
    "ledger_kind": ["asset", "liability", "income", "expense"],
}  # fmt: skip


def test_every_value_a_page_names_has_its_word() -> None:
    families = {
        "state": [
            *ORDER_STATES, *CYCLE_STATES, "free", "reserved", "assigned", "active", "closed",
            "suspended", "terminated", "withdrawn", "collected", "landed", "mediated",
            "duplicate", "rejected", "rolled_back", "running", "succeeded", "failed",
        ],
        "role": sorted({role for roles in permissions.PERMISSIONS.values() for role in roles}),
        "field": [
            *NewSubscriptionRequest.model_fields, *BundleRequest.model_fields, *FIELDS, "source",
            "file", "format",
        ],
        "field_rule": FIELDS,
        "reason": [*RULE_CODES, "field_count", "truncated", "malformed"],
        "severity": SEVERITIES,
        "usage_service": SERVICES,
        "usage_direction": DIRECTIONS,
        "scope": SCOPES,
        "audit_action": [*CONTROL_ACTIONS, *(f"order_{state}" for state in ORDER_STATES[1:])],
        "alarm": ["late", "missing", "gap", "out_of_order", "quarantined"],
        "after_collection": ["keep", "delete", "move"],
        "order_error": [*NewSubscriptionRequest.model_fields, "customer"],
        "customer_type": get_args(NewSubscriptionRequest.model_fields["customer_type"].annotation),
        "payment_type": get_args(NewSubscriptionRequest.model_fields["payment_type"].annotation),
        "channel": ["counter", "bank", "card", "agent", "online", "security_deposit"],
        **ACCOUNTS_FAMILIES,
        "value_segment": ["high", "medium", "low"],
        "direction": ["receivable", "payable"],
        "bill_item": BILL_ITEMS,
        "record_field": RECORD_FIELDS,
        "outcome": ["standard", "merged", "duplicate", "filtered", "rejected"],
        "other_party_type": ["e164", "short_code", "none"],
        "roaming_class": ["home", "domestic", "international"],
        "bucket_scope": ["line", "shared", "pooled"],
        "suspense_reason": [
            "no_subscription", "no_zone", "unknown_content", "no_plan_or_price", "no_cycle",
            "cycle_closed", "to_restate", "written_off",
        ],
        "province": ["00", "11", "44", "51"],
        "item_kind": ["charge", "minimum", "discount", "share"],
        "tax_class": ["basic", "value_added", "untaxed"],
    } | {
        "allowance_scope": get_args(AllowanceRow.model_fields["scope"].annotation),
        "commitment_rule": get_args(CommitmentRow.model_fields["penalty_rule"].annotation),
        "component_fee": get_args(ComponentRow.model_fields["fee_rule"].annotation),
        "day_type": DAY_TYPES,
        "discount_kind": get_args(DiscountRow.model_fields["kind"].annotation),
        "occasion": get_args(Occasion),
        "penalty_on": get_args(CommitmentRow.model_fields["penalty_on"].annotation),
        "price_model": get_args(UsagePriceRow.model_fields["model"].annotation),
        "rounding": get_args(UsagePriceRow.model_fields["rounding_mode"].annotation),
    } | {
        rule: get_args(VersionRow.model_fields[rule].annotation)
        for rule in ("first_month_rule", "last_month_rule", "late_usage_policy")
    }  # fmt: skip
    missing = [
        f"{family}.{value}"
        for family, values in families.items()
        for value in values
        if f"{family}.{value}" not in messages()
    ]
    assert missing == []
    assert all(key in messages() for _, key, _ in (*NAVIGATION, *ROOM))


# Families of messages that are looked up by a value; a test above names the values of most.
BY_VALUE = (
    *(f"{family}." for family in ACCOUNTS_FAMILIES),
    "after_collection.", "alarm.", "allowance_scope.", "audit_action.", "audit_entity.",
    "band.", "bill_item.", "bucket_scope.", "channel.",
    "charge_class.", "commitment_rule.", "component_fee.", "customer_type.", "day_type.",
    "direction.", "discount_kind.", "field_rule.", "finding.", "first_month_rule.", "item_amount.",
    "item_kind.", "language.", "last_month_rule.", "late_usage_policy.", "occasion.",
    "order_error.", "order_type.", "other_party_type.", "outcome.", "payment_type.",
    "penalty_on.", "price_model.",
    "price_text.", "product_role.", "province.", "reason.", "record_field.", "reject_state.",
    "roaming_class.", "role.", "rounding.", "scope.", "service.", "service_type.", "severity.",
    "state.", "suspense_reason.", "tax_class.", "unit.", "usage_direction.", "usage_service.",
    "tariff_add.", "tariff_choice.", "tariff_field.", "tariff_hint.", "tariff_section.",
    "finding_in_form.", "value_segment.", "version_standing.",
)  # fmt: skip

# Families of which some messages are looked up by these values, and others by their whole key.
SOME_BY_VALUE = {
    "field": [*NewSubscriptionRequest.model_fields, *BundleRequest.model_fields, *FIELDS],
    "overview": ["customers", "subscriptions", "free_numbers", "open_orders"],
    "explain": [
        f"{told}_{rule}" for told in ("fee", "component")
        for rule in get_args(ComponentRow.model_fields["fee_rule"].annotation)
    ],
}  # fmt: skip


def test_every_message_is_used() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (*TEMPLATES, *PYTHON)]
    quoted = {key for text in sources for key in re.findall(r"[\"']([a-z_0-9.]+)[\"']", text)}
    quoted |= {f"problem.{code}" for code in quoted}
    quoted |= {f"{family}.{name}" for family, names in SOME_BY_VALUE.items() for name in names}
    unused = [key for key in messages() if key not in quoted and not key.startswith(BY_VALUE)]
    assert unused == []


def test_every_family_looked_up_by_value_is_used_that_way() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (*TEMPLATES, *PYTHON))
    known = {*BY_VALUE, *(f"{family}." for family in SOME_BY_VALUE)}
    assert set(_FAMILIES.findall(text)) <= known
    assert [name for name in BY_VALUE if not re.search(rf"['\"]{name}(?:' ~|\{{)", text)] == []


def test_a_term_has_one_spelling() -> None:
    text = MESSAGES.read_text(encoding="utf-8")
    assert [word for word in ("离网预警", "账", "省份") if word in text] == []


def test_a_message_that_is_not_there_is_an_error() -> None:
    with pytest.raises(MissingMessageError):
        translator("zh")("nothing.like.it")


@pytest.mark.parametrize(
    ("problem", "named", "english", "chinese"),
    [
        (InvalidRequestError("bad_parameters", names=["valid_from", "nameless"]),
         "valid_from, nameless", "Valid from, nameless", "生效时间, nameless"),
        (InvalidRequestError("set_and_replaced", field="served_msisdn"),
         "field served_msisdn ", "field Served number ", "字段 计费号码 "),
        (FieldValueError({"duration_seconds": "x"}),
         "duration_seconds = 'x'", "Duration (s) = 'x'", "时长（秒） = 'x'"),
        (ConflictError("totals_not_tied", cycle_id="2026-10", names=["rate"]),
         "tie, so it can be neither approved nor closed: rate", "closed: rate", "关帐：rate"),
    ],
    ids=["parameters", "field", "values", "names of other things"],
)  # fmt: skip
def test_a_problem_names_fields_for_programs_and_labels_for_people(
    problem: Problem, named: str, english: str, chinese: str
) -> None:
    assert named in str(problem)
    assert english in problem.page_text(translator("en"))
    assert chinese in problem.page_text(translator("zh"))
