"""Tables of schema billing that make up the accounts: ledger, open items, funds, dunning, bank."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Numeric,
    Text,
    UniqueConstraint,
    func,
    text,
)  # fmt: skip
from sqlalchemy.orm import Mapped, mapped_column, relationship

from operational.columns import Key, Money, String, Timestamped, Versioned
from operational.database import Base

_SCHEMA = {"schema": "billing"}


class AccountsParameter(Timestamped, Base):
    """One parameter's value from a day on."""

    __tablename__ = "accounts_parameter"
    __table_args__ = _SCHEMA

    name: Mapped[Key]
    valid_from: Mapped[date] = mapped_column(Date, primary_key=True)
    value: Mapped[Decimal] = mapped_column(Numeric(18, 6))


class LedgerAccount(Timestamped, Base):
    """One account of the chart."""

    __tablename__ = "ledger_account"
    __table_args__ = (UniqueConstraint("account_number"), _SCHEMA)

    ledger_code: Mapped[Key]
    account_number: Mapped[String]
    kind: Mapped[String]
    name_zh: Mapped[String]
    name_en: Mapped[String]


class ItemRule(Timestamped, Base):
    """What a bill item is to accounting: order of payment, ledger account."""

    __tablename__ = "item_rule"
    __table_args__ = _SCHEMA

    bill_item_code: Mapped[Key]
    priority: Mapped[int]
    ledger_code: Mapped[str] = mapped_column(Text, ForeignKey("billing.ledger_account.ledger_code"))
    accrues_late_fee: Mapped[bool]


class PaymentChannel(Timestamped, Base):
    """One way money comes in, and the ledger account it goes to."""

    __tablename__ = "payment_channel"
    __table_args__ = _SCHEMA

    channel: Mapped[Key]
    ledger_code: Mapped[str] = mapped_column(Text, ForeignKey("billing.ledger_account.ledger_code"))


class ReasonCode(Timestamped, Base):
    """One reason for a correction, and what it is a reason for."""

    __tablename__ = "reason_code"
    __table_args__ = _SCHEMA

    reason_code: Mapped[Key]
    purpose: Mapped[String]
    name_zh: Mapped[String]
    name_en: Mapped[String]
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))


class AdjustmentNote(Versioned, Base):
    """One credit or debit note: asked for by one person, decided by another."""

    __tablename__ = "adjustment_note"
    __table_args__ = (
        Index("adjustment_note_state", "state", "requested_at"),
        Index("adjustment_note_account", "account_id"),
        _SCHEMA,
    )

    note_id: Mapped[Key]
    note_type: Mapped[String]
    account_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.account.account_id"))
    province_code: Mapped[String]
    bill_id: Mapped[str | None] = mapped_column(Text, ForeignKey("billing.bill.bill_id"))
    bill_item_code: Mapped[String]
    amount: Mapped[Money]
    reason_code: Mapped[str] = mapped_column(Text, ForeignKey("billing.reason_code.reason_code"))
    explanation: Mapped[String]
    state: Mapped[str] = mapped_column(Text, server_default="requested", default="requested")
    requested_by: Mapped[String]
    requested_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
    decided_by: Mapped[String | None]
    decided_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    decision_reason: Mapped[String | None]
    reason: Mapped[ReasonCode] = relationship()


class AdjustmentNoteTransition(Base):
    """One allowed step of a note."""

    __tablename__ = "adjustment_note_transition"
    __table_args__ = _SCHEMA

    from_state: Mapped[Key]
    to_state: Mapped[Key]


