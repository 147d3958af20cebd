"""What every result of one run carries, and how much evidence a verdict in it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from monitor import budget
from monitor.config import ModelConfig
from monitor.models import Check, Result, Window
from monitor.thresholds import Judgement


@dataclass(frozen=True)
class Scope:
    """What every result of one run carries."""

    name: str
    model: ModelConfig
    window: Window
    revision: int
    min_category_rows: int = 10

    def result(self, check: Check, metric: str, **fields: Any) -> Result:
        return Result(model=self.name, check=check, metric=metric, window=self.window, revision=self.revision, **fields)


@dataclass(frozen=True)
class Evidence:
    """How much evidence a verdict needs: the part of the false-page budget that each test of a check has.

    Parameters
    ----------
    check
        Which part, see :data:`monitor.budget.SHARES`.
    n_tests
        Tests in one look that share it.
    """

    scope: Scope
    check: str
    n_tests: float

    def spend(self) -> float | None:
        """False pages that one test may cause in one look; ``None`` where the user has fixed the significance."""
        if self.scope.model.drift.significance is not None:
            return None
        pages, period = self.scope.model.false_pages
        return budget.spend(pages, period, look=self.scope.window.length, check=self.check, n_tests=self.n_tests)

    def alpha(self, *, alike: float = 0.0, confirm: int | None = None, cycles: int = 0) -> float:
        """The significance of one test in this window, see :func:`monitor.budget.level`.

        A column may be confirmed by the next window, or by the same time of so many ``cycles``: each has its part.
        """
        spent = self.spend()
        if spent is None:
            return (self.scope.model.drift.significance or 0.01) / max(1.0, self.n_tests)
        confirm = self.scope.model.confirm if confirm is None else confirm
        return budget.level(
            spent / (1 + cycles) if confirm > 1 else spent,
            confirm=confirm,
            alike=alike,
            check=self.check,
            n_tests=self.n_tests,
        )

    def told(self, alpha: float) -> dict[str, Any]:
        spent = self.spend()
        return {"alpha": alpha} if spent is None else {"alpha": alpha, "spend": spent}


def with_reason(detail: dict[str, Any], judged: Judgement) -> dict[str, Any]:
    return detail | {"reason": judged.reason} if judged.reason and "reason" not in detail else detail
