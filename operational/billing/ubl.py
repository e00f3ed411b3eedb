"""Builds UBL 2.1 documents: what invoices, credit notes and debit notes have in common.

Elements stand in the order of the schema: whoever appends them keeps to it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from lxml import etree

_UBL = "urn:oasis:names:specification:ubl:schema:xsd:"
_CAC = f"{_UBL}CommonAggregateComponents-2"
_CBC = f"{_UBL}CommonBasicComponents-2"


def document(name: str) -> Any:
    """The root of a document of a type, for example `Invoice`."""
    names = {None: f"{_UBL}{name}-2", "cac": _CAC, "cbc": _CBC}
    root = etree.Element(f"{{{names[None]}}}{name}", nsmap=names)
    cbc(root, "UBLVersionID", "2.1")
    return root


def written(root: Any) -> bytes:
    """The document as a file."""
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True))


def parties(
    root: Any, *, issuer: str, issuer_tax_number: str, account_id: str, customer_name: str
) -> None:
    """Append who issues the document and whom it is for."""
    supplier = cac(cac(root, "AccountingSupplierParty"), "Party")
    cbc(cac(supplier, "PartyName"), "Name", issuer)
    if issuer_tax_number:
        scheme = cac(supplier, "PartyTaxScheme")
        cbc(scheme, "CompanyID", issuer_tax_number)
        cbc(cac(scheme, "TaxScheme"), "ID", "VAT")
    customer = cac(root, "AccountingCustomerParty")
    cbc(customer, "SupplierAssignedAccountID", account_id)
    cbc(cac(cac(customer, "Party"), "PartyName"), "Name", customer_name)


def tax_category(parent: Any, rate: Decimal) -> None:
    """Fill in a category: the standard rate, or zero."""
    cbc(parent, "ID", "S" if rate else "Z")
    cbc(parent, "Percent", f"{rate.normalize():f}")
    cbc(cac(parent, "TaxScheme"), "ID", "VAT")


def cac(parent: Any, name: str) -> Any:
    """Append an aggregate."""
    return etree.SubElement(parent, f"{{{_CAC}}}{name}")


def cbc(parent: Any, name: str, text: str, **attributes: str) -> None:
    """Append a basic component."""
    etree.SubElement(parent, f"{{{_CBC}}}{name}", **attributes).text = text


def money(parent: Any, name: str, amount: Decimal, currency: str) -> None:
    """Append an amount."""
    cbc(parent, name, f"{amount:.2f}", currencyID=currency)