class OpenItem(Timestamped, Base):
    """One amount that is owed; ledger lines keep what of it is still open."""

    __tablename__ = "open_item"
    __table_args__ = (
        Index("open_item_account", "account_id", "issued_date"),
        Index("open_item_document", "document_id"),
        Index("open_item_bill", "bill_id"),
        Index("open_item_open", "account_id", postgresql_where=text("open_amount > 0")),
        _SCHEMA,
    )

    open_item_id: Mapped[Key]
    account_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.account.account_id"))
    province_code: Mapped[String]
    document_type: Mapped[String]
    document_id: Mapped[String]
    bill_id: Mapped[str | None] = mapped_column(Text, ForeignKey("billing.bill.bill_id"))
    bill_item_code: Mapped[String]
    issued_date: Mapped[date]
    due_date: Mapped[date]
    priority: Mapped[int]
    accrues_late_fee: Mapped[bool]
    amount: Mapped[Money]
    open_amount: Mapped[Money] = mapped_column(server_default="0")


class Fund(Timestamped, Base):
    """Money of an account that open items are paid from; ledger lines keep its balance."""

    __tablename__ = "fund"
    __table_args__ = (
        Index("fund_account", "account_id", "valid_from"),
        Index("fund_payment", "payment_id"),
        Index("fund_with_money", "account_id", postgresql_where=text("balance_amount > 0")),
        _SCHEMA,
    )

    fund_id: Mapped[Key]
    account_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.account.account_id"))
    province_code: Mapped[String]
    kind: Mapped[String]
    payment_id: Mapped[str | None] = mapped_column(Text, ForeignKey("billing.payment.payment_id"))
    bill_id: Mapped[str | None] = mapped_column(Text, ForeignKey("billing.bill.bill_id"))
    bill_item_codes: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    valid_from: Mapped[date]
    valid_to: Mapped[date | None]
    amount: Mapped[Money]
    balance_amount: Mapped[Money] = mapped_column(server_default="0")


class SecurityDeposit(Timestamped, Base):
    """One security deposit as it was received; its fund says what is held of it. Append-only."""

    __tablename__ = "security_deposit"
    __table_args__ = (
        UniqueConstraint("idempotency_key"),
        Index("security_deposit_account", "account_id"),
        _SCHEMA,
    )

    security_deposit_id: Mapped[Key]  # and the id of its fund
    account_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.account.account_id"))
    subscription_id: Mapped[str | None] = mapped_column(
        Text, ForeignKey("crm.subscription.subscription_id")
    )
    province_code: Mapped[String]
    amount: Mapped[Money]
    channel: Mapped[str] = mapped_column(Text, ForeignKey("billing.payment_channel.channel"))
    reason_code: Mapped[str] = mapped_column(Text, ForeignKey("billing.reason_code.reason_code"))
    reference: Mapped[String | None]
    received_date: Mapped[date]
    idempotency_key: Mapped[String]
    taken_by: Mapped[String]
    reason: Mapped[ReasonCode] = relationship()


class SecurityReturn(Timestamped, Base):
    """What was given back of a security deposit at one time. Append-only."""

    __tablename__ = "security_return"
    __table_args__ = (
        UniqueConstraint("idempotency_key"),
        Index("security_return_deposit", "security_deposit_id"),
        _SCHEMA,
    )

    security_return_id: Mapped[Key]
    security_deposit_id: Mapped[str] = mapped_column(
        Text, ForeignKey("billing.security_deposit.security_deposit_id")
    )
    amount: Mapped[Money]
    channel: Mapped[str] = mapped_column(Text, ForeignKey("billing.payment_channel.channel"))
    reason_code: Mapped[str] = mapped_column(Text, ForeignKey("billing.reason_code.reason_code"))
    overdue_amount: Mapped[Money]  # what the account owed past its due dates
    override_reason: Mapped[String | None]  # why it was given back all the same
    returned_date: Mapped[date]
    idempotency_key: Mapped[String]
    by_user: Mapped[String]
    reason: Mapped[ReasonCode] = relationship()


