"""Bank statements 银行对帐单: imported once, matched with accounts, the rest kept in suspense.

Every line goes through the ledger account `suspense`: the line moves money between bank and
suspense; what it is (a payment, what people entered before, one that came back, a channel's
collection, a charge) moves it on. So suspense always holds exactly the lines that nobody has
matched, and `bank` what the statements say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal
from uuid import uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, joinedload

from operational import audit
from operational.accounts import bank_transit, ledger, service
from operational.accounts.bank_formats import (
    BankFileError,
    Statement,
    read_statements,
)
from operational.accounts.bank_transit import InTransit, mark, match_key, repeated
from operational.accounts.ledger import Line
from operational.accounts.models import BankFile, BankLine, BankStatement, LedgerAccount, OpenItem
from operational.billing.models import Payment
from operational.crm.models import Account
from operational.database import transaction
from operational.permissions import HEADQUARTERS, Principal
from operational.problems import ConflictError, InvalidRequestError, NotFoundError
from tollhouse.settings import Settings

# Ledger accounts a bank line may be moved to by hand when it is no customer's payment.
OTHER_LEDGERS = ("bank_charge", "card_clearing", "online_clearing", "agent_clearing", "cash")
_LARGEST_PAYMENT_TEXT = 200


class BankRefusedError(InvalidRequestError):
    """A bank file is not imported; the message names the place. Nothing was changed."""


@dataclass(frozen=True)
class Imported:
    """What importing a file did."""

    file_name: str
    is_new: bool
    statements: int = 0
    lines: int = 0
    matched: int = 0
    matched_amount: Decimal = Decimal(0)
    suspense: int = 0
    suspense_amount: Decimal = Decimal(0)


def import_file(
    settings: Settings, *, principal: Principal, file_name: str, content: bytes
) -> Imported:
    """Import a statement file and match what can be matched; the same file again does nothing.

    Raises BankRefusedError for a file that cannot be read, does not add up, or holds a statement
    that came in another file.
    """
    _require_headquarters(principal)
    digest = hashlib.sha256(content).hexdigest()
    with transaction(settings) as session:
        # Two people with the same file wait for each other.
        session.execute(text("lock table billing.bank_file in share row exclusive mode"))
        if session.scalar(select(BankFile.bank_file_id).where(BankFile.sha256 == digest)):
            return Imported(file_name, is_new=False)
        try:
            file_format, statements = read_statements(content)
        except BankFileError as error:
            raise BankRefusedError("bank_file", file_name=file_name, detail=error) from error
        file_id = f"BF-{digest[:16]}"
        session.add(
            BankFile(
                bank_file_id=file_id, file_name=file_name, format=file_format, sha256=digest,
                imported_by=principal.username,
            )
        )  # fmt: skip
        session.flush()
        lines = [
            line
            for statement in statements
            for line in _add_statement(session, principal, file_id, file_name, statement)
        ]
        held = repeated(session, lines=lines)
        waiting = bank_transit.lock_and_read(session, timezone=settings.timezone, lines=lines)
        matched = [
            line for line in lines
            if line.bank_line_id not in held and _match(session, settings, principal, line, waiting)
        ]  # fmt: skip
        audit.record(
            session, username=principal.username, action="import_bank_file",
            entity_type="bank_file", entity_id=file_id, province_code=HEADQUARTERS,
            detail={"name": file_name, "lines": len(lines), "matched": len(matched)},
        )  # fmt: skip
        zero = Decimal(0)
        rest = [line for line in lines if line.state == "suspense"]
        return Imported(
            file_name, True, len(statements), len(lines), len(matched),
            sum((line.amount for line in matched), zero), len(rest),
            sum((line.amount for line in rest), zero),
        )  # fmt: skip


def _add_statement(
    session: Session, principal: Principal, file_id: str, file_name: str, statement: Statement
) -> list[BankLine]:
    if statement.currency_code != "CNY":
        raise BankRefusedError(
            "bank_currency", file_name=file_name, reference=statement.reference,
            currency=statement.currency_code,
        )  # fmt: skip
    known = session.scalar(
        select(BankFile.file_name).join(BankStatement).where(
            BankStatement.bank_account == statement.bank_account,
            BankStatement.statement_reference == statement.reference,
            BankStatement.closing_date == statement.closing_date,
        )
    )  # fmt: skip
    if known is not None:
        raise BankRefusedError(
            "bank_statement_known", file_name=file_name, reference=statement.reference, other=known
        )
    statement_id = f"BS-{uuid4().hex}"
    session.add(
        BankStatement(
            bank_statement_id=statement_id, bank_file_id=file_id,
            bank_account=statement.bank_account, statement_reference=statement.reference,
            currency_code=statement.currency_code, opening_date=statement.opening_date,
            opening_amount=statement.opening_amount, closing_date=statement.closing_date,
            closing_amount=statement.closing_amount,
        )
    )  # fmt: skip
    lines = [
        BankLine(
            bank_line_id=f"{statement_id}/{number}", bank_statement_id=statement_id,
            line_number=number, booked_date=row.booked_date, amount=row.amount,
            bank_reference=row.bank_reference, customer_reference=row.customer_reference,
            remittance=row.remittance, counterparty=row.counterparty,
        )
        for number, row in enumerate(statement.lines, start=1)
    ]  # fmt: skip
    session.add_all(lines)
    connection = ledger.driver(session)
    for line in lines:
        ledger.post_entry(
            connection, entry_type="bank_line", posted_date=line.booked_date,
            key=f"bank_line:{line.bank_line_id}", by_user=principal.username,
            lines=[Line("bank", line.amount), Line("suspense", -line.amount)],
        )  # fmt: skip
    return lines


def _match(
    session: Session, settings: Settings, principal: Principal, line: BankLine,
    waiting: dict[Decimal, list[InTransit]],
) -> bool:  # fmt: skip
    """Clear what of `waiting` (by amount) the line is, and take it out; else a credit is a payment.

    The payment is of the one account its text names; of several, of the one owing just this. Not
    where it names the bill of one account and another account, or several have it in transit.
    """
    by_bill = bank_transit.accounts_by_bill(session, line)
    named = bank_transit.accounts_by_number(session, line)
    accounts, rule = by_bill, "bill_reference"
    if accounts and named - accounts:
        return False
    if not accounts:
        accounts, rule = named, "account_reference"
    of_amount = waiting.get(line.amount, [])
    found = bank_transit.may_clear(
        of_amount, line=line, accounts=accounts,
        within=bank_transit.match_days(ledger.driver(session), line.booked_date),
    )  # fmt: skip
    item = bank_transit.of_one_account(found)
    if item is not None:
        of_amount.remove(item)
        bank_transit.clear(
            session, line=line, item=item, rule="in_transit", by_user=principal.username
        )
        return True
    if found or line.amount <= 0:
        return False
    if len(accounts) > 1:
        rule = "amount_of_several"
        owing = dict(_owed(session, list(accounts)))
        accounts = {one for one in accounts if owing.get(one) == line.amount}
    if len(accounts) != 1:
        return False
    account = session.get_one(Account, accounts.pop())
    if account.status != "active":
        return False
    _pay(session, settings, principal, line=line, account=account, rule=rule)
    return True


def _pay(
    session: Session, settings: Settings, principal: Principal, *, line: BankLine,
    account: Account, rule: str,
) -> None:  # fmt: skip
    noon = datetime.combine(line.booked_date, time(12), ZoneInfo(settings.timezone))
    reference = line.bank_reference or line.customer_reference
    payment = service.receive(
        session, settings, account=account, amount=line.amount, channel="bank",
        idempotency_key=f"bank_line:{line.bank_line_id}:{line.version}", paid_at=noon,
        reference=(reference or "")[:_LARGEST_PAYMENT_TEXT] or None, by_user=principal.username,
        debit="suspense",
    )  # fmt: skip
    mark(line, rule, principal.username, account.account_id, payment.payment_id)
    session.flush()


def match_to_account(
    settings: Settings, *, principal: Principal, bank_line_id: str, account_id: str
) -> BankLine:
    """Say by hand whose a line is: it clears what is in transit, else a credit is a payment.

    In transit is what people entered for the account with just the line's amount, however long ago.
    """
    _require_headquarters(principal)
    with transaction(settings) as session:
        line = _suspense_line(session, bank_line_id)
        account = service.find_account(session, principal=principal, account_id=account_id)
        connection = ledger.driver(session)
        ledger.lock_accounts(connection, [account_id])
        waiting = bank_transit.of_amounts(
            connection, timezone=settings.timezone, amounts=[line.amount]
        )
        item = bank_transit.of_one_account(
            bank_transit.may_clear(waiting, line=line, accounts=[account_id], within=None)
        )
        detail = {"account": account_id}
        if item is not None:
            bank_transit.clear(
                session, line=line, item=item, rule="by_hand", by_user=principal.username
            )
            detail["cleared"] = item.document_id
        elif line.amount <= 0:
            raise ConflictError(
                "bank_line_is_debit", bank_line_id=bank_line_id, account_id=account_id
            )
        else:
            _pay(session, settings, principal, line=line, account=account, rule="by_hand")
        _audit(session, principal, line, detail)
        return line


def match_to_return(
    settings: Settings, *, principal: Principal, bank_line_id: str, payment_id: str
) -> BankLine:
    """Say by hand which payment a debit takes back: the payment is reversed."""
    _require_headquarters(principal)
    with transaction(settings) as session:
        line = _suspense_line(session, bank_line_id)
        payment = session.get(Payment, payment_id)
        if payment is None or payment.payment_type != "payment" or payment.security_deposit_id:
            raise NotFoundError("no_payment", payment_id=payment_id)
        if line.amount != -payment.amount:
            raise ConflictError(
                "return_of_other_amount", bank_line_id=bank_line_id, payment_id=payment_id,
                amount=payment.amount,
            )  # fmt: skip
        if session.scalar(
            select(Payment.payment_id).where(Payment.reverses_payment_id == payment_id)
        ):
            raise ConflictError("payment_reversed", payment_id=payment_id)
        reversal, _ = service.take_back(
            session, settings, principal=principal, payment_id=payment_id,
            reason_code="payment_returned",
        )  # fmt: skip
        connection = ledger.driver(session)
        row = connection.execute(
            "select lin.ledger_code from billing.ledger_entry as ent"
            " join billing.ledger_line as lin on lin.entry_id = ent.entry_id"
            " where ent.idempotency_key = %s and lin.fund_id is null",
            (f"payment:{payment_id}",),
        ).fetchone()
        assert row is not None  # noqa: S101 - take_back posted it
        if row[0] == bank_transit.LEDGER and not session.scalar(
            select(BankLine.bank_line_id).where(BankLine.payment_id == payment_id)
        ):
            raise ConflictError("return_in_transit", payment_id=payment_id, amount=payment.amount)
        if row[0] != "suspense":  # a payment that came another way is cleared against the bank line
            _move(
                session, principal, line, row[0], "payment_returned",
                province_code=payment.province_code,
            )  # fmt: skip
        mark(line, "by_hand", principal.username, payment.account_id, reversal.payment_id)
        _audit(session, principal, line, {"returned_payment": payment_id})
        return line


def match_to_ledger(
    settings: Settings, *, principal: Principal, bank_line_id: str, ledger_code: str,
    reason_code: str,
) -> BankLine:  # fmt: skip
    """Move a line that is no customer's payment to another ledger account, with a reason."""
    _require_headquarters(principal)
    if ledger_code not in OTHER_LEDGERS:
        raise InvalidRequestError("ledger_unknown", ledger_code=ledger_code, known=OTHER_LEDGERS)
    with transaction(settings) as session:
        line = _suspense_line(session, bank_line_id)
        service.check_reason(session, purpose="bank", reason_code=reason_code)
        _move(session, principal, line, ledger_code, reason_code)
        mark(line, "by_hand", principal.username, None, None)
        _audit(session, principal, line, {"ledger": ledger_code, "reason": reason_code})
        return line


