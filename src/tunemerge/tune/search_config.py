"""What a search over the settings of a tuning tries: ranges and lists of values, how many trials, which end early."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tunemerge.registry import listed
from tunemerge.schema_errors import said
from tunemerge.tune.config import TuneConfig


class Between(BaseModel):
    """Any number from `low` to `high`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float = Field(allow_inf_nan=False, description="the smallest", examples=[1e-5])
    high: float = Field(allow_inf_nan=False, description="the largest", examples=[3e-4])
    log: bool = Field(False, description="drawn evenly in the logarithm", examples=[True])

    @model_validator(mode="after")
    def _some_numbers(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"expected low < high, found low {self.low:g} and high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low above 0, found {self.low:g}")
        return self


Numbers = Between | list[float]


class TuningSearch(BaseModel):
    """Every tuning of every arm is a search: the same number of trials in each, all of them charged. A key is a list of
    values, or a range `{low, high, log}`; what is not named stays as in `tuning`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: int = Field(ge=1, le=1000, description="tunings that each search tries", examples=[12])
    learning_rate: Numbers | None = Field(
        None, description="peak learning rates", examples=[{"low": 1e-5, "high": 3e-4, "log": True}]
    )
    weight_decay: Numbers | None = Field(None, description="decoupled weight decay", examples=[[0, 0.01]])
    dropout: Numbers | None = Field(None, description="dropout everywhere in the model", examples=[[0, 0.1]])
    label_smoothing: Numbers | None = Field(
        None, description="share of the target spread over all labels", examples=[[0, 0.1]]
    )
    warmup: Numbers | None = Field(
        None, description="share of the steps in which the learning rate rises", examples=[[0, 0.1]]
    )
    layer_decay: Numbers | None = Field(
        None, description="factor on the rate from each layer to the one below", examples=[[0.9, 1]]
    )
    l2_sp: Numbers | None = Field(
        None, description="pull of the weights to where they started", examples=[{"low": 0, "high": 0.1}]
    )
    schedule: list[str] | None = Field(None, description="how the rate goes on", examples=[["linear", "cosine"]])
    pruning: Literal["asha"] | None = Field(
        None, description="end trials early that are not among the best third at the first evaluation, and again each "
        "time that three times as many examples are seen (asynchronous successive halving, 1810.05934); they cost what "
        "they used", examples=["asha"],
    )  # fmt: skip

    @field_validator("*")
    @classmethod
    def _values_that_a_tuning_takes(cls, values: Any, info: Any) -> Any:
        if info.field_name in ("trials", "pruning") or values is None:
            return values
        tried = [values.low, values.high] if isinstance(values, Between) else values
        if not tried or len(set(tried)) < len(tried):
            raise ValueError(f"expected different values, at least one, found {tried}")
        for value in tried:
            try:
                TuneConfig.model_validate({info.field_name: value})
            except ValidationError as problem:
                raise ValueError(said(problem.errors()[0])) from None
        return values

    @model_validator(mode="after")
    def _something_to_search(self) -> Self:
        if not self.space:
            named = [n for n in type(self).model_fields if n not in ("trials", "pruning")]
            raise ValueError(f"nothing to search: give one of {listed(named)}")
        return self

    @property
    def space(self) -> dict[str, Any]:
        """What is searched, by setting: a list of values, or a range as a mapping."""
        values = self.model_dump(mode="json", exclude={"trials", "pruning"})
        return {name: value for name, value in values.items() if value is not None}

    def params(self) -> dict[str, Any]:
        """As it stands in the parameters of steps."""
        return {"trials": self.trials, "pruning": self.pruning, "space": self.space}
