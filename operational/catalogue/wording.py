"""A tariff in words: prices, allowances and rules as a person reads them, in either language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from operational.catalogue.authoring import UsagePriceRow
from operational.catalogue.content import tier_values
from operational.catalogue.models import (
    Allowance,
    AllowanceCoverage,
    BundleComponent,
    PricePlanVersion,
    PriceTier,
    UsagePrice,
)  # fmt: skip
from operational.i18n import Translate, has_message, translator
from operational.templating import money, page_words, plain

Quantify = Callable[[Decimal | int | None, str | None], str]


class Wording:
    """Words of tariffs in one language."""

    def __init__(self, language: str, timezone: str) -> None:
        words = page_words(language, timezone)
        self.language = language
        self.translate: Translate = translator(language)
        self.quantity: Quantify = words["quantity"]
        self.local_date = words["local_date"]
        self.charge_class: Callable[[str], str] = words["charge_class"]

    def name(self, row: Any) -> str:
        """The name of a row."""
        return str(getattr(row, f"name_{self.language}"))

    def band(self, band: str | None) -> str:
        """A band, or that it is all day."""
        if band is None:
            return self.translate("catalogue.all_day")
        return self.translate(f"band.{band}") if has_message(f"band.{band}") else band

    def price(self, price: UsagePrice, tiers: Sequence[PriceTier], unit: str) -> list[str]:
        """A usage price, one line for each tier and each rule."""
        lines = [self.tier(price, tier, unit, len(tiers)) for tier in tiers]
        say = self.translate
        if price.model == "volume":
            lines.insert(0, say("price_text.whole"))
        if price.repeat_quantity is not None:
            lines.append(
                say("price_text.repeats", quantity=self.quantity(price.repeat_quantity, unit))
            )
        elif tiers and tiers[-1].to_quantity is not None:
            lines.append(say("price_text.then_free"))
        if price.overhang == "each" and len(tiers) > 1:
            lines.append(say("price_text.each"))
        for key, amount in (
            ("connection", price.connection_fee_amount), ("minimum", price.minimum_amount),
            ("maximum", price.maximum_amount),
        ):  # fmt: skip
            if amount:
                lines.append(say(f"price_text.{key}", amount=money(amount)))
        return lines

    def whole_price(
        self, price: UsagePrice, tiers: Sequence[PriceTier], unit: str
    ) -> list[str]:  # fmt: skip
        """A usage price with how it is counted, rounded and billed."""
        rounding = self.translate(f"rounding.{price.rounding_mode}")
        return [
            *self.price(price, tiers, unit),
            " · ".join((
                self.translate(f"price_model.{price.model}"), f"{rounding} {price.rounding_digits}",
                self.translate(f"bill_item.{price.bill_item_code}"),
            )),
        ]  # fmt: skip

    def price_row(self, row: UsagePriceRow, unit: str) -> list[str]:
        """A usage price as it was written."""
        price = UsagePrice(
            model=row.model, overhang=row.overhang,
            repeat_quantity=row.repeat_quantity and row.repeat_quantity.value,
            connection_fee_amount=row.connection_fee_amount, minimum_amount=row.minimum_amount,
            maximum_amount=row.maximum_amount,
        )  # fmt: skip
        return self.price(price, [PriceTier(**one) for one in tier_values(row.tiers)], unit)

    def tier(self, price: UsagePrice, tier: PriceTier, unit: str, count: int) -> str:
        """One tier of a price of so many tiers."""
        say = self.translate
        increment = self.quantity(tier.increment_quantity, unit)
        if price.model == "package":
            return say("price_text.package", size=increment, price=money(tier.price_amount))
        parts = []
        if tier.price_amount == 0:
            parts.append(say("price_text.free"))
        else:
            parts.append(self._rate(tier, unit))
            if tier.is_partial:
                parts.append(say("price_text.partial"))
            elif unit != "event" or tier.increment_quantity != 1:
                parts.append(say("price_text.rounded", increment=increment))
        if tier.flat_amount:
            parts.append(say("price_text.entering", amount=money(tier.flat_amount)))
        text = ("，" if self.language == "zh" else ", ").join(parts)
        place = self._range(tier, unit) if count > 1 or tier.to_quantity is not None else ""
        return f"{place}：{text}" if place and self.language == "zh" else (
            f"{place}: {text}" if place else text
        )  # fmt: skip

    def _rate(self, tier: PriceTier, unit: str) -> str:
        price = money(tier.price_amount)
        if unit == "event" and tier.per_quantity == 1:
            return self.translate("price_text.each_event", price=price)
        per = self.quantity(tier.per_quantity, unit).removeprefix("1 ")
        return self.translate("price_text.per", price=price, per=per)

    def _range(self, tier: PriceTier, unit: str) -> str:
        start = self.quantity(tier.from_quantity, unit)
        if tier.to_quantity is None:
            return self.translate("price_text.beyond", start=start)
        end = self.quantity(tier.to_quantity, unit)
        if tier.from_quantity == 0:
            return self.translate("price_text.first", end=end)
        return self.translate("price_text.range", start=start, end=end)

    def allowance(self, allowance: Allowance) -> list[str]:
        """How an allowance is drawn and kept."""
        say = self.translate
        lines = []
        if allowance.quantity_basis == "rounded":
            increment = self.quantity(allowance.rounding_increment, allowance.unit)
            lines.append(say("quantity_basis.rounded", increment=increment))
        else:
            lines.append(say("quantity_basis.raw"))
        if allowance.rollover_months:
            lines.append(say("rollover", months=allowance.rollover_months))
        return lines

    def whole_allowance(
        self, allowance: Allowance, covers: Sequence[AllowanceCoverage]
    ) -> list[str]:  # fmt: skip
        """An allowance with its size, what it covers, and when it is drawn."""
        say = self.translate
        covered = [
            self.charge_class(one.charge_class) + (f" ({self.band(one.band)})" if one.band else "")
            for one in covers
        ]
        return [
            self.quantity(allowance.size_quantity, allowance.unit),
            say(f"allowance_scope.{allowance.scope}"), *self.allowance(allowance),
            f"{say('field.covers')}: {', '.join(covered)}",
            f"{say('field.priority')}: {allowance.priority}",
        ]  # fmt: skip

    def rules(self, version: PricePlanVersion) -> list[str]:
        """The fee rules of a version."""
        say = self.translate
        amounts = [
            say(key, amount=money(amount))
            for key, amount in (
                ("catalogue.suspension_fee", version.suspension_fee_amount),
                ("catalogue.minimum_consumption", version.minimum_consumption_amount),
            )
            if amount is not None
        ]
        return [
            say(f"first_month_rule.{version.first_month_rule}"),
            say(f"last_month_rule.{version.last_month_rule}"),
            *amounts,
            say(f"late_usage_policy.{version.late_usage_policy}"),
        ]

    def discount(self, discount: Any) -> str:
        """What a discount takes off."""
        text = self.translate(f"discount_kind.{discount.kind}", value=plain(discount.value))
        codes = [code for code in (discount.bill_item_codes or "").split(",") if code]
        names = ", ".join(self.translate(f"bill_item.{code}") for code in codes)
        return f"{text} ({names})" if names else text

    def component(self, component: BundleComponent) -> str:
        """What becomes of a component's monthly fee."""
        amount = "" if component.fee_amount is None else money(component.fee_amount)
        return self.translate(f"component_fee.{component.fee_rule}", amount=amount)

    def commitment(self, commitment: Any) -> str:
        """How long a holder binds himself, and what costs how much before."""
        return self.translate(
            f"commitment_rule.{commitment.penalty_rule}", months=commitment.months,
            value=plain(commitment.penalty_value),
            doing=self.translate(f"penalty_on.{commitment.penalty_on}"),
        )  # fmt: skip
