"""study.yaml: how rows are split, and what a run is."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from tunemerge.study.config_parts import Part, Size, Span


class Run(NamedTuple):
    """One run of every arm: a seed, or one fold of a repetition of the cross-validation whose number is `seed`."""

    seed: int
    fold: int | None


class SplitsConfig(Part):
    """How the rows of all tasks are split. Every split is stratified by label, and keeps the rows of a `unit` together.
    Sizes are rows (1 and more) or fractions (below 1) of all rows of a task; a task's own `splits` replace them."""

    folds: int | None = Field(
        None, ge=2, le=100, examples=[5],
        description="cross-validation: every run holds out one fold, on which its arms are scored; each run draws its "
        "validation, adapt and source rows from the other folds",
    )  # fmt: skip
    by: Literal["label", "time"] = Field(
        "label", description="`time`: walk-forward, what is tested comes after what is trained on, and one calendar "
        "cut holds for all tasks; sizes are then fractions of all rows (with folds: of the rows before the fold)",
        examples=["time"],
    )  # fmt: skip
    column: str | None = Field(None, description="with `by: time`: column of the date, or number", examples=["day"])
    horizon: Span | None = Field(
        None, description="with `by: time`: how far after its date a row's label is known; rows that would be known "
        "only after a cut are left out before it", examples=["5d"],
    )  # fmt: skip
    embargo: Span | None = Field(
        None, description="with `by: time`: a further gap before every cut", examples=["1d"]
    )  # fmt: skip
    build: str | None = Field(
        None, description="`FILE:FUNCTION` that returns a splitter as scikit-learn's are, for the folds; it is given "
        "the rows' table, labels and units, and the function the seed if it takes one", examples=["folds.py:make"],
    )  # fmt: skip
    test: Size | None = Field(
        None, description="test rows, the same for all runs; with folds they stay out of all of them; "
        "absent: 0.2, with folds none", examples=[0.2],
    )  # fmt: skip
    validation: Size | None = Field(None, description="absent: 0.1", examples=[0.1])
    adapt: Size | None = Field(None, description="absent: what is left", examples=[0.3])
    source: Size | None = Field(None, description="rows that the pool is made on; absent: none", examples=[0.3])

    @model_validator(mode="after")
    def _fits_together(self) -> SplitsConfig:
        if self.by == "time" and self.build:
            raise ValueError("`build` decides the folds by itself: leave `by` out")
        if self.by == "time" and not self.column:
            raise ValueError("`by: time` needs `column`, for example {by: time, column: date}")
        given = [key for key in ("column", "horizon", "embargo") if getattr(self, key) is not None]
        if self.by != "time" and given:
            raise ValueError(f"`{given[0]}` goes with `by: time`")
        if self.build and self.folds is None:
            raise ValueError("`build` needs `folds`, as many as the splitter makes")
        if self.build and not self.build.rpartition(":")[0]:
            raise ValueError("`build` is FILE:FUNCTION, for example folds.py:make")
        if self.by == "time" and any(size >= 1 for size in self.sizes.values()):
            raise ValueError("with `by: time` sizes are fractions, below 1")
        return self

    @property
    def sizes(self) -> dict[str, float]:
        """Those that are given."""
        names = ("test", "validation", "adapt", "source")
        return {name: size for name in names if (size := getattr(self, name)) is not None}
