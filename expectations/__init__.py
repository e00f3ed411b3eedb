"""Data-quality suites before the warehouse's own: on landed files, in Great Expectations."""

from expectations.landing import check_landing
from expectations.report import ExpectationOutcome, ExpectationReport, LandingRejectedError

__all__ = [
    "ExpectationOutcome",
    "ExpectationReport",
    "LandingRejectedError",
    "check_landing",
]
