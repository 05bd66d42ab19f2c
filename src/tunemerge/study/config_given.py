"""study.yaml: what was made elsewhere, checkpoints and today's predictions."""

from __future__ import annotations

from pydantic import Field

from tunemerge.study.config_parts import Name, Part


class PoolModel(Part):
    """A checkpoint made elsewhere. A path alone is short for one with only `model`."""

    model: str = Field(description="folder, `package:NAME/PATH` or Hub id", examples=["models/amazon"])
    examples: int | None = Field(
        None,
        ge=0,
        description="training examples it cost to make, if known and not in its own record; unknown is not 0",
        examples=[20000],
    )
    licence: str | None = Field(None, description="its licence, for the model card", examples=["mit"])


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
