"""What a check of expectations found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CRITICAL, WARNING = "critical", "warning"
NAMED_FILES = 5  # of an expectation that many files break, a line names the worst


class LandingRejectedError(RuntimeError):
    """Landed files break a critical expectation; the message names expectation, files, counts."""


@dataclass(frozen=True)
class ExpectationOutcome:
    """One expectation and the files that break it, each with the count that does."""

    name: str
    severity: str
    title_zh: str
    title_en: str
    failures: dict[str, int]

    @property
    def is_met(self) -> bool:
        """Whether no file breaks it."""
        return not self.failures

    def __str__(self) -> str:
        title = f"{self.severity} {self.name}: {self.title_zh} {self.title_en}"
        if self.is_met:
            return f"{title}: met"
        worst = sorted(self.failures.items(), key=lambda failure: (-failure[1], failure[0]))
        files = ", ".join(f"{file_id} ({count})" for file_id, count in worst[:NAMED_FILES])
        more = f" and {len(worst) - NAMED_FILES} more files" if len(worst) > NAMED_FILES else ""
        return f"{title}: {files}{more}"


@dataclass(frozen=True)
class ExpectationReport:
    """The outcome of every expectation of a suite over `file_count` files."""

    file_count: int
    outcomes: Sequence[ExpectationOutcome]

    @property
    def warnings(self) -> list[ExpectationOutcome]:
        """What is broken but may pass."""
        return [each for each in self.outcomes if not each.is_met and each.severity == WARNING]

    @property
    def criticals(self) -> list[ExpectationOutcome]:
        """What is broken and may not pass."""
        return [each for each in self.outcomes if not each.is_met and each.severity == CRITICAL]
