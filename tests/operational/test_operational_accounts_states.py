"""Any sequence of bills, payments, refunds, reversals, notes, security deposits, late fees, dunning
and write-off: every balance is what an independent clerk has, and debits equal credits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)  # fmt: skip

from operational.accounts import collection, notes, reports, security_deposits, service
from operational.database import transaction
from operational.problems import ConflictError
from tests.operational.accounts_books import (
    ACCOUNTS,
    FINANCE,
    SECOND,
    clear,
    connect,
    issue,
    last_day,
    noon,
    read,
)  # fmt: skip
from tests.operational.accounts_clerk import Clerk, Refused
from tollhouse.settings import Settings

ACCOUNT = st.sampled_from(ACCOUNTS[:3])
CODES = ("rent", "voice", "data", "roaming", "collection", "late_fee")
AMOUNT = st.integers(1, 9_999).map(lambda fen: Decimal(fen).scaleb(-2))
CHARGES = st.dictionaries(
    st.sampled_from(("rent", "voice", "data", "collection", "tax")), AMOUNT, min_size=1, max_size=4
).flatmap(
    lambda items: st.one_of(
        st.just(items), AMOUNT.map(lambda credit: items | {"discount": -credit})
    )
)
CHANNEL = st.sampled_from(("counter", "bank", "card", "agent", "online"))
_keys = count(1)


class Accounts(RuleBasedStateMachine):
    """The books beside the clerk's."""

    settings: Settings

    @initialize()
    def open_books(self) -> None:
        clear(self.settings)
        self.clerk = Clerk()
        self.month = 0
        self.today = date(2026, 1, 1)
        self.payments: list[tuple[str, str]] = []
        self.applied: set[str] = set()  # payments from deposits of who is about to be written off
        self.security: list[tuple[str, str]] = []  # account, deposit
        self.last_fee_run: date | None = None

    @rule(charges=st.dictionaries(ACCOUNT, CHARGES, min_size=1))
    def bill(self, charges: dict[str, dict[str, Decimal]]) -> None:
        cycle_id = f"{2026 + self.month // 12}-{self.month % 12 + 1:02}"
        self.month += 1
        end = last_day(cycle_id)
        self.today = max(self.today, end + timedelta(days=1))
        issue(self.settings, cycle_id, charges)
        for account_id, items in charges.items():
            self.clerk.bill(account_id, f"{cycle_id}-{account_id}", end, items)
        self.post()

    @rule()
    def post(self) -> None:
        service.post(self.settings, by_user="test", today=self.today)
        self.clerk.expire(self.today)
        for account_id in ACCOUNTS:
            self.clerk.allocate(account_id, self.today)
        self.clerk.restore(self.today)

    @rule(account_id=ACCOUNT, amount=AMOUNT, channel=CHANNEL)
    def pay(self, account_id: str, amount: Decimal, channel: str) -> None:
        asked: dict[str, Any] = {
            "principal": FINANCE, "account_id": account_id, "amount": amount, "channel": channel,
            "idempotency_key": f"key-{next(_keys)}", "paid_at": noon(self.today),
            "today": self.today,
        }  # fmt: skip
        payment = service.take_payment(self.settings, **asked)
        assert service.take_payment(self.settings, **asked).payment_id == payment.payment_id
        self.payments.append((account_id, payment.payment_id))
        self.clerk.pay(account_id, payment.payment_id, self.today, amount, channel)
        self.clerk.allocate(account_id, self.today)
        self.clerk.restore(self.today)

    @rule(
        account_id=ACCOUNT, amount=AMOUNT, days=st.none() | st.integers(0, 60),
        codes=st.none() | st.lists(st.sampled_from(CODES), min_size=1, max_size=2, unique=True),
    )  # fmt: skip
    def grant(
        self, account_id: str, amount: Decimal, days: int | None, codes: list[str] | None
    ) -> None:
        until = None if days is None else self.today + timedelta(days=days)
        fund = service.grant_bonus(
            self.settings, principal=FINANCE, account_id=account_id, amount=amount,
            reason_code="campaign", idempotency_key=f"grant-{next(_keys)}", valid_to=until,
            bill_item_codes=codes, today=self.today,
        )  # fmt: skip
        self.clerk.grant(
            account_id, fund.fund_id, day=self.today, amount=amount, until=until, codes=codes
        )
        self.clerk.allocate(account_id, self.today, self.today)
        self.clerk.restore(self.today)

    @rule(account_id=ACCOUNT, amount=AMOUNT, channel=CHANNEL)
    def refund(self, account_id: str, amount: Decimal, channel: str) -> None:
        self.both(
            lambda: service.refund(
                self.settings, principal=FINANCE, account_id=account_id, amount=amount,
                channel=channel, reason_code="customer_asks",
                idempotency_key=f"refund-{next(_keys)}", today=self.today,
            ),
            lambda: self.clerk.refund(account_id, amount, channel),
        )  # fmt: skip

    @rule(account_id=ACCOUNT, amount=AMOUNT, channel=CHANNEL)
    def take_security(self, account_id: str, amount: Decimal, channel: str) -> None:
        asked: dict[str, Any] = {
            "principal": FINANCE, "account_id": account_id, "amount": amount, "channel": channel,
            "reason_code": "credit", "idempotency_key": f"security-{next(_keys)}",
            "today": self.today,
        }  # fmt: skip
        taken = security_deposits.receive(self.settings, **asked).security_deposit_id
        assert security_deposits.receive(self.settings, **asked).security_deposit_id == taken
        self.security.append((account_id, taken))
        self.clerk.take_security(account_id, taken, self.today, amount, channel)

    @precondition(lambda self: self.security)
    @rule(
        choice=st.randoms(use_true_random=False), amount=AMOUNT, channel=CHANNEL,
        has_reason=st.booleans(),
    )  # fmt: skip
    def return_security(self, choice: Any, amount: Decimal, channel: str, has_reason: bool) -> None:
        account_id, deposit_id = choice.choice(self.security)
        self.both(
            lambda: security_deposits.give_back(
                self.settings, principal=FINANCE, security_deposit_id=deposit_id, amount=amount,
                channel=channel, reason_code="customer_leaves", today=self.today,
                idempotency_key=f"return-{next(_keys)}", override_reason="x" if has_reason else "",
            ),
            lambda: self.clerk.return_security(
                account_id, deposit_id, day=self.today, amount=amount, channel=channel,
                has_reason=has_reason,
            ),
        )  # fmt: skip

    @precondition(lambda self: self.security)
    @rule(choice=st.randoms(use_true_random=False), amount=st.none() | AMOUNT)
    def apply_security(self, choice: Any, amount: Decimal | None) -> None:
        account_id, deposit_id = choice.choice(self.security)
        asked: dict[str, Any] = {
            "principal": FINANCE, "security_deposit_id": deposit_id, "amount": amount,
            "idempotency_key": f"apply-{next(_keys)}", "today": self.today,
        }  # fmt: skip
        self.post()  # what may pay anyhow goes first
        try:
            wanted = self.clerk.appliable(account_id, deposit_id, self.today, amount)
        except Refused:
            with pytest.raises(ConflictError):
                security_deposits.apply(self.settings, **asked)
            return
        payment_id = security_deposits.apply(self.settings, **asked).payment_id
        assert security_deposits.apply(self.settings, **asked).payment_id == payment_id
        self.payments.append((account_id, payment_id))
        self.clerk.apply_security(
            account_id, deposit_id, payment_id, day=self.today, amount=wanted,
            due_before=self.today,
        )  # fmt: skip
        self.clerk.restore(self.today)

    @precondition(lambda self: self.payments)
    @rule(choice=st.randoms(use_true_random=False))
    def bounce(self, choice: Any) -> None:
        account_id, payment_id = choice.choice(self.payments)
        done = self.both(
            lambda: service.reverse_payment(
                self.settings, principal=FINANCE, payment_id=payment_id,
                reason_code="cheque_bounced", today=self.today,
            ),
            lambda: self.clerk.take_back(account_id, payment_id),
        )  # fmt: skip
        if done:
            self.payments.remove((account_id, payment_id))
            self.clerk.allocate(account_id, self.today, self.today)

    @precondition(lambda self: self.month)
    @rule(amount=AMOUNT, choice=st.randoms(use_true_random=False), is_credit=st.booleans())
    def note(self, amount: Decimal, choice: Any, is_credit: bool) -> None:
        billed = [
            (account_id, item.bill, item.code)
            for account_id, account in self.clerk.accounts.items()
            for item in account.items
            if item.bill and (is_credit or item.code != "tax")
        ]
        if not billed:
            return
        account_id, bill_id, code = choice.choice(billed)
        note_id = f"N-{next(_keys)}"
        notes.request_note(
            self.settings, principal=FINANCE, note_id=note_id, account_id=account_id,
            note_type="credit" if is_credit else "debit", bill_id=bill_id, bill_item_code=code,
            amount=amount, reason_code="wrong_tariff" if is_credit else "missed_charge",
            explanation="test",
        )  # fmt: skip
        done = self.both(
            lambda: notes.decide_note(
                self.settings, principal=SECOND, note_id=note_id, approve=True, today=self.today
            ),
            lambda: (
                self.clerk.credit(account_id, bill_id, code, amount)
                if is_credit
                else self.clerk.debit(
                    account_id, note_id, bill_id=bill_id, code=code, day=self.today, amount=amount
                )
            ),
        )
        if done:
            self.clerk.allocate(account_id, self.today, self.today)
            self.clerk.restore(self.today)

    @rule(days=st.sampled_from((1, 1, 5, 20, 100, 340)))
    def wait(self, days: int) -> None:
        self.today += timedelta(days=days)

    @precondition(lambda self: self.last_fee_run != self.today)
    @rule()
    def charge_late_fees(self) -> None:
        asked: dict[str, Any] = {"through": self.today, "today": self.today, "by_user": "test"}
        yesterday = self.today - timedelta(days=1)
        if self.last_fee_run != yesterday:  # the clerk keeps no past days: none was missed
            with connect(self.settings) as connection:
                connection.execute(
                    "insert into billing.late_fee_run (fee_date, rate_per_day, document_count,"
                    " fee_amount, by_user) values (%s, 0, 0, 0, 'test')",
                    (yesterday,),
                )
        collection.run_late_fees(self.settings, **asked)
        self.last_fee_run = self.today
        assert collection.run_late_fees(self.settings, **asked).documents == 0
        self.clerk.charge_late_fees(self.today)
        for account_id in ACCOUNTS:
            self.clerk.allocate(account_id, self.today)

    @rule()
    def dun(self) -> None:
        asked: dict[str, Any] = {"on_day": self.today, "today": self.today, "by_user": "test"}
        collection.dun(self.settings, **asked)
        again = collection.dun(self.settings, **asked)
        assert (again.actions, again.orders) == ({}, 0)
        with connect(self.settings) as connection:
            applied = connection.execute(
                "select account_id, security_deposit_id, payment_id from billing.payment"
                " where idempotency_key like 'write_off:%%' and payment_id <> all(%s)",
                (list(self.applied),),
            ).fetchall()
        self.clerk.dun(
            self.today, {deposit_id: payment_id for _, deposit_id, payment_id in applied}
        )
        self.payments += [(account_id, payment_id) for account_id, _, payment_id in applied]
        self.applied |= {payment_id for _, _, payment_id in applied}
        self.clerk.restore(self.today)

    @precondition(lambda self: any(one.written_off for one in self.clerk.accounts.values()))
    @rule()
    def collect_after_all(self) -> None:
        with connect(self.settings) as connection:
            entry_id, account_id = connection.execute(
                "select entry_id, account_id from billing.ledger_entry as ent"
                " where entry_type = 'write_off' and not exists (select 1 from"
                " billing.ledger_entry as rev where rev.reverses_entry_id = ent.entry_id)"
                " order by entry_id desc limit 1"
            ).fetchone()  # type: ignore[misc]
        collection.reverse_write_off(
            self.settings, principal=FINANCE, entry_id=entry_id, today=self.today
        )
        self.clerk.open_again(account_id)
        self.clerk.allocate(account_id, self.today, self.today)

    def both(self, ours: Callable[[], Any], theirs: Callable[[], Any]) -> bool:
        """Do a thing here and at the clerk's: both do it, or both refuse."""
        try:
            theirs()
        except Refused:
            with pytest.raises(ConflictError):
                ours()
            return False
        ours()
        return True

    @invariant()
    def the_books_are_the_clerks(self) -> None:
        found = read(self.settings)
        accounts = self.clerk.accounts.values()
        assert found.items == {item.item_id: item.open for one in accounts for item in one.items}
        assert found.funds == {
            money.fund_id: money.left
            for one in accounts
            for money in (*one.money.values(), *one.security.values())
        }
        expected = {code: amount for code, amount in self.clerk.ledger.items() if amount}
        assert {code: amount for code, amount in found.ledger.items() if amount} == expected
        assert sum(found.ledger.values(), Decimal(0)) == 0
        with transaction(self.settings) as session:
            assert reports.unbalanced(session) == {}
            statements = [
                service.account_statement(
                    session, principal=FINANCE, account_id=account_id, today=self.today
                )
                for account_id in ACCOUNTS
            ]
            held = {
                one.deposit.security_deposit_id: one
                for account_id in ACCOUNTS
                for one in security_deposits.statement(
                    session, principal=FINANCE, account_id=account_id
                )
            }
        assert {deposit_id: one.held_amount for deposit_id, one in held.items()} == {
            deposit_id: self.clerk.accounts[account_id].security[deposit_id].left
            for account_id, deposit_id in self.security
        }
        for one in held.values():
            parts = one.deposit.amount - one.returned_amount - one.applied_amount
            assert one.held_amount == parts == sum(move.amount for move in one.movements)
        assert [one.owed_amount for one in statements] == [
            self.clerk.accounts[account_id].owed() for account_id in ACCOUNTS
        ]


def test_any_sequence_leaves_the_books_as_the_clerk_has_them(books: Settings) -> None:
    Accounts.settings = books
    run_state_machine_as_test(
        Accounts,
        settings=settings(
            max_examples=12, stateful_step_count=20, suppress_health_check=list(HealthCheck)
        ),
    )