def _move(
    session: Session, principal: Principal, line: BankLine, ledger_code: str, reason_code: str, *,
    province_code: str = HEADQUARTERS,
) -> None:  # fmt: skip
    ledger.post_entry(
        ledger.driver(session), entry_type="bank_match", posted_date=line.booked_date,
        key=match_key(line), by_user=principal.username, reason_code=reason_code,
        province_code=province_code,
        lines=[Line("suspense", line.amount), Line(ledger_code, -line.amount)],
    )  # fmt: skip


def suspense_lines(
    session: Session, *, principal: Principal, limit: int = 50, offset: int = 0
) -> list[BankLine]:
    """Lines nobody has matched, the oldest first."""
    _require_headquarters(principal)
    return list(
        session.scalars(
            select(BankLine).where(BankLine.state == "suspense")
            .options(joinedload(BankLine.statement))
            .order_by(BankLine.booked_date, BankLine.bank_line_id).limit(limit).offset(offset)
        )
    )  # fmt: skip


def suspense_total(session: Session, *, principal: Principal) -> tuple[int, Decimal]:
    """How many lines are in suspense, and their sum."""
    _require_headquarters(principal)
    row = session.execute(
        select(func.count(), func.coalesce(func.sum(BankLine.amount), 0))
        .where(BankLine.state == "suspense")
    ).one()  # fmt: skip
    return int(row[0]), Decimal(row[1])


