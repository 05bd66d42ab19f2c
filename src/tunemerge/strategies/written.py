"""A strategy that is written in the study file: named steps with inputs, instead of a function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tunemerge.graph.step import Node
from tunemerge.strategies.setting import Answer, Ensemble, Rows, Setting, UnavailableError, allot
from tunemerge.strategies.strategy import Strategy, StrategyRole

BASE, POOL, MIX = "base", "pool", "mix"
KINDS = ("tune", "merge", "select", "ensemble")
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _not_reserved(name: str) -> str:
    if name in (BASE, POOL, MIX):
        raise ValueError(f"a step can't be called {name!r}: that is what the study has")
    return name


Several = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
StepName = Annotated[str, Field(pattern=NAME, max_length=60), AfterValidator(_not_reserved)]


class WrittenStep(BaseModel):
    """Exactly one of `tune`, `merge`, `select` and `ensemble`. A model is `base`, `pool.NAME`, another step, or, in a
    list, `pool`: all of the pool. The step that no other uses is the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tune: str | None = Field(None, description="the model to tune", examples=["pool.amazon"])
    on: Several = Field(
        [MIX], description="with `tune`: the adapt rows, of a task, of several, or of all (`mix`)", examples=["amazon"]
    )
    budget: float | None = Field(
        None, gt=0, le=1, examples=[0.5],
        description="with `tune`: its share of the study's budget; the shares of all steps add up to 1",
    )  # fmt: skip
    head_only: bool = Field(False, description="with `tune`: only the head learns", examples=[True])
    teachers: Several | None = Field(
        None, description="with `tune`: models whose answers on the rows are learned too (`tuning.distil` says how); "
        "their passes are charged", examples=[["pool.amazon", "pool.yelp"]],
    )  # fmt: skip
    merge: Several | None = Field(
        None, description="the models to merge, with each of the study's methods", examples=[["a", "pool.yelp"]]
    )
    select: Several | None = Field(
        None, description="the models of which validation chooses one", examples=[["a", "b"]]
    )
    ensemble: Several | None = Field(
        None, description="the models whose predictions are averaged; only as the last step", examples=[["a", "b"]]
    )

    @model_validator(mode="after")
    def _one_kind(self) -> WrittenStep:
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(
                f"a step does exactly one of {', '.join(KINDS)}; this one has {', '.join(kinds) or 'none'}"
            )
        strange = sorted(self.model_fields_set & {"on", "budget", "head_only", "teachers"})
        if self.tune is None and strange:
            raise ValueError(f"{', '.join(strange)}: only a step that tunes has this")
        if self.tune is not None and self.budget is None:
            raise ValueError("a step that tunes needs `budget`, its share of the study's budget, for example 0.5")
        return self

    @property
    def models(self) -> list[tuple[str, str]]:
        """The models that it reads, each with the key that names it: ("merge.1", "pool.yelp")."""
        if self.tune is not None:
            taught = [(f"teachers.{i}", name) for i, name in enumerate(self.teachers or [])]
            return [("tune", self.tune), *taught]
        kind, names = next((k, getattr(self, k)) for k in KINDS if getattr(self, k) is not None)
        return [(f"{kind}.{i}", name) for i, name in enumerate(names)]


class WrittenStrategy(BaseModel):
    """A strategy of your own: steps by name, each with its inputs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60, description="what the report calls it",
        examples=["one_then_polish"],
    )  # fmt: skip
    role: StrategyRole | None = Field(
        None, description="what the verdict compares it as; absent: an order where it merges and tunes, an alternative "
        "where it only tunes, else a control", examples=["control"],
    )  # fmt: skip
    steps: dict[StepName, WrittenStep] = Field(
        min_length=1, description="the steps, in any order",
        examples=[{
            "a": {"tune": "pool.amazon", "on": "amazon", "budget": 0.5},
            "m": {"merge": ["a", "pool.yelp"]},
            "out": {"tune": "m", "on": "mix", "budget": 0.5},
        }],
    )  # fmt: skip

    @property
    def shares(self) -> dict[str, float]:
        """The steps that tune, and their shares."""
        return {name: step.budget for name, step in self.steps.items() if step.budget is not None}

    def parents(self, name: str) -> Iterator[str]:
        """The steps that a step reads."""
        yield from (model for _, model in self.steps[name].models if model in self.steps)

    @property
    def ends(self) -> list[str]:
        """The steps that no other reads: of a sound strategy one, its answer."""
        read = {parent for name in self.steps for parent in self.parents(name)}
        return [name for name in self.steps if name not in read]

    def cycle(self) -> list[str]:
        """Steps that wait for each other, the first one also last; empty where there are none."""
        done: set[str] = set()

        def visit(name: str, path: list[str]) -> list[str]:
            if name in path:
                return [*path[path.index(name) :], name]
            found: list[str] = []
            if name not in done:
                found = next(filter(None, (visit(parent, [*path, name]) for parent in self.parents(name))), [])
                done.add(name)
            return found

        return next(filter(None, (visit(name, []) for name in self.steps)), [])


def as_strategy(written: WrittenStrategy) -> Strategy:
    """As if it were a function. `written` has no cycle, one end, and names only what the study has."""
    merges = any(step.merge for step in written.steps.values())
    role: StrategyRole = "control"
    if written.shares and not written.steps[written.ends[0]].ensemble:
        role = "order" if merges else "alternative"

    def build(s: Setting) -> Answer:
        """Written in the study file."""
        return _Building(written, s).answer(written.ends[0])

    return Strategy(
        name=written.name,
        build=build,
        role=written.role or role,
        paper=None,
        merges=merges,
        each_of_pool=False,
        spends="budget" if written.shares else "nothing",
    )


class _Building:
    """The steps of one written strategy in one setting; every step is built once."""

    def __init__(self, written: WrittenStrategy, setting: Setting) -> None:
        self._written, self._s = written, setting
        shares = written.shares
        steps = allot(setting.budget, list(shares.values())) if shares else []
        self._budgets = dict(zip(shares, steps, strict=True))
        self._built: dict[str, Node] = {}

    def answer(self, name: str) -> Answer:
        step = self._written.steps[name]
        return Ensemble(tuple(self._models(step.ensemble))) if step.ensemble else self._model(name)

    def _model(self, name: str) -> Node:
        if name == BASE:
            return self._s.base
        if name.startswith(f"{POOL}."):
            name = name.removeprefix(f"{POOL}.")
            if name not in self._s.pool:
                raise UnavailableError(f"the pool has no model {name}")
            return self._s.pool[name]
        if name not in self._built:
            self._built[name] = self._step(name, self._written.steps[name])
        return self._built[name]

    def _models(self, names: list[str]) -> list[Node]:
        return list(self._named(names).values())

    def _named(self, names: list[str]) -> dict[str, Node]:
        """By what the study calls each; `pool` is all of its models."""
        pool = [(f"{POOL}.{name}", model) for name, model in self._s.pool.items()]
        return {name: model for n in names for name, model in (pool if n == POOL else [(n, self._model(n))])}

    def _step(self, name: str, step: WrittenStep) -> Node:
        if step.tune is not None:
            budget = self._budgets[name]
            model, rows = self._model(step.tune), self._rows(step.on)
            teachers = self._models(step.teachers or [])
            return self._s.tune(model, rows, budget, head_only=step.head_only, teachers=teachers)
        if step.merge is not None:
            return self._s.merge(self._models(step.merge))
        return self._s.select(self._named(step.select or []))

    def _rows(self, names: list[str]) -> Rows:
        first, *rest = [self._s.mix if name == MIX else self._s.adapt[name] for name in names]
        return sum(rest, first)
