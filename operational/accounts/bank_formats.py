"""Reads bank statement files: MT940 (SWIFT) and camt.053 (ISO 20022).

MT940 is parsed by mt-940, which passes over what it cannot read; so every statement is added up:
opening balance and lines must give the closing balance, and no line may be lost. camt.053 is read
from its XML by element names, with the line of the file for whatever is wrong (docs/decisions).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

import mt940
from lxml import etree

LARGEST_FILE = 50_000_000


class BankFileError(ValueError):
    """A bank file is refused whole; the message names the place and what is wrong there."""


@dataclass(frozen=True)
class StatementLine:
    """One movement: credited to our account is positive."""

    booked_date: date
    amount: Decimal
    bank_reference: str | None = None
    customer_reference: str | None = None
    remittance: str | None = None
    counterparty: str | None = None


@dataclass
class Statement:
    """One statement of one bank account, whose lines add up to its closing balance."""

    bank_account: str
    reference: str
    currency_code: str
    opening_date: date
    opening_amount: Decimal
    closing_date: date
    closing_amount: Decimal
    lines: list[StatementLine] = field(default_factory=list)


def read_statements(content: bytes) -> tuple[str, list[Statement]]:
    """The format of a file and its statements; BankFileError for anything that is not right."""
    if len(content) > LARGEST_FILE:
        raise BankFileError(f"the file has {len(content):,} octets, more than {LARGEST_FILE:,}")
    if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "camt.053", _checked(_read_camt(content))
    return "mt940", _checked(_read_mt940(content))


def _checked(statements: list[Statement]) -> list[Statement]:
    if not statements:
        raise BankFileError("line 1: there is no statement in this file")
    seen: set[tuple[str, str, date]] = set()
    for statement in statements:
        where = f"statement {statement.reference} of {statement.bank_account}"
        total = statement.opening_amount + sum((row.amount for row in statement.lines), Decimal(0))
        if total != statement.closing_amount:
            raise BankFileError(
                f"{where}: opening balance and lines make {total},"
                f" the closing balance is {statement.closing_amount}"
            )
        for number, row in enumerate(statement.lines, start=1):
            if row.amount != row.amount.quantize(Decimal("0.01")):
                raise BankFileError(f"{where}, line {number}: {row.amount} has more than 2 digits")
        key = (statement.bank_account, statement.reference, statement.closing_date)
        if key in seen:
            raise BankFileError(f"{where} is in this file twice")
        seen.add(key)
    return statements


# --- MT940 ---------------------------------------------------------------------------------------

_MT940_ORDER = ("20", "25", "28C", "60F", "62F")


def _read_mt940(content: bytes) -> list[Statement]:
    text = _decoded(content)
    found = []
    for first_line, block in _mt940_blocks(text):
        tags = re.findall(r"^:(\d{2}[A-Z]?):", block, re.MULTILINE)
        for tag in _MT940_ORDER:
            alternatives = {tag, tag.replace("F", "M")} if tag[-1] == "F" else {tag, tag[:2]}
            if not alternatives & set(tags):
                raise BankFileError(
                    f"line {first_line}: the statement that begins here has no :{tag}:"
                )
        try:
            statement = _mt940_statement(mt940.parse(block), tags.count("61"), first_line)
        except BankFileError:
            raise
        except Exception as error:  # whatever a parser meets in a broken file
            raise BankFileError(f"{_mt940_place(block, first_line)}: {error}") from error
        found.append(statement)
    return found


def _mt940_blocks(text: str) -> Iterable[tuple[int, str]]:
    """Statements with the number of their first line: each begins with :20:."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(":20:")]
    if not starts:
        raise BankFileError("line 1: neither XML nor MT940 (no :20: field)")
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield start + 1, "\n".join(lines[start:end]) + "\n"