def suggestions(
    session: Session, settings: Settings, *, principal: Principal, lines: Sequence[BankLine],
    most: int = 3,
) -> dict[str, list[str]]:  # fmt: skip
    """Accounts a line may be of, a few for each: for people to judge.

    First those for which just its amount was entered and is in transit, then those that owe it.
    """
    _require_headquarters(principal)
    amounts = {line.amount for line in lines}
    if not amounts:
        return {}
    owed = func.sum(OpenItem.open_amount)
    owing = session.execute(
        select(OpenItem.account_id, owed).where(OpenItem.open_amount > 0)
        .group_by(OpenItem.account_id).having(owed.in_(amounts)).order_by(OpenItem.account_id)
    )  # fmt: skip
    waiting = bank_transit.of_amounts(
        ledger.driver(session), timezone=settings.timezone, amounts=amounts
    )
    found = [(item.account_id, item.amount) for item in waiting]
    found += [(account, amount) for account, amount in owing]
    return {
        line.bank_line_id: list(
            dict.fromkeys(account for account, amount in found if amount == line.amount)
        )[:most]
        for line in lines
    }


def in_transit(
    session: Session, settings: Settings, *, principal: Principal, limit: int | None = None
) -> list[InTransit]:
    """What people entered as by bank and no statement has shown yet, the oldest first."""
    _require_headquarters(principal)
    return bank_transit.in_transit(ledger.driver(session), timezone=settings.timezone, limit=limit)


