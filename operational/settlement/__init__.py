"""Interconnect agreements and trunk groups (网间结算)."""