def _mt940_statement(parsed: Any, lines_written: int, first_line: int) -> Statement:
    data = parsed.data
    opening = data.get("final_opening_balance") or data.get("intermediate_opening_balance")
    closing = data.get("final_closing_balance") or data.get("intermediate_closing_balance")
    reference = "/".join(
        str(data[name]) for name in ("transaction_reference", "statement_number", "sequence_number")
        if data.get(name)
    )  # fmt: skip
    if opening is None or closing is None or not data.get("account_identification"):
        raise BankFileError(f"line {first_line}: a field of this statement cannot be read")
    rows = [_mt940_line(row.data) for row in parsed if row.data.get("status")]
    if len(rows) != lines_written:
        raise BankFileError(
            f"line {first_line}: {lines_written} :61: lines in this statement,"
            f" {len(rows)} of them can be read"
        )
    return Statement(
        bank_account=str(data["account_identification"]).strip(), reference=reference,
        currency_code=str(opening.amount.currency), opening_date=_day(opening.date),
        opening_amount=_signed(opening), closing_date=_day(closing.date),
        closing_amount=_signed(closing), lines=rows,
    )  # fmt: skip


def _mt940_line(data: dict[str, Any]) -> StatementLine:
    # The mark says the direction: a reversed credit takes money away, a reversed debit gives it.
    mark = str(data["status"]).upper()
    amount = abs(Decimal(data["amount"].amount))
    texts = (data.get("transaction_details"), data.get("extra_details"))
    reference = data.get("customer_reference")
    return StatementLine(
        booked_date=_day(data.get("entry_date") or data["date"]),
        amount=amount if mark in {"C", "RD"} else -amount,
        bank_reference=data.get("bank_reference") or None,
        customer_reference=None if reference in {None, "", "NONREF"} else str(reference),
        remittance=" ".join(str(text).replace("\n", " ") for text in texts if text).strip() or None,
    )  # fmt: skip


def _mt940_place(block: str, first_line: int) -> str:
    """The first line of a statement that mt-940 cannot parse alone, or the statement."""
    head = f":20:x\n:25:x\n:28C:1/1\n:60F:{_SOME_BALANCE}\n"
    for number, line in enumerate(block.splitlines()):
        if line.startswith((":61:", ":60", ":62")):
            try:
                mt940.parse(f"{head}{line}\n:62F:{_SOME_BALANCE}\n")
            except Exception:
                return f"line {first_line + number}"
    return f"the statement from line {first_line}"


_SOME_BALANCE = "C260101CNY1,00"


def _signed(balance: Any) -> Decimal:
    amount = abs(Decimal(balance.amount.amount))
    return -amount if str(balance.status).upper().endswith("D") else amount


def _day(value: Any) -> date:
    return date(value.year, value.month, value.day)


def _decoded(content: bytes) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise BankFileError("line 1: the text is neither UTF-8 nor GB 18030")


# --- camt.053 ------------------------------------------------------------------------------------

_NAMESPACE = re.compile(r"^urn:iso:std:iso:20022:tech:xsd:camt\.053\.001\.\d{2}$")


def _read_camt(content: bytes) -> list[Statement]:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
        remove_comments=True,
    )  # fmt: skip
    try:
        root = etree.fromstring(content.lstrip(b"\xef\xbb\xbf \t\r\n"), parser)
    except etree.XMLSyntaxError as error:
        raise BankFileError(f"line {error.lineno}: not well-formed XML: {error.msg}") from None
    if root.getroottree().docinfo.doctype:
        raise BankFileError("line 1: a document type declaration is not accepted")
    name = etree.QName(root)
    if name.localname != "Document" or not _NAMESPACE.match(name.namespace or ""):
        raise BankFileError(
            f"line {root.sourceline}: {name.text} is not a camt.053 document"
            " (urn:iso:std:iso:20022:tech:xsd:camt.053.001.*)"
        )
    return [_camt_statement(_Node(element, str(name.namespace)))
            for element in root.iter(f"{{{name.namespace}}}Stmt")]  # fmt: skip


