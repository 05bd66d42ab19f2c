"""study.yaml: what was made elsewhere, checkpoints and today's predictions."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from tunemerge.study.config_parts import Name, Part


class BuiltModel(Part):
    """A plain torch module that a function makes (`docs/any-network.md`), instead of a folder."""

    build: str = Field(
        description="`FILE:FUNCTION` that returns a torch.nn.Module, or a network that ships; it is given the keywords "
        "of `config`, and `outputs`, the number of outputs, where it has such a parameter",
        examples=["nets.py:make"],
    )  # fmt: skip
    config: dict[str, Any] = Field({}, description="keywords of the function", examples=[{"width": 32}])
    weights: str | None = Field(
        None,
        description="safetensors file with its state; absent: every seed draws its own",
        examples=["w.safetensors"],
    )
    labels: list[str] = Field(
        [], description="what the outputs of `weights` are, in their order; absent: the head is drawn afresh",
        examples=[["cat", "dog"]],
    )  # fmt: skip


class PoolModel(Part):
    """A checkpoint made elsewhere: a folder, or a made model as for `base`. A path alone is short for one with only
    `model`."""

    model: str | None = Field(None, description="folder, `package:NAME/PATH` or Hub id", examples=["models/amazon"])
    build: str | None = Field(None, description="instead of `model`: as for `base`", examples=["nets.py:make"])
    config: dict[str, Any] = Field({}, description="with `build`: as for `base`", examples=[{"width": 32}])
    weights: str | None = Field(None, description="with `build`: as for `base`", examples=["amazon.safetensors"])
    labels: list[str] = Field([], description="with `build`: as for `base`", examples=[["cat", "dog"]])
    examples: int | None = Field(
        None,
        ge=0,
        description="training examples it cost to make, if known and not in its own record; unknown is not 0",
        examples=[20000],
    )
    licence: str | None = Field(None, description="its licence, for the model card", examples=["mit"])

    @model_validator(mode="after")
    def _one_way(self) -> PoolModel:
        if bool(self.model) == bool(self.build):
            raise ValueError("give either `model`, a folder, or `build` with `weights`")
        if self.build and not self.weights:
            raise ValueError("`build` needs `weights`: a model of the pool was tuned")
        return self

    @property
    def given(self) -> str | BuiltModel:
        """The folder, or what makes it."""
        if self.model:
            return self.model
        return BuiltModel(build=str(self.build), config=self.config, weights=self.weights, labels=self.labels)


class IncumbentConfig(Part):
    """What runs today, as its predictions on the test rows: the model handed back is compared with it."""

    predictions: str | dict[Name, str] = Field(
        description="table of predictions, a row each, for all tasks (with a column `task`) or one for each task: "
        "either a column a label, called as the label, with its probability, or the label alone",
        examples=[{"amazon": "today/amazon.csv", "yelp": "today/yelp.csv"}],
    )  # fmt: skip
    id: str | None = Field(
        None, description="column that data and predictions share, with one value a row; absent: the task's `unit`, "
        "else `row`, the number of the data row (the first is 1)", examples=["review_id"],
    )  # fmt: skip
    prediction: str = Field("prediction", description="column of the predicted label", examples=["answer"])
    task: str = Field("task", description="column of the task's name, in a table for several", examples=["site"])
