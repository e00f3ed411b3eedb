"""The operational database and the web module: customers, orders, catalogue, bills, control."""