@dataclass(frozen=True)
class _Node:
    """An element of the document; paths are written with element names only."""

    element: Any
    namespace: str

    def all(self, path: str) -> list[_Node]:
        steps = "/".join(f"{{{self.namespace}}}{step}" for step in path.split("/"))
        return [_Node(found, self.namespace) for found in self.element.findall(steps)]

    def text(self, *paths: str) -> str | None:
        for path in paths:
            for node in self.all(path):
                if value := "".join(node.element.itertext()).strip():
                    return value
        return None

    def needed(self, *paths: str) -> str:
        value = self.text(*paths)
        if value is None:
            raise self.wrong(f"has no {' or '.join(paths)}")
        return value

    def wrong(self, what: str) -> BankFileError:
        return BankFileError(
            f"line {self.element.sourceline}: {etree.QName(self.element).localname} {what}"
        )

    def amount(self) -> tuple[Decimal, str]:
        """Amt with its currency, signed by CdtDbtInd."""
        nodes = self.all("Amt")
        if not nodes:
            raise self.wrong("has no Amt")
        try:
            value = Decimal(nodes[0].element.text.strip())
        except (InvalidOperation, AttributeError):
            raise nodes[0].wrong(f"is not a number: {nodes[0].element.text!r}") from None
        if not value.is_finite() or value < 0:
            raise nodes[0].wrong(f"is not an amount: {nodes[0].element.text!r}")
        sign = self.needed("CdtDbtInd")
        if sign not in {"CRDT", "DBIT"}:
            raise self.wrong(f"has CdtDbtInd {sign!r}, not CRDT or DBIT")
        return value if sign == "CRDT" else -value, str(nodes[0].element.get("Ccy") or "")

    def day(self, path: str) -> date:
        value = self.needed(f"{path}/Dt", f"{path}/DtTm")
        try:
            return date.fromisoformat(value[:10])
        except ValueError:
            raise self.wrong(f"has a {path} that is no date: {value!r}") from None


def _camt_statement(node: _Node) -> Statement:
    balances = {bal.needed("Tp/CdOrPrtry/Cd", "Tp/CdOrPrtry/Prtry"): bal for bal in node.all("Bal")}
    opening = balances.get("OPBD") or balances.get("PRCD")
    closing = balances.get("CLBD")
    if opening is None or closing is None:
        raise node.wrong("has no opening (OPBD, PRCD) or closing (CLBD) booked balance")
    opening_amount, currency = opening.amount()
    closing_amount, _ = closing.amount()
    lines = []
    for entry in node.all("Ntry"):
        if entry.needed("Sts/Cd", "Sts") == "BOOK":
            lines += _camt_lines(entry, currency)
    return Statement(
        bank_account=node.needed("Acct/Id/IBAN", "Acct/Id/Othr/Id"), reference=node.needed("Id"),
        currency_code=currency, opening_date=opening.day("Dt"), opening_amount=opening_amount,
        closing_date=closing.day("Dt"), closing_amount=closing_amount, lines=lines,
    )  # fmt: skip


def _camt_lines(entry: _Node, currency: str) -> list[StatementLine]:
    """An entry's transactions, or the entry itself where they do not carry amounts of their own."""
    total, entry_currency = entry.amount()
    if entry_currency != currency:
        raise entry.wrong(f"is in {entry_currency!r}, the account in {currency!r}")
    booked = entry.day("BookgDt") if entry.all("BookgDt") else entry.day("ValDt")
    details = entry.all("NtryDtls/TxDtls")
    if len(details) > 1 and all(
        detail.all("Amt") and detail.all("CdtDbtInd") for detail in details
    ):
        parts = [(detail, detail.amount()[0]) for detail in details]
        if sum((amount for _, amount in parts), Decimal(0)) != total:
            raise entry.wrong("is not the sum of its transactions")
    else:
        parts = [(details[0] if len(details) == 1 else entry, total)]
    return [_camt_line(entry, detail, booked, amount) for detail, amount in parts if amount]


def _camt_line(entry: _Node, detail: _Node, booked: date, amount: Decimal) -> StatementLine:
    party = "Dbtr" if amount > 0 else "Cdtr"
    remittance = [
        "".join(node.element.itertext()).strip()
        for path in ("RmtInf/Ustrd", "RmtInf/Strd/CdtrRefInf/Ref", "RmtInf/Strd/AddtlRmtInf",
                     "AddtlTxInf", "AddtlNtryInf")
        for node in detail.all(path)
    ]  # fmt: skip
    reference = detail.text("Refs/EndToEndId", "Refs/InstrId")
    return StatementLine(
        booked_date=booked, amount=amount,
        bank_reference=detail.text("Refs/AcctSvcrRef") or entry.text("AcctSvcrRef", "NtryRef"),
        customer_reference=None if reference == "NOTPROVIDED" else reference,
        remittance=" ".join(filter(None, remittance)) or None,
        counterparty=detail.text(f"RltdPties/{party}/Nm", f"RltdPties/{party}/Pty/Nm"),
    )  # fmt: skip
