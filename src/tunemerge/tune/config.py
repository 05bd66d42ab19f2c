"""How to tune: one frozen set of settings, the same for every step of a study."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TuneConfig(BaseModel):
    """Settings of one fine-tuning. How long it takes is not one of them: that is the step's budget, in examples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["full", "head"] = Field(
        default="full", description="train all parameters, or only the head on frozen features (a linear probe)"
    )
    learning_rate: float = Field(
        default=5e-5, gt=0, allow_inf_nan=False, description="peak learning rate of AdamW", examples=[1e-4]
    )
    batch_size: int = Field(default=32, ge=1, description="examples of one optimizer step, whatever fits into memory")
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        description="examples of one forward pass; gradients are accumulated up to batch_size; absent: batch_size",
        examples=[8],
    )
    weight_decay: float = Field(default=0.01, ge=0, description="decoupled weight decay; not on biases and norms")
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="overrides every dropout of the model; absent: its own", examples=[0.0]
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the target spread over all labels")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="how the learning rate goes on after warm-up; planned on the step's budget"
    )
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    max_grad_norm: float = Field(default=1.0, gt=0, description="gradients are scaled down to this norm")
    evaluations: int = Field(default=4, ge=1, description="how often the validation rows are scored, evenly spaced")
    select: Literal["best", "last"] = Field(
        default="best", description="keep the state with the lowest validation log loss, or the last"
    )
    max_length: int = Field(default=256, ge=16, description="tokens a row is cut to")
    length_grouping: bool = Field(default=True, description="batch rows of like length: less padding")
    precision: Literal["auto", "float32"] = Field(
        default="auto", description="auto: bfloat16 autocast where the hardware has it; weights stay float32"
    )

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> Self:
        if self.micro_batch is not None and self.batch_size % self.micro_batch:
            raise ValueError(f"micro_batch {self.micro_batch} does not divide batch_size {self.batch_size}")
        return self
