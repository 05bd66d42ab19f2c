"""The contract that every strategy keeps. For the project's own strategies and for plug-ins:

    @pytest.mark.parametrize("strategy", [s for _, s in STRATEGIES])
    @pytest.mark.parametrize("contract", CONTRACTS)
    def test_contract(strategy, contract):
        contract(strategy)

Every contract is a function of a Strategy that raises AssertionError where the strategy breaks it. Nothing runs: a
strategy only builds steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import tunemerge.study.operations  # noqa: F401  (registers what steps do)
from tunemerge.graph.plan import Plan
from tunemerge.graph.step import Leaf, Node, Step
from tunemerge.strategies.setting import Answer, Merging, Rows, Setting, UnavailableError
from tunemerge.strategies.strategy import Strategy
from tunemerge.tune.config import TuneConfig

TASKS = {"a": 300, "b": 100, "c": 77}
TASK = {"task": {"kind": "text-classification", "labels": ["no", "yes"], "options": {}}}
BUDGETS = (40, 41, 97)


def setting(
    tasks: Mapping[str, int] = TASKS,
    pool: Sequence[str] | None = None,
    target: str | None = None,
    budget: int = 40,
    seed: int = 0,
) -> Setting:
    """One seed of a study of these tasks, with so many adapt rows each; a model of the pool for each unless `pool`
    names others; with a `target`, adapt rows of that alone. `budget` is in optimizer steps."""
    pool = list(tasks) if pool is None else pool
    start = Step("init", {"seed": seed, **TASK}, {"model": (_leaf("base", "model"),)}, "base: start")
    return Setting(
        seed=seed,
        base_model=start,
        pool={
            n: Step("init", {"seed": seed, **TASK}, {"model": (_leaf(f"model-{n}", "model"),)}, f"{n}: start")
            for n in pool
        },
        adapt={n: rows(n, "adapt", size) for n, size in tasks.items() if target in (None, n)},
        source={n: rows(n, "source", 640) for n in pool},
        target=target,
        budget=budget,
        batch_size=16,
        pool_examples=640,
        task=TASK,
        tuning=TuneConfig(batch_size=16).model_dump(mode="json"),
        metric="accuracy",
        merging=lambda n: [Merging("linear", [{"weight": [1.0] * n}])],
    )


def steps_of(*nodes: Node) -> list[Step]:
    """These steps and all that they are made from, inputs first, each once."""
    return list(Plan.of(node for node in nodes if isinstance(node, Step)).steps)


def models_of(answer: Answer) -> tuple[Node, ...]:
    """The models that an answer consists of."""
    models = getattr(answer, "models", None)
    if models is None:
        return (answer,) if isinstance(answer, Leaf | Step) else ()
    return tuple(models.values()) if isinstance(models, Mapping) else tuple(models)


def describes_itself(strategy: Strategy) -> None:
    """The first line of its docstring is a sentence of at most 100 characters: what lists and reports show."""
    assert strategy.description.endswith(".") and len(strategy.description) <= 100, strategy.description


def can_be_had(strategy: Strategy) -> None:
    """There is a study in which it gives an answer."""
    assert any(_answers(strategy, s) for s in _settings())


def spends_what_it_says(strategy: Strategy) -> None:
    """Its tunings see exactly the budget's examples, none, or more, as `spends` says."""
    for s in _settings():
        for answer in _answers(strategy, s):
            given = {step.key for step in steps_of(*s.pool.values())}
            tuned = [step for step in steps_of(*models_of(answer)) if step.op == "tune" and step.key not in given]
            spent, budget = sum(step.params["examples"] for step in tuned), s.budget * s.batch_size
            allowed = {"budget": spent == budget, "nothing": spent == 0, "more": spent >= budget}
            where = f"{_told(s)}: {spent} examples of {budget}"
            assert allowed[strategy.spends] or not models_of(answer), f"spends={strategy.spends!r}, but in {where}"


def merges_where_it_says(strategy: Strategy) -> None:
    """`merges=True` where it asks for a merge in some study, and only there."""
    answers = [answer for s in _settings() for answer in _answers(strategy, s)]
    found = any(step.op == "merge" for answer in answers for step in steps_of(*models_of(answer)))
    assert found == strategy.merges, f"merges={strategy.merges}, and it has {'a' if found else 'no'} merge"


