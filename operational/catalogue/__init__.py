"""Offerings and their price plan versions (产品目录)."""
