"""Who may do what, and what they may see: roles, province scope and masking, for every channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select

from operational.problems import ForbiddenError

HEADQUARTERS = "00"

# One line a permission: the roles that have it.
PERMISSIONS: dict[str, frozenset[str]] = {
    "customer.read": frozenset({"admin", "agent", "finance", "analyst"}),
    "customer.personal_data": frozenset({"admin", "agent", "finance"}),
    "order.read": frozenset({"admin", "agent"}),
    "order.place": frozenset({"admin", "agent"}),
    # Friend numbers, groups and their members.
    "relation.change": frozenset({"admin", "agent"}),
    # Suspending a line at its customer's request, and resuming it.
    "subscription.suspend": frozenset({"admin", "agent"}),
    # Ending a bundle of a line.
    "product.end": frozenset({"admin", "agent"}),
    "bill.read": frozenset({"admin", "agent", "finance", "analyst"}),
    "charge.explain": frozenset({"admin", "agent", "finance", "analyst"}),
    "cycle.read": frozenset({"admin", "finance", "operator", "analyst"}),
    "cycle.advance": frozenset({"admin", "finance"}),
    "receivable.read": frozenset({"admin", "agent", "finance", "analyst"}),
    "payment.take": frozenset({"admin", "agent", "finance"}),
    "payment.refund": frozenset({"admin", "finance"}),
    "payment.reverse": frozenset({"admin", "finance"}),
    "security_deposit.take": frozenset({"admin", "agent", "finance"}),
    "security_deposit.return": frozenset({"admin", "finance"}),
    "security_deposit.apply": frozenset({"admin", "finance"}),
    "bonus.grant": frozenset({"admin", "finance"}),
    "responsibility.manage": frozenset({"admin", "agent", "finance"}),
    "note.request": frozenset({"admin", "agent", "finance"}),
    "note.approve": frozenset({"admin", "finance"}),
    "dunning.read": frozenset({"admin", "agent", "finance"}),
    "service_order.move": frozenset({"admin", "operator"}),
    "bank.manage": frozenset({"admin", "finance"}),
    "ledger.read": frozenset({"admin", "finance", "analyst"}),
    "period.close": frozenset({"admin", "finance"}),
    "catalogue.read": frozenset({"admin", "agent", "finance", "operator", "analyst"}),
    "catalogue.write": frozenset({"admin", "finance"}),
    "agreement.read": frozenset({"admin", "finance", "analyst"}),
    "file.read": frozenset({"admin", "operator"}),
    "file.rollback": frozenset({"admin", "operator"}),
    # Clearing the alarm of a refused file that nobody will send again.
    "alarm.settle": frozenset({"admin", "operator"}),
    # A rejected record is corrected by whoever sees it whole, numbers and all.
    "reject.read": frozenset({"admin", "operator"}),
    "reject.correct": frozenset({"admin", "operator"}),
    "rule.read": frozenset({"admin", "finance", "operator"}),
    "rule.write": frozenset({"admin", "operator"}),
    "rollback.read": frozenset({"admin", "finance", "operator"}),
    "control_audit.read": frozenset({"admin", "finance", "operator"}),
    "user.read": frozenset({"admin"}),
    "audit.read": frozenset({"admin", "finance"}),
}

Rows = TypeVar("Rows", bound=Select[*tuple[Any, ...]])


@dataclass(frozen=True)
class Principal:
    """The person (or loader) on whose behalf something is done."""

    username: str
    display_name: str
    role: str
    province_code: str
    language: str = "zh"

    def may(self, permission: str) -> bool:
        """Whether the role includes a permission."""
        return self.role in PERMISSIONS[permission]

    def require(self, permission: str) -> None:
        """Raise ForbiddenError unless the role includes the permission."""
        if not self.may(permission):
            raise ForbiddenError(
                "forbidden", role=self.role, permission=permission,
                roles=sorted(PERMISSIONS[permission]),
            )  # fmt: skip

    @property
    def sees_all_provinces(self) -> bool:
        """Whether the user belongs to headquarters."""
        return self.province_code == HEADQUARTERS

    def sees(self, province_code: str) -> bool:
        """Whether rows of a province are visible."""
        return self.sees_all_provinces or province_code == self.province_code

    def only_own_province(self, query: Rows, column: Any) -> Rows:
        """The query restricted to the province of the user."""
        if self.sees_all_provinces:
            return query
        condition: ColumnElement[bool] = column == self.province_code
        return query.where(condition)

    def masked_name(self, name: str) -> str:
        """A person's name, or its first character alone for roles without need."""
        if self.may("customer.personal_data"):
            return name
        return name[:1] + "*" * max(len(name) - 1, 1)

    def masked_id_number(self, id_number: str | None) -> str:
        """Identity numbers are shown in part to those who need them, and not at all to others."""
        if not id_number:
            return ""
        if self.may("customer.personal_data"):
            return id_number[:6] + "*" * max(len(id_number) - 10, 4) + id_number[-4:]
        return "*" * 8

    def masked_msisdn(self, msisdn: str) -> str:
        """A number, or without its middle for roles without need."""
        if self.may("customer.personal_data"):
            return msisdn
        return msisdn[:5] + "****" + msisdn[-2:]


def administrator(username: str) -> Principal:
    """Whoever works on the machine itself: all is permitted, of every province."""
    return Principal(username, username, "admin", HEADQUARTERS)
