"""Customers, accounts, subscriptions and orders (客户关系管理)."""
