"""Tollhouse: a warehouse-native telecom BSS."""

__version__ = "0.1.0"
