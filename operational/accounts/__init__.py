"""Accounts receivable: ledger, payments, notes, late fees, dunning, bank statements (帐务)."""
