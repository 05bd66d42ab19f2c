"""study.yaml: how much is tuned, and at which rates. How is said by `tune/config.py`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from tunemerge.study.config_parts import Part


def _distinct_numbers(numbers: list[float]) -> list[float]:
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"the same number given twice: {', '.join(f'{n:g}' for n in numbers)}")
    return numbers


Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rates = Annotated[list[Rate], AfterValidator(_distinct_numbers)]


class Budget(Part):
    """An amount of tuning in exactly one unit."""

    examples: int | None = Field(
        None, gt=0, description="training examples, rounded down to whole batches", examples=[2000]
    )
    steps: int | None = Field(None, gt=0, description="optimizer steps of `tuning.batch_size` examples", examples=[60])
    epochs: float | None = Field(
        None, gt=0, description="passes over the adapt rows of all tasks (in `pool_budget`: the source rows of each)",
        examples=[3],
    )  # fmt: skip

    @model_validator(mode="after")
    def _one_unit(self) -> Budget:
        if sum(v is not None for v in (self.examples, self.steps, self.epochs)) != 1:
            raise ValueError("give exactly one of `examples`, `steps`, `epochs`")
        return self

    @property
    def unit(self) -> str:
        return next(k for k in ("examples", "steps", "epochs") if getattr(self, k) is not None)

    @property
    def amount(self) -> float:
        return float(getattr(self, self.unit))

    def in_steps(self, batch_size: int, rows: int) -> int:
        """Whole optimizer steps of `batch_size` examples, never more than the budget, for `rows` rows."""
        if self.steps is not None:
            return self.steps
        return int((self.examples or (self.epochs or 0) * rows) // batch_size)
