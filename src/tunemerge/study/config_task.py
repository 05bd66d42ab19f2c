"""study.yaml: one task, whose keys are its own and those of its kind."""

from __future__ import annotations

from typing import Any, Self

from pydantic import (
    BaseModel,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from tunemerge.data.join import Join
from tunemerge.study.config_parts import Part, Size, SplitName
from tunemerge.tasks.task import TASKS


def _as_raised(e: Any) -> InitErrorDetails:
    """An error of a ValidationError, to be raised again."""
    own = e["type"] in ("value_error", "assertion_error")  # what a check of the schema said
    kind = PydanticCustomError(e["type"], "{text}", {"text": e["msg"]}) if own else e["type"]
    return InitErrorDetails(type=kind, loc=e["loc"], input=e["input"], ctx={} if own else e.get("ctx", {}))


class TaskConfig(Part):
    """One task: a table that is split by seed (`data` + `splits`), or given splits (`files`). Which columns are read,
    and how, is said by keys of the task's kind."""

    kind: str | None = Field(
        None, description="kind of task (`tunemerge list tasks`); absent: the study's `task`",
        examples=["text-regression"],
    )  # fmt: skip
    data: str | list[str] | None = Field(
        None, description="table (CSV, TSV, JSONL or Parquet, also .gz), or the folder of a Hugging Face data set, "
        "split by seed as `splits` says; `$NAME` in a path stands for an environment variable; of several tables the "
        "rows are pooled, with a column `source`",
        examples=["amazon.csv", ["north.csv", "south.csv"]],
    )  # fmt: skip
    join: list[Join] = Field(
        [], description="with `data`: columns of other tables, found by a key",
        examples=[[{"table": "days.csv", "on": ["patient"]}]],
    )  # fmt: skip
    files: dict[SplitName, str] = Field(
        {}, description="instead of `data`: a table for each split",
        examples=[{"adapt": "a.csv", "validation": "v.csv", "test": "t.csv"}],
    )  # fmt: skip
    splits: dict[SplitName, Size] = Field(
        {}, description="rows (1 and more) or a fraction of all rows (below 1); test rows are the same for all seeds; "
        "absent: those of the study's `splits`",
        examples=[{"test": 600, "validation": 0.1, "adapt": 0.2, "source": 0.4}],
    )  # fmt: skip
    unit: str | None = Field(
        None, description="column of what is one piece of evidence (a document, a patient, a day): its rows stay "
        "together in every split, and the statistics resample and count it; absent: the row (the same text is one)",
        examples=["patient"],
    )  # fmt: skip
    weight: str | None = Field(
        None, description="column of row weights in all metrics; training counts every row once",
        examples=["weight"],
    )  # fmt: skip
    where: dict[str, str | int] = Field(
        {}, description="keep only the rows with these values in these columns", examples=[{"site": "yelp"}]
    )
    private: bool = Field(
        False, description="no step reads the rows of two private tasks; findings, report and results show counts and "
        "names of columns, no value of theirs", examples=[True],
    )  # fmt: skip
    deployment: str | None = Field(
        None, description="table of rows as they are where the model will be used, without labels: `check` says how "
        "well the adapt rows can be told from them", examples=["last_month.csv"],
    )  # fmt: skip
    licence: str | None = Field(None, description="licence of the data, for the model card", examples=["cc-by-4.0"])

    _options: BaseModel | None = PrivateAttr(None)

    @property
    def options(self) -> Any:
        """The keys of the task's kind, an instance of its `Options`."""
        return self._options

    @property
    def tables(self) -> dict[str, str]:
        """What each of its tables is called, by split, or as "data"."""
        if not self.data:
            return {str(split): file for split, file in self.files.items()}
        names = self.data if isinstance(self.data, str) else " + ".join(self.data)
        return {"data": " with ".join([names, *(j.table for j in self.join)])}

    def with_options(self, options: BaseModel) -> TaskConfig:
        """The same task with other keys of its kind."""
        other = self.model_copy()
        other._options = options
        return other

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The keys of all kinds, for editors: which of them a task has depends on its kind."""
        schema = handler.resolve_ref_schema(handler(core))
        theirs = {k: v for _, kind in TASKS for k, v in kind.Options.model_json_schema()["properties"].items()}
        schema["properties"] = {**schema["properties"], **theirs}
        return schema

    @model_serializer(mode="wrap")
    def _with_kinds_keys(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        own = {} if self._options is None else self._options.model_dump(exclude_unset=info.exclude_unset)
        return {**handler(self), **own}

    @model_validator(mode="wrap")
    @classmethod
    def _own_and_kinds_keys(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Keys of the kind are checked by its own schema; what is wrong with either is raised together."""
        if not isinstance(values, dict):
            return handler(values)
        if str(values.get("kind")) not in TASKS:  # said elsewhere; nobody knows its keys
            return handler({key: value for key, value in values.items() if key in cls.model_fields})
        schema = TASKS[values["kind"]].Options
        theirs = {key: value for key, value in values.items() if key in schema.model_fields}
        wrong: list[Any] = []
        task = options = None
        try:
            task = handler({key: value for key, value in values.items() if key not in theirs})
        except ValidationError as e:
            wrong += e.errors()
        try:
            options = schema.model_validate(theirs)
        except ValidationError as e:
            wrong += e.errors()
        if task is None or options is None:
            raise ValidationError.from_exception_data(cls.__name__, [_as_raised(e) for e in wrong])
        task._options = options
        return task

    @model_validator(mode="after")
    def _one_source_of_rows(self) -> TaskConfig:
        if bool(self.data) == bool(self.files):
            raise ValueError("give either `data` (with `splits`) or `files`")
        if self.files and self.join:
            raise ValueError("`join` is for `data`")
        if self.files and self.splits:
            raise ValueError("`splits` is for `data`; with `files` the splits are given")
        return self
