"""The services people open in a browser, behind `make up` and `make down`."""

from tollhouse.services.supervisor import ServiceError, ServiceStatus, State, down, status, up

__all__ = ["ServiceError", "ServiceStatus", "State", "down", "status", "up"]
