"""An independent clerk: keeps accounts record by record in plain Python, without the database.

Written from docs/DECISIONLOG.md, not from the SQL: what is paid first, which money pays it, what a
late fee is, when which dunning step is taken.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal

FEN = Decimal("0.01")
ZERO = Decimal(0)
PRIORITY = {
    "rent": 10, "voice": 20, "sms": 30, "data": 40, "international": 60, "roaming": 70, "tax": 80,
    "late_fee": 90,
}  # fmt: skip
LEDGER = {
    "tax": "tax_payable", "late_fee": "late_fee_income", "collection": "collected_for_others",
}  # fmt: skip
CHANNEL = {
    "counter": "cash", "bank": "bank_clearing", "card": "card_clearing", "agent": "agent_clearing",
    "online": "online_clearing", "security_deposit": "security_deposit",
}  # fmt: skip
STEPS = (
    ("remind", 1, 1), ("remind", 7, 5), ("bar_outgoing", 15, 10), ("bar_all", 30, 10),
    ("terminate", 90, 10), ("write_off", 365, 0),
)  # fmt: skip


class Refused(Exception):
    """The clerk does not do this."""


@dataclass
class Item:
    item_id: str
    document: str
    bill: str | None
    code: str
    issued: date
    due: date
    amount: Decimal
    accrues: bool = True
    open: Decimal = ZERO

    @property
    def place(self) -> tuple[date, str, int, str]:
        return self.issued, self.document, PRIORITY.get(self.code, 50), self.item_id


@dataclass
class Money:
    fund_id: str
    kind: str
    since: date
    amount: Decimal
    until: date | None = None
    codes: list[str] | None = None
    left: Decimal = ZERO

    @property
    def place(self) -> tuple[bool, date, date, str]:
        return self.kind != "bonus", self.until or date.max, self.since, self.fund_id


@dataclass
class Allocation:
    money: Money
    paid: list[tuple[Item, Decimal]]
    is_live: bool = True


@dataclass
class Account:
    items: list[Item] = field(default_factory=list)
    money: dict[str, Money] = field(default_factory=dict)
    allocations: list[Allocation] = field(default_factory=list)
    channels: dict[str, str] = field(default_factory=dict)  # payment → channel
    steps_taken: int = 0
    last_step: date | None = None
    is_dunned: bool = False
    written_off: list[dict[str, Decimal]] = field(default_factory=list)
    security: dict[str, Money] = field(default_factory=dict)
    applied: dict[str, Money] = field(default_factory=dict)  # payment → security deposit

    def owed(self) -> Decimal:
        return sum((item.open for item in self.items), ZERO)


class Clerk:
    """All accounts, and what stands in the ledger under each of its codes (debits positive)."""

    def __init__(self, term: int = 20, rate: str = "0.003") -> None:
        self.accounts: dict[str, Account] = defaultdict(Account)
        self.ledger: dict[str, Decimal] = defaultdict(Decimal)
        self.term, self.rate = timedelta(days=term), Decimal(rate)
        self.fees: dict[str, Decimal] = defaultdict(Decimal)

    def bill(
        self, account_id: str, bill_id: str, last_day: date, items: dict[str, Decimal]
    ) -> None:
        account = self.accounts[account_id]
        credit = -sum((amount for amount in items.values() if amount < 0), ZERO)
        for code, amount in items.items():
            self.ledger[LEDGER.get(code, "revenue")] -= amount
        for code in sorted(items, key=lambda one: (PRIORITY.get(one, 50), one)):
            if items[code] <= 0:
                continue
            covered = min(credit, items[code])
            credit -= covered
            if rest := items[code] - covered:
                self._owe(
                    account,
                    Item(f"{bill_id}/{code}", bill_id, bill_id, code, last_day,
                         last_day + self.term, rest, code != "late_fee"),
                )  # fmt: skip
        if credit:
            self._receive(account, Money(f"bill:{bill_id}", "deposit", last_day, credit))

    def pay(
        self, account_id: str, payment_id: str, day: date, amount: Decimal, channel: str
    ) -> None:
        account = self.accounts[account_id]
        account.channels[payment_id] = channel
        self.ledger[CHANNEL[channel]] += amount
        self._receive(account, Money(f"payment:{payment_id}", "deposit", day, amount))

    def grant(
        self, account_id: str, fund_id: str, *, day: date, amount: Decimal, until: date | None,
        codes: list[str] | None,
    ) -> None:  # fmt: skip
        self.ledger["bonus_granted"] += amount
        self._receive(self.accounts[account_id], Money(fund_id, "bonus", day, amount, until, codes))

    def expire(self, today: date) -> None:
        for account in self.accounts.values():
            for money in account.money.values():
                if money.until is not None and money.until < today and money.left:
                    self.ledger["bonus"] += money.left
                    self.ledger["bonus_granted"] -= money.left
                    money.left = ZERO

    def refund(self, account_id: str, amount: Decimal, channel: str) -> None:
        money = [one for one in self.accounts[account_id].money.values() if one.kind == "deposit"]
        if sum((one.left for one in money), ZERO) < amount:
            raise Refused
        self.ledger["deposit"] += amount
        self.ledger[CHANNEL[channel]] -= amount
        for one in sorted(money, key=lambda one: (one.since, one.fund_id)):
            drawn = min(one.left, amount)
            one.left -= drawn
            amount -= drawn

    def take_back(self, account_id: str, payment_id: str) -> None:
        account = self.accounts[account_id]
        money = account.money[f"payment:{payment_id}"]
        inside = money.left + sum(
            (amount for done in account.allocations if done.is_live and done.money is money
             for _, amount in done.paid), ZERO,
        )  # fmt: skip
        if inside != money.amount:
            raise Refused
        for done in account.allocations:
            if done.is_live and done.money is money:
                self._undo(done)
        self.ledger["deposit"] += money.amount
        self.ledger[CHANNEL[account.channels.pop(payment_id)]] -= money.amount
        money.left = ZERO
        if payment_id in account.applied:
            account.applied.pop(payment_id).left += money.amount

    def take_security(
        self, account_id: str, deposit_id: str, day: date, amount: Decimal, channel: str
    ) -> None:
        self.ledger[CHANNEL[channel]] += amount
        self.ledger["security_deposit"] -= amount
        held = Money(deposit_id, "security_deposit", day, amount, left=amount)
        self.accounts[account_id].security[deposit_id] = held

    def return_security(
        self, account_id: str, deposit_id: str, *, day: date, amount: Decimal, channel: str,
        has_reason: bool,
    ) -> None:  # fmt: skip
        account = self.accounts[account_id]
        held = account.security[deposit_id]
        if held.left < amount or (self._overdue(account, day)[0] and not has_reason):
            raise Refused
        held.left -= amount
        self.ledger["security_deposit"] += amount
        self.ledger[CHANNEL[channel]] -= amount

    def appliable(
        self, account_id: str, deposit_id: str, day: date, amount: Decimal | None
    ) -> Decimal:
        """How much of a deposit pays what is overdue."""
        account = self.accounts[account_id]
        overdue, held = self._overdue(account, day)[0], account.security[deposit_id].left
        wanted = min(overdue, held) if amount is None else amount
        if not wanted or wanted > min(overdue, held):
            raise Refused
        return wanted

    def apply_security(
        self, account_id: str, deposit_id: str, payment_id: str, *, day: date, amount: Decimal,
        due_before: date,
    ) -> None:  # fmt: skip
        account = self.accounts[account_id]
        held = account.security[deposit_id]
        held.left -= amount
        account.applied[payment_id] = held
        self.pay(account_id, payment_id, day, amount, "security_deposit")
        self.allocate(account_id, day, day, due_before)

    def credit(self, account_id: str, bill_id: str, code: str, amount: Decimal) -> None:
        account = self.accounts[account_id]
        items = [item for item in account.items if (item.bill, item.code) == (bill_id, code)]
        touching = [
            done for done in reversed(account.allocations)
            if done.is_live and any(item in items for item, _ in done.paid)
        ]  # fmt: skip
        most = sum((item.open for item in items), ZERO) + sum(
            (paid for done in touching for item, paid in done.paid if item in items), ZERO
        )
        if most < amount:
            raise Refused
        while sum((item.open for item in items), ZERO) < amount:
            self._undo(touching.pop(0))
        self.ledger[LEDGER.get(code, "revenue")] += amount
        self.ledger["receivable"] -= amount
        for item in sorted(items, key=lambda one: (one.issued, one.document, one.item_id)):
            credited = min(item.open, amount)
            item.open -= credited
            amount -= credited

    def debit(
        self, account_id: str, note_id: str, *, bill_id: str | None, code: str, day: date,
        amount: Decimal,
    ) -> None:  # fmt: skip
        self.ledger[LEDGER.get(code, "revenue")] -= amount
        document = f"note:{note_id}"
        item = Item(document, document, bill_id, code, day, day + self.term, amount,
                    code != "late_fee")  # fmt: skip
        self._owe(self.accounts[account_id], item)

    def charge_late_fees(self, day: date) -> None:
        for account in self.accounts.values():
            documents: dict[str, list[Item]] = defaultdict(list)
            for item in account.items:
                if item.accrues:
                    documents[item.document].append(item)
            for document, items in documents.items():
                base = sum((item.open for item in items if item.due < day), ZERO)
                principal = sum((item.amount for item in items), ZERO)
                fee = (base * self.rate).quantize(FEN, ROUND_HALF_UP)
                fee = min(fee, principal - self.fees[document])
                if fee <= 0:
                    continue
                self.fees[document] += fee
                self.ledger["late_fee_income"] -= fee
                fee_id = f"late_fee:{document}:{day}"
                self._owe(account, Item(fee_id, fee_id, items[0].bill, "late_fee", day, day, fee,
                                        accrues=False))  # fmt: skip

    def dun(self, day: date, payments: dict[str, str] | None = None) -> None:
        """Take the steps; `payments` says what a payment applied of a deposit will be called."""
        self.restore(day)
        for account_id, account in self.accounts.items():
            amount, days = self._overdue(account, day)
            if not account.is_dunned and (amount < STEPS[0][2] or days < STEPS[0][1]):
                continue
            account.is_dunned = True
            if account.steps_taken == len(STEPS) or account.last_step == day:
                continue
            action, least_days, least = STEPS[account.steps_taken]
            if amount == 0 or days < least_days or amount < least:
                continue
            if action == "write_off":
                for held in sorted(account.security.values(), key=lambda one: one.place):
                    if amount := min(held.left, account.owed()):
                        self.apply_security(
                            account_id, held.fund_id, (payments or {})[held.fund_id], day=day,
                            amount=amount, due_before=date.max,
                        )  # fmt: skip
                amount, days = self._overdue(account, day)
                if amount < STEPS[0][2]:
                    self._end(account)
                    continue
                if days < least_days:
                    continue
            account.steps_taken += 1
            account.last_step = day
            if action == "write_off":
                gone = {item.item_id: item.open for item in account.items if item.open}
                for item in account.items:
                    item.open = ZERO
                self._write_off(account, gone, 1)
                account.written_off.append(gone)
                self._end(account)

    def restore(self, day: date) -> None:
        for account in self.accounts.values():
            if account.is_dunned and self._overdue(account, day)[0] < STEPS[0][2]:
                self._end(account)

    def open_again(self, account_id: str) -> None:
        account = self.accounts[account_id]
        gone = account.written_off.pop()
        for item in account.items:
            item.open += gone.get(item.item_id, ZERO)
        self._write_off(account, gone, -1)

    def _write_off(self, account: Account, gone: dict[str, Decimal], sign: int) -> None:
        """What was to be collected for others is not owed to them; the rest is bad debt."""
        codes = {item.item_id: item.code for item in account.items}
        for item_id, amount in gone.items():
            is_ours = codes[item_id] != "collection"
            self.ledger["receivable"] -= sign * amount
            self.ledger["bad_debt" if is_ours else "collected_for_others"] += sign * amount

    def allocate(
        self, account_id: str, today: date, not_before: date = date.min,
        due_before: date | None = None,
    ) -> None:  # fmt: skip
        account = self.accounts[account_id]
        while True:
            for money in sorted(account.money.values(), key=lambda one: one.place):
                if groups := self._pay_from(account, money, today, not_before, due_before):
                    account.allocations += groups
                    break
            else:
                return

    def _pay_from(
        self, account: Account, money: Money, today: date, not_before: date,
        due_before: date | None,
    ) -> list[Allocation]:  # fmt: skip
        by_day: dict[date, list[tuple[Item, Decimal]]] = defaultdict(list)
        for item in sorted(account.items, key=lambda one: one.place):
            if money.kind == "bonus" and (
                money.since > today
                or (money.until is not None and money.until < max(today, item.issued))
            ):
                continue
            if due_before is not None and item.due >= due_before:
                continue
            if money.codes is not None and item.code not in money.codes:
                continue
            if amount := min(item.open, money.left):
                item.open -= amount
                money.left -= amount
                self.ledger["receivable"] -= amount
                self.ledger[money.kind] += amount
                by_day[max(money.since, item.issued, not_before)].append((item, amount))
        return [Allocation(money, paid) for _, paid in sorted(by_day.items())]

    def _undo(self, done: Allocation) -> None:
        done.is_live = False
        for item, amount in done.paid:
            item.open += amount
            done.money.left += amount
            self.ledger["receivable"] += amount
            self.ledger[done.money.kind] -= amount

    def _owe(self, account: Account, item: Item) -> None:
        item.open = item.amount
        account.items.append(item)
        self.ledger["receivable"] += item.amount

    def _receive(self, account: Account, money: Money) -> None:
        money.left = money.amount
        account.money[money.fund_id] = money
        self.ledger[money.kind] -= money.amount

    @staticmethod
    def _overdue(account: Account, day: date) -> tuple[Decimal, int]:
        late = [item for item in account.items if item.open and item.due < day]
        if not late:
            return ZERO, 0
        oldest = min(item.due for item in late)
        return sum((item.open for item in late), ZERO), (day - oldest).days

    @staticmethod
    def _end(account: Account) -> None:
        account.is_dunned, account.steps_taken, account.last_step = False, 0, None
