"""What is said where a training diverges: a loss or weights that are no numbers."""

from __future__ import annotations

from collections.abc import Sequence

from tunemerge.errors import TunemergeError
from tunemerge.findings import Finding, error
from tunemerge.registry import listed


class DivergedError(TunemergeError):
    """A training that can't go on; `findings` names learning rate, step and batch. Exit code 1."""

    def __init__(self, message: str, remedy: str) -> None:
        self.message, self.remedy = message, remedy
        self.findings: tuple[Finding, ...] = (error("diverged", message, "tuning.learning_rate", remedy),)
        super().__init__(str(self.findings[0]))

    def with_kept(self, what: str) -> DivergedError:
        """The same, saying also what is left of the training."""
        return DivergedError(self.message, f"{self.remedy}; {what}")


def diverged(what: str, step: int, total: int, rate: float, peak: float, rows: Sequence[int]) -> DivergedError:
    """`what` became no number in optimizer step `step` (from 1), at this learning rate, on these training rows."""
    batch = f", batch {step}: training rows {listed(row + 1 for row in rows)}" if rows else ""
    return DivergedError(
        f"{what} in step {step} of {total} at learning rate {rate:.3g}{batch}",
        f"lower learning_rate ({peak:g}) or max_grad_norm, or raise warmup",
    )
