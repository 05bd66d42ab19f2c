"""study.yaml: the schema, read with the line of every key so that an error can point at it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tunemerge.findings import Finding, FindingsError, error
from tunemerge.registry import nearest
from tunemerge.tune.config import TuneConfig
from tunemerge.yamlfile import KeyPath, Lines, load_yaml, parse_yaml

# What pydantic puts into the place of an error beside the keys of the file: branches of unions.
_PYDANTIC_WORDS = ("PoolModel", "str", "int", "list[int]", "constrained-int", "list[constrained-int]", "[key]")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]
Size = Annotated[float, Field(gt=0)]
SplitName = Literal["source", "adapt", "validation", "test"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskConfig(_Part):
    """One task: a table that is split by seed (`data` + `splits`), or given splits (`files`), and its columns."""

    data: str | None = Field(None, description="CSV, JSONL or Parquet; split by seed as `splits` says")
    files: dict[SplitName, str] = Field({}, description="splits that are given, a table each, instead of `data`")
    splits: dict[SplitName, Size] = Field({}, description="rows (1 and more) or a fraction of all rows (below 1)")
    text: str = Field("text", description="column of the text")
    label: str = Field("label", description="column of the label")
    unit: str | None = Field(None, description="column of what the statistics resample (a document, a patient)")
    weight: str | None = Field(None, description="column of row weights in metrics")
    where: dict[str, str | int] = Field({}, description="keep only the rows with these values")
    labels: dict[str, str] = Field({}, description="raw label value -> label name")
    licence: str | None = Field(None, description="licence of the data, for the model card")

    @model_validator(mode="after")
    def _one_source_of_rows(self) -> TaskConfig:
        if bool(self.data) == bool(self.files):
            raise ValueError("give either `data` (with `splits`) or `files`")
        if self.files and self.splits:
            raise ValueError("`splits` is for `data`; with `files` the splits are given")
        if self.data and not self.splits:
            raise ValueError("`data` needs `splits`, for example {adapt: 0.2, validation: 0.2, test: 0.3}")
        return self


class PoolModel(_Part):
    """A checkpoint made elsewhere. `examples` is what it cost to make, if known; unknown is not 0."""

    model: str
    examples: int | None = Field(None, ge=0)
    licence: str | None = None


class Budget(_Part):
    """An amount of tuning in exactly one unit: training examples, optimizer steps, or epochs over the adapt rows."""

    examples: int | None = Field(None, gt=0)
    steps: int | None = Field(None, gt=0)
    epochs: float | None = Field(None, gt=0)

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


class StudyConfig(_Part):
    """A whole study. Paths are relative to the study file."""

    name: Name
    base: str | None = Field(None, description="folder, `package:NAME/PATH` of an installed package, or Hub id")
    base_licence: str | None = None
    pool: dict[Name, PoolModel | str] = Field({}, description="given checkpoints; absent: made from source rows")
    tasks: dict[Name, TaskConfig] = Field(min_length=1)
    target: Name | None = Field(None, description="the one task that counts; absent: all tasks count")
    retention: list[Name] = Field([], description="tasks that are only evaluated: what was forgotten")
    unseen: list[Name] = Field([], description="tasks that are only evaluated: what generalises")
    strategies: list[str] | None = Field(None, description="absent: all")
    methods: list[str] = Field(["linear", "task_arithmetic", "ties"], min_length=1)
    candidates: int = Field(5, ge=1, le=100, description="coefficients tried on validation in every merge")
    budget: Budget
    pool_budget: Budget = Field(
        Budget.model_validate({"epochs": 2}), description="tuning of each pool model on its source rows"
    )
    seeds: Annotated[int, Field(ge=1, le=1000)] | list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        5, description="how many (0, 1, ...), or the seeds themselves"
    )
    tuning: TuneConfig = TuneConfig()
    task: str = Field("text-classification", description="kind of task")
    metric: str = "accuracy"
    margin: float = Field(0.01, gt=0, description="differences inside +-margin don't matter in practice")

    @model_validator(mode="after")
    def _distinct_seeds(self) -> StudyConfig:
        if len(set(self.seed_list)) != len(self.seed_list) or not self.seed_list:
            raise ValueError(f"`seeds` must be different numbers, at least one, found {self.seeds}")
        return self

    @property
    def seed_list(self) -> list[int]:
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)


class StudyFileError(FindingsError):
    """Keys or values of a study file are wrong. `rest` is the study without them, if that is one: the check goes on
    with it, so that what is wrong with its data and models is found in the same go."""

    def __init__(self, findings: list[Finding], rest: StudyConfig | None, lines: Lines) -> None:
        super().__init__(findings)
        self.rest, self.lines = rest, lines


def load_study(path: Path, overrides: list[str] | None = None) -> tuple[StudyConfig, Lines, str]:
    """The study in `path`, the line of every key, and the text as used (with overrides applied).

    `overrides` are `key.sub=value` with a YAML value. Raises FindingsError with everything that is wrong.
    """
    data, lines = load_yaml(path)
    if not isinstance(data, dict):
        raise FindingsError([error("study-empty", "a study is a mapping of keys", str(path))])
    found = [f for text in overrides or [] for f in _override(data, text)]
    text = path.read_text(encoding="utf-8")
    if overrides:
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    try:
        config = StudyConfig.model_validate(data)
    except ValidationError as e:
        raise StudyFileError([*found, *_explain(e, lines, path.name)], _rest(data, e), lines) from None
    if found:
        raise FindingsError(found)
    return config, lines, text


def line_of(lines: Lines, key: KeyPath, name: str) -> str:
    """'study.yaml:12' for the key, or for the nearest enclosing key that the file has."""
    while key and key not in lines:
        key = key[:-1]
    return f"{name}:{lines[key]}" if key in lines else name


def _rest(data: dict[str, Any], problem: ValidationError) -> StudyConfig | None:
    rest = copy.deepcopy(data)
    for e in problem.errors():
        place: Any = rest
        *parents, last = [x for x in e["loc"] if x not in _PYDANTIC_WORDS] or [""]
        for key in parents:
            place = place.get(key, {}) if isinstance(place, dict) else {}
        if isinstance(place, dict):
            place.pop(last, None)
    try:
        return StudyConfig.model_validate(rest)
    except ValidationError:
        return None


def _override(data: dict[str, Any], text: str) -> list[Finding]:
    key, equals, raw = text.partition("=")
    if not equals:
        return [error("bad-override", f"{text!r} is not key=value", "--set")]
    value, _ = parse_yaml(raw, f"--set {key}")
    *parents, last = key.split(".")
    place = data
    for parent in parents:
        inner = place.setdefault(parent, {})
        if not isinstance(inner, dict):
            return [error("bad-override", f"{parent!r} of {key!r} holds a value, not keys", "--set")]
        place = inner
    place[last] = value
    return []


def _explain(problem: ValidationError, lines: Lines, name: str) -> list[Finding]:
    found = []
    for e in problem.errors():
        loc = tuple(x for x in e["loc"] if x not in _PYDANTIC_WORDS)
        dotted, where = ".".join(map(str, loc)), line_of(lines, loc, name)
        if e["type"] == "extra_forbidden":
            known = sorted(_model_at(loc[:-1]).model_fields)
            found.append(error("unknown-key", f"unknown key {dotted!r}{nearest(str(loc[-1]), known)}", where))
        elif e["type"] == "missing":
            found.append(error("missing-key", f"key {dotted!r} is required", where))
        else:
            got = "" if isinstance(e["input"], dict | list) else f", found {e['input']!r}"
            message = e["msg"].removeprefix("Value error, ")
            found.append(error("bad-value", f"{dotted}: {message}{got}", where))
    return list(dict.fromkeys(found))


def _model_at(loc: KeyPath) -> type[BaseModel]:
    inner: dict[str, type[BaseModel]] = {
        "tasks": TaskConfig,
        "pool": PoolModel,
        "budget": Budget,
        "pool_budget": Budget,
        "tuning": TuneConfig,
    }
    return inner.get(str(loc[0]), StudyConfig) if loc else StudyConfig
