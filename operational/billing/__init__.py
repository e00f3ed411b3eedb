"""Billing cycles, payments and published bills (帐务)."""