class LedgerEntry(Timestamped, Base):
    """One balanced entry of the ledger. Append-only."""

    __tablename__ = "ledger_entry"
    __table_args__ = (
        UniqueConstraint("reverses_entry_id"),
        UniqueConstraint("idempotency_key"),
        Index("ledger_entry_posted", "posted_date"),
        Index("ledger_entry_account", "account_id", "entry_id"),
        Index(
            "ledger_entry_payment", "payment_id", postgresql_where=text("payment_id is not null")
        ),
        _SCHEMA,
    )

    entry_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    entry_type: Mapped[String]
    posted_date: Mapped[date]
    account_id: Mapped[str | None] = mapped_column(Text, ForeignKey("crm.account.account_id"))
    province_code: Mapped[String]
    idempotency_key: Mapped[String]
    line_count: Mapped[int]
    reverses_entry_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("billing.ledger_entry.entry_id")
    )
    reason_code: Mapped[str | None] = mapped_column(
        Text, ForeignKey("billing.reason_code.reason_code")
    )
    bill_id: Mapped[str | None] = mapped_column(Text, ForeignKey("billing.bill.bill_id"))
    payment_id: Mapped[str | None] = mapped_column(Text, ForeignKey("billing.payment.payment_id"))
    note_id: Mapped[str | None] = mapped_column(Text, ForeignKey("billing.adjustment_note.note_id"))
    by_user: Mapped[String]
    lines: Mapped[list[LedgerLine]] = relationship(order_by="LedgerLine.line_number")


class LedgerLine(Timestamped, Base):
    """One line of an entry: a debit is positive, a credit negative. Append-only."""

    __tablename__ = "ledger_line"
    __table_args__ = (
        Index(
            "ledger_line_open_item",
            "open_item_id",
            postgresql_where=text("open_item_id is not null"),
        ),
        Index("ledger_line_fund", "fund_id", postgresql_where=text("fund_id is not null")),
        Index("ledger_line_ledger", "ledger_code"),
        Index(
            "ledger_line_bank_clearing",
            "amount",
            postgresql_where=text("ledger_code = 'bank_clearing'"),
        ),
        _SCHEMA,
    )

    entry_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("billing.ledger_entry.entry_id"), primary_key=True,
        autoincrement=False,
    )  # fmt: skip
    line_number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ledger_code: Mapped[str] = mapped_column(Text, ForeignKey("billing.ledger_account.ledger_code"))
    bill_item_code: Mapped[String | None]
    open_item_id: Mapped[str | None] = mapped_column(
        Text, ForeignKey("billing.open_item.open_item_id")
    )
    fund_id: Mapped[str | None] = mapped_column(Text, ForeignKey("billing.fund.fund_id"))
    amount: Mapped[Money]
    ledger: Mapped[LedgerAccount] = relationship()


class LedgerPeriod(Timestamped, Base):
    """One closed month. Append-only."""

    __tablename__ = "ledger_period"
    __table_args__ = _SCHEMA

    period_id: Mapped[Key]
    closed_by: Mapped[String]
    closed_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )


class UnbilledRevenue(Timestamped, Base):
    """What a closed month accrued of one item in a province, net of tax. Append-only."""

    __tablename__ = "unbilled_revenue"
    __table_args__ = _SCHEMA

    period_id: Mapped[str] = mapped_column(
        Text, ForeignKey("billing.ledger_period.period_id"), primary_key=True
    )
    province_code: Mapped[Key]
    bill_item_code: Mapped[Key]
    amount: Mapped[Money]


class LateFeeRun(Timestamped, Base):
    """One day's late fees, charged once. Append-only."""

    __tablename__ = "late_fee_run"
    __table_args__ = _SCHEMA

    fee_date: Mapped[date] = mapped_column(Date, primary_key=True)
    rate_per_day: Mapped[Decimal] = mapped_column(Numeric(9, 6))
    document_count: Mapped[int]
    fee_amount: Mapped[Money]
    by_user: Mapped[String]