def reads_the_same_graph_twice(strategy: Strategy) -> None:
    """Read again it builds the same steps; with another seed others, where it tunes."""
    for s in _settings():
        one, two = ([_keys(answer) for answer in _answers(strategy, s)] for _ in range(2))
        assert one == two, _told(s)
        other = replace(setting(), seed=1, adapt=s.adapt, pool=s.pool, target=s.target, budget=s.budget)
        tunes = any(step.op == "tune" for a in _answers(strategy, s) for step in steps_of(*models_of(a)))
        assert not tunes or [_keys(answer) for answer in _answers(strategy, other)] != one, _told(s)


def trains_on_training_rows(strategy: Strategy) -> None:
    """Nothing is tuned on validation rows, and no step reads anything that the study did not give."""
    for s in _settings():
        given = [*s.adapt.values(), *s.source.values()]
        train = {leaf.key for r in given for leaf in r.train}
        models = {leaf.key for leaf in Plan.of(steps_of(s.base, *s.pool.values())).leaves}
        known = train | models | {leaf.key for r in given for leaf in r.validation}
        for answer in _answers(strategy, s):
            for step in steps_of(*models_of(answer)):
                leaves = {n.key: n.label for n in step.parents() if isinstance(n, Leaf)}
                strange = [label for key, label in leaves.items() if key not in known]
                assert not strange, f"{step.label} reads {strange}"
                wrong = [n.label for n in step.inputs.get("train", ()) if n.key not in train]
                assert not wrong, f"{step.label} is tuned on {wrong}"


def says_why_it_cannot_be_had(strategy: Strategy) -> None:
    """In studies without base, pool, source rows or much of a budget it answers, or raises UnavailableError with a
    reason; never anything else."""
    whole = setting()
    odd = [
        replace(whole, base_model=None),
        replace(whole, pool={}),
        replace(whole, base_model=None, pool={"a": whole.pool["a"]}),
        replace(whole, source={}, pool_examples=0),
        setting(pool=["a", "stranger"]),
        *(setting(budget=budget) for budget in (0, 1, 2)),
        setting(tasks={"a": 5}, target="a", budget=1),
        replace(whole, merging=lambda n: "that method merges exactly seven models"),
    ]
    for s in odd:
        for name in [None] if not strategy.each_of_pool else list(s.pool):
            try:
                strategy.build(s, name) if name is not None else strategy.build(s)
            except UnavailableError as reason:
                assert str(reason), _told(s)


CONTRACTS: tuple[Callable[[Strategy], None], ...] = (
    describes_itself,
    can_be_had,
    spends_what_it_says,
    merges_where_it_says,
    reads_the_same_graph_twice,
    trains_on_training_rows,
    says_why_it_cannot_be_had,
)


def _settings() -> Iterator[Setting]:
    """Several tasks, one target, a task without a model of its own; budgets that divide evenly and that don't."""
    for budget in BUDGETS:
        yield setting(budget=budget)
        yield setting(tasks={"t": 40}, pool=["x", "y", "z"], target="t", budget=budget)
        yield setting(pool=["b", "a"], budget=budget)


def _answers(strategy: Strategy, s: Setting) -> list[Answer]:
    """Its answer in this setting, or one for each model of the pool; none where it can't be had."""
    try:
        return [strategy.build(s, name) for name in s.pool] if strategy.each_of_pool else [strategy.build(s)]
    except UnavailableError:
        return []


def _keys(answer: Answer) -> tuple[str, ...]:
    return tuple(node.key for node in models_of(answer))


def _told(s: Setting) -> str:
    target = f" with the target {s.target}" if s.target else ""
    return f"a study of {', '.join(s.adapt)}{target}, pool {', '.join(s.pool)}, {s.budget} steps"


def _leaf(name: str, role: str) -> Leaf:
    return Leaf(f"digest-{name}", Path(name), "model" if role == "model" else "rows", name)


def rows(task: str, split: str, size: int) -> Rows:
    """`size` rows of a split, and the task's validation rows."""
    train, validation = _leaf(f"{task}-{split}", "rows"), _leaf(f"{task}-validation", "rows")
    return Rows(f"{task} {split}", (train,), (validation,), size)
