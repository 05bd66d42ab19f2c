"""How to tune: one frozen set of settings, the same for every step of a study."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class LoraConfig(BaseModel):
    """A low-rank adapter (Hu et al. 2021, 2106.09685): W + alpha / rank * B A, of which only A and B learn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(default=8, ge=1, description="rank of the change of every matrix", examples=[4])
    alpha: float = Field(
        default=16.0, gt=0, allow_inf_nan=False, description="the change is scaled by alpha / rank", examples=[8]
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout of what goes into the adapter's matrices")
    targets: Literal["auto"] | list[str] = Field(
        default="auto",
        min_length=1,
        description="the matrices that get an adapter, by the ends of their modules' names; auto: all linear ones in "
        "the numbered layers of the body",
        examples=[["query", "value"]],
    )


class TuneConfig(BaseModel):
    """Settings of one fine-tuning. How long it takes is not one of them: that is the step's budget, in examples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["full", "lora", "head"] = Field(
        default="full",
        description="train all parameters; a low-rank adapter and the head (`pip install tunemerge[lora]`); or only "
        "the head on frozen features (a linear probe)",
        examples=["lora"],
    )
    lora: LoraConfig | None = Field(
        default=None, description="the adapter of `method: lora`; absent: its defaults", examples=[{"rank": 4}]
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

    @model_validator(mode="after")
    def _an_adapter_is_asked_for(self) -> Self:
        if self.lora is not None and self.method != "lora":
            raise ValueError(f"lora describes an adapter, and method {self.method} trains none: write method: lora")
        return self

    @property
    def adapter(self) -> LoraConfig | None:
        """What a tuning with `method: lora` trains; None for other methods."""
        return (self.lora or LoraConfig()) if self.method == "lora" else None

    def params(self) -> dict[str, Any]:
        """As it stands in the parameters of steps, and so in their keys: defaults filled in."""
        values = self.model_dump(mode="json", exclude={"lora"})
        return values if self.adapter is None else {**values, "lora": self.adapter.model_dump(mode="json")}