class LateFee(Timestamped, Base):
    """One document's late fee of one day. Append-only."""

    __tablename__ = "late_fee"
    __table_args__ = (UniqueConstraint("open_item_id"), _SCHEMA)

    document_id: Mapped[Key]
    fee_date: Mapped[date] = mapped_column(
        Date, ForeignKey("billing.late_fee_run.fee_date"), primary_key=True
    )
    account_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.account.account_id"))
    base_amount: Mapped[Money]
    rate_per_day: Mapped[Decimal] = mapped_column(Numeric(9, 6))
    fee_amount: Mapped[Money]
    open_item_id: Mapped[str] = mapped_column(Text, ForeignKey("billing.open_item.open_item_id"))


class Deduction(Timestamped, Base):
    """One difference posted to a prepaid account, of one bill item in one cycle. Append-only."""

    __tablename__ = "deduction"
    __table_args__ = (Index("deduction_cycle", "cycle_id"), _SCHEMA)

    account_id: Mapped[str] = mapped_column(
        Text, ForeignKey("crm.account.account_id"), primary_key=True
    )
    cycle_id: Mapped[str] = mapped_column(
        Text, ForeignKey("billing.billing_cycle.cycle_id"), primary_key=True
    )
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    bill_item_code: Mapped[Key]
    province_code: Mapped[String]
    amount: Mapped[Money]  # negative: given back
    total_amount: Mapped[Money]  # deducted after it
    reason_code: Mapped[str] = mapped_column(Text, ForeignKey("billing.reason_code.reason_code"))
    entry_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("billing.ledger_entry.entry_id"))


class BalanceCase(Timestamped, Base):
    """One prepaid account's low balance, until there is enough money again."""

    __tablename__ = "balance_case"
    __table_args__ = (
        Index(
            "balance_case_open", "account_id", unique=True,
            postgresql_where=text("closed_date is null"),
        ),
        _SCHEMA,
    )  # fmt: skip

    balance_case_id: Mapped[int] = mapped_column(
        BigInteger, Identity(always=True), primary_key=True
    )
    account_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.account.account_id"))
    province_code: Mapped[String]
    opened_date: Mapped[date]
    barred_date: Mapped[date | None]
    closed_date: Mapped[date | None]
    notices: Mapped[list[BalanceNotice]] = relationship(order_by="BalanceNotice.created_at")


class BalanceNotice(Timestamped, Base):
    """What a customer is to be told of the balance, once a case. Append-only."""

    __tablename__ = "balance_notice"
    __table_args__ = _SCHEMA

    balance_case_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("billing.balance_case.balance_case_id"), primary_key=True,
        autoincrement=False,
    )  # fmt: skip
    kind: Mapped[Key]
    notice_date: Mapped[date]
    balance_amount: Mapped[Money]
    threshold_amount: Mapped[Money]


class DunningStep(Timestamped, Base):
    """One step of dunning: when it is due, and what it does."""

    __tablename__ = "dunning_step"
    __table_args__ = _SCHEMA

    step_number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    action: Mapped[String]
    days_overdue: Mapped[int]
    minimum_amount: Mapped[Money]
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))


class DunningCase(Timestamped, Base):
    """One account's way through the steps, until it is paid or written off."""

    __tablename__ = "dunning_case"
    __table_args__ = (
        Index(
            "dunning_case_open", "account_id", unique=True,
            postgresql_where=text("closed_date is null"),
        ),
        _SCHEMA,
    )  # fmt: skip

    case_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    account_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.account.account_id"))
    province_code: Mapped[String]
    opened_date: Mapped[date]
    closed_date: Mapped[date | None]
    outcome: Mapped[String | None]
    actions: Mapped[list[DunningAction]] = relationship(order_by="DunningAction.step_number")


class DunningAction(Timestamped, Base):
    """One step taken in a case. Append-only."""

    __tablename__ = "dunning_action"
    __table_args__ = _SCHEMA

    case_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("billing.dunning_case.case_id"), primary_key=True,
        autoincrement=False,
    )  # fmt: skip
    step_number: Mapped[int] = mapped_column(
        ForeignKey("billing.dunning_step.step_number"), primary_key=True, autoincrement=False
    )
    action_date: Mapped[date]
    action: Mapped[String]
    days_overdue: Mapped[int]
    overdue_amount: Mapped[Money]