def in_transit_total(session: Session, *, principal: Principal) -> tuple[int, Decimal]:
    """How much of that there is: entries, and their sum."""
    _require_headquarters(principal)
    return bank_transit.total_in_transit(ledger.driver(session))


def statements(
    session: Session, *, principal: Principal, limit: int = 20
) -> list[tuple[BankStatement, str, int, int]]:
    """The newest statements: with their file's name, lines, and lines in suspense."""
    _require_headquarters(principal)
    in_suspense = func.count().filter(BankLine.state == "suspense")
    rows = session.execute(
        select(BankStatement, BankFile.file_name, func.count(BankLine.bank_line_id), in_suspense)
        .join(BankFile, BankFile.bank_file_id == BankStatement.bank_file_id)
        .outerjoin(BankLine, BankLine.bank_statement_id == BankStatement.bank_statement_id)
        .group_by(BankStatement.bank_statement_id, BankFile.file_name)
        .order_by(BankStatement.created_at.desc(), BankStatement.statement_reference).limit(limit)
    )  # fmt: skip
    return [(found, name, int(lines), int(rest)) for found, name, lines, rest in rows]


def other_ledgers(session: Session) -> list[LedgerAccount]:
    """Ledger accounts a line may be moved to by hand."""
    return list(
        session.scalars(
            select(LedgerAccount).where(LedgerAccount.ledger_code.in_(OTHER_LEDGERS))
            .order_by(LedgerAccount.account_number)
        )
    )  # fmt: skip


def _owed(session: Session, account_ids: list[str]) -> list[tuple[str, Decimal]]:
    rows = session.execute(
        select(OpenItem.account_id, func.sum(OpenItem.open_amount))
        .where(OpenItem.account_id.in_(account_ids)).group_by(OpenItem.account_id)
    )  # fmt: skip
    return [(account, amount) for account, amount in rows]


def _suspense_line(session: Session, bank_line_id: str) -> BankLine:
    line = session.get(BankLine, bank_line_id, with_for_update=True)
    if line is None:
        raise NotFoundError("no_bank_line", bank_line_id=bank_line_id)
    if line.state != "suspense":
        raise ConflictError("bank_line_matched", bank_line_id=bank_line_id)
    return line


def _require_headquarters(principal: Principal) -> None:
    principal.require("bank.manage")
    if not principal.sees_all_provinces:
        raise ConflictError("bank_headquarters")


def _audit(session: Session, principal: Principal, line: BankLine, detail: dict[str, str]) -> None:
    audit.record(
        session, username=principal.username, action="match_bank_line", entity_type="bank_line",
        entity_id=line.bank_line_id, province_code=HEADQUARTERS,
        detail={"amount": str(line.amount)} | detail,
    )  # fmt: skip
