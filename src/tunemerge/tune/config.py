"""How to tune: one frozen set of settings, the same for every step of a study."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Method = Literal["full", "lora", "dora", "head", "bitfit", "last_layers", "attention"]

_WITHOUT = frozenset(
    ("layers", "class_weights", "l2_sp", "layer_decay", "sam", "average", "mixup", "gradient_checkpointing", "distil")
)


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


class AverageConfig(BaseModel):
    """An average of the weights along the training takes the place of its last state."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["ema", "swa", "lawa"] = Field(
        description="exponential mean of all states; mean of all states after `start` (1803.05407); mean of the states "
        "at the last evaluations (2209.14981)",
        examples=["ema"],
    )
    decay: float = Field(default=0.99, gt=0, lt=1, description="of `ema`: what stays of the mean in a step")
    start: float = Field(default=0.5, ge=0, lt=1, description="of `swa`: share of the steps that don't count")
    last: int = Field(default=3, ge=1, le=20, description="of `lawa`: how many evaluations' states")


class DistilConfig(BaseModel):
    """How much a tuning that has teachers listens to them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(default=0.5, gt=0, le=1, description="of the teachers in the loss; the rest is the labels'")
    temperature: float = Field(
        default=2.0, gt=0, allow_inf_nan=False, description="of the teachers' probabilities, and of the model's"
    )


class TuneConfig(BaseModel):
    """Settings of one fine-tuning. How long it takes is not one of them: that is the step's budget, in examples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method = Field(
        default="full",
        description="what learns: `full` all parameters; `lora`, `dora` an adapter and the head (`pip install "
        "tunemerge[lora]`); `head` only the head on frozen features (a linear probe); `bitfit` biases and the head; "
        "`last_layers` the last `layers` ones; `attention` the matrices of attention and the head",
        examples=["lora"],
    )
    lora: LoraConfig | None = Field(
        default=None, description="the adapter of `lora` and `dora`; absent: its defaults", examples=[{"rank": 4}]
    )
    layers: int = Field(
        default=1, ge=1, description="with `method: last_layers`: how many numbered layers learn", examples=[2]
    )
    learning_rate: float = Field(
        default=5e-5, gt=0, allow_inf_nan=False, description="peak learning rate of AdamW", examples=[1e-4]
    )
    batch_size: int = Field(default=32, ge=1, description="examples of one optimizer step, whatever fits into memory")
    micro_batch: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        default=None,
        description="examples of one forward pass; gradients are accumulated up to batch_size; absent: batch_size; "
        "`auto`: batch_size, halved until the largest pass fits into memory",
        examples=[8, "auto"],
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

    class_weights: Literal["balanced"] | dict[str, float] | None = Field(
        default=None,
        description="weights of the classes in the training loss: in inverse proportion to how often they occur, or by "
        "label; scaled to a mean of 1 over the training rows",
        examples=["balanced", {"healthy": 1, "ill": 5}],
    )
    l2_sp: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, examples=[0.1],
        description="pull of the body's weights to where they started, in place of weight decay (1802.01483)",
    )  # fmt: skip
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, examples=[0.9],
        description="factor on the learning rate from each layer to the one below it; the head has the whole rate",
    )  # fmt: skip
    sam: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, examples=[0.05],
        description="sharpness-aware minimisation with this radius (2010.01412); every step computes twice, and the "
        "ledger says so",
    )  # fmt: skip
    average: AverageConfig | None = Field(
        default=None, examples=[{"method": "ema", "decay": 0.99}],
        description="score and keep an average of the weights along the training",
    )  # fmt: skip
    mixup: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, examples=[0.2],
        description="train on blends of two rows, their shares drawn from Beta(mixup, mixup) (1710.09412); for images",
    )  # fmt: skip
    distil: DistilConfig | None = Field(
        default=None, examples=[{"share": 0.5, "temperature": 2}],
        description="for tunings that have teachers (`teachers` of a step): how they are listened to (1503.02531)",
    )  # fmt: skip
    gradient_checkpointing: bool = Field(
        default=False,
        description="compute activations again in the backward pass: less memory, a third more time",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_four_bits(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("method") == "qlora":
            raise ValueError(
                "method qlora (an adapter on a base in 4 bits) needs a GPU and bitsandbytes, which tunemerge does not "
                "drive: take method: lora, whose frozen weights are float32, with gradient_checkpointing for memory"
            )
        return values

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> Self:
        if self.batch_size % self.planned_pass:
            raise ValueError(f"micro_batch {self.micro_batch} does not divide batch_size {self.batch_size}")
        return self

    @model_validator(mode="after")
    def _an_adapter_is_asked_for(self) -> Self:
        if self.lora is not None and self.method not in ("lora", "dora"):
            raise ValueError(f"lora describes an adapter, and method {self.method} trains none: write method: lora")
        if "layers" in self.model_fields_set and self.layers != 1 and self.method != "last_layers":
            raise ValueError(f"layers goes with method: last_layers, and method is {self.method}")
        return self

    @property
    def planned_pass(self) -> int:
        """Examples of one forward pass, as far as it is known before the training: with `auto` it may become less."""
        return self.micro_batch if isinstance(self.micro_batch, int) else self.batch_size

    @property
    def adapter(self) -> LoraConfig | None:
        """What a tuning with `method: lora` (or dora) trains; None for other methods."""
        return (self.lora or LoraConfig()) if self.method in ("lora", "dora") else None

    @property
    def trainable(self) -> str:
        """A name for the set of parameters that learn."""
        return f"{self.method} {self.layers}" if self.method == "last_layers" else self.method

    def params(self) -> dict[str, Any]:
        """As it stands in the parameters of steps, and so in their keys: defaults filled in, but for the keys of
        `_WITHOUT`, which came later: at their defaults they change no key of a step made before."""
        values = self.model_dump(mode="json", exclude={"lora"})
        values = {k: v for k, v in values.items() if k not in _WITHOUT or v != TuneConfig.model_fields[k].default}
        return values if self.adapter is None else {**values, "lora": self.adapter.model_dump(mode="json")}