class ServiceOrder(Versioned, Base):
    """One order to bar, restore or terminate a subscription, for fulfilment to carry out."""

    __tablename__ = "service_order"
    __table_args__ = (
        UniqueConstraint("case_id", "subscription_id", "action"),
        UniqueConstraint("balance_case_id", "subscription_id", "action"),
        Index("service_order_state", "state", "service_order_id"),
        Index("service_order_account", "account_id"),
        _SCHEMA,
    )

    service_order_id: Mapped[int] = mapped_column(
        BigInteger, Identity(always=True), primary_key=True
    )
    account_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.account.account_id"))
    subscription_id: Mapped[str] = mapped_column(
        Text, ForeignKey("crm.subscription.subscription_id")
    )
    province_code: Mapped[String]
    action: Mapped[String]
    state: Mapped[str] = mapped_column(Text, server_default="requested", default="requested")
    # One of the two: what is overdue, or a balance that is used up.
    case_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("billing.dunning_case.case_id")
    )
    balance_case_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("billing.balance_case.balance_case_id")
    )
    requested_date: Mapped[date]


class ServiceOrderTransition(Base):
    """One allowed step of a service order."""

    __tablename__ = "service_order_transition"
    __table_args__ = _SCHEMA

    from_state: Mapped[Key]
    to_state: Mapped[Key]


class BankFile(Timestamped, Base):
    """One statement file as the bank sent it. Append-only."""

    __tablename__ = "bank_file"
    __table_args__ = (UniqueConstraint("sha256"), _SCHEMA)

    bank_file_id: Mapped[Key]
    file_name: Mapped[String]
    format: Mapped[String]
    sha256: Mapped[String]
    imported_by: Mapped[String]


class BankStatement(Timestamped, Base):
    """One statement of one bank account. Append-only."""

    __tablename__ = "bank_statement"
    __table_args__ = (
        UniqueConstraint("bank_account", "statement_reference", "closing_date"),
        _SCHEMA,
    )

    bank_statement_id: Mapped[Key]
    bank_file_id: Mapped[str] = mapped_column(Text, ForeignKey("billing.bank_file.bank_file_id"))
    bank_account: Mapped[String]
    statement_reference: Mapped[String]
    currency_code: Mapped[String]
    opening_date: Mapped[date]
    opening_amount: Mapped[Money]
    closing_date: Mapped[date]
    closing_amount: Mapped[Money]


class BankLine(Versioned, Base):
    """One movement on a bank account, and which payment it is."""

    __tablename__ = "bank_line"
    __table_args__ = (
        UniqueConstraint("bank_statement_id", "line_number"),
        UniqueConstraint("cleared_entry_id"),
        Index("bank_line_suspense", "booked_date", postgresql_where=text("state = 'suspense'")),
        Index("bank_line_account", "account_id", postgresql_where=text("account_id is not null")),
        _SCHEMA,
    )

    bank_line_id: Mapped[Key]
    bank_statement_id: Mapped[str] = mapped_column(
        Text, ForeignKey("billing.bank_statement.bank_statement_id")
    )
    line_number: Mapped[int]
    booked_date: Mapped[date]
    amount: Mapped[Money]
    bank_reference: Mapped[String | None]
    customer_reference: Mapped[String | None]
    remittance: Mapped[String | None]
    counterparty: Mapped[String | None]
    state: Mapped[str] = mapped_column(Text, server_default="suspense", default="suspense")
    match_rule: Mapped[String | None]
    account_id: Mapped[str | None] = mapped_column(Text, ForeignKey("crm.account.account_id"))
    payment_id: Mapped[str | None] = mapped_column(Text, ForeignKey("billing.payment.payment_id"))
    # What people had entered, and this line confirms.
    cleared_entry_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("billing.ledger_entry.entry_id")
    )
    matched_by: Mapped[String | None]
    matched_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    statement: Mapped[BankStatement] = relationship()
