"""A made-up study for the report's tests: numbers from a seeded generator, keys from hashes of labels. A fixture."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np

from tunemerge.results import Results

SEEDS = [0, 1, 2, 3, 4]
TASKS = ["amazon", "imdb", "yelp"]
# name, strategy, method, role, mean accuracy, deliverable, models at inference, tuned
ARMS: list[tuple[str, str, str | None, str, float, bool, int, bool]] = [
    ("merge_then_tune/ties", "merge_then_tune", "ties", "order", 0.868, True, 1, True),
    ("merge_then_tune/linear", "merge_then_tune", "linear", "order", 0.861, True, 1, True),
    ("tune_then_merge/ties", "tune_then_merge", "ties", "order", 0.847, True, 1, True),
    ("tune_then_merge/linear", "tune_then_merge", "linear", "order", 0.851, True, 1, True),
    ("tune_merge_tune/ties", "tune_merge_tune", "ties", "order", 0.857, True, 1, True),
    ("joint", "joint", None, "alternative", 0.853, True, 1, True),
    ("sequential", "sequential", None, "alternative", 0.838, True, 1, True),
    ("best_single", "best_single", None, "control", 0.846, True, 1, True),
    ("ensemble", "ensemble", None, "control", 0.872, False, 3, True),
    ("merge_only/linear", "merge_only", "linear", "control", 0.824, True, 1, False),
    ("expert/yelp", "expert", None, "control", 0.801, True, 1, False),
    ("base_probe", "base_probe", None, "control", 0.742, True, 1, True),
    ("joint_total", "joint_total", None, "control", 0.866, True, 1, True),
]  # fmt: skip
NO_POOL = {"joint", "sequential", "base_probe", "joint_total"}
BUDGET = 960
FLOPS_PER_EXAMPLE = 3.1e9


def _hash(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def _cost(examples: float = 0, forward: float = 0, trials: int = 0, factor: float = 1.0) -> dict[str, Any]:
    return {
        "optimizer_steps": round(examples / 32),
        "examples": round(examples),
        "tokens": round(examples * 19.4),
        "train_flops": examples * FLOPS_PER_EXAMPLE * factor,
        "forward_examples": round(forward),
        "forward_flops": forward * FLOPS_PER_EXAMPLE / 3,
        "trials": trials,
        "seconds": 0.8 + examples * 0.021 + forward * 0.004,
        "peak_memory": 742_000_000 if examples else 391_000_000,
    }


def _added(*costs: dict[str, Any]) -> dict[str, Any]:
    total = {name: sum(c[name] for c in costs) for name in _cost()}
    return {**total, "peak_memory": max(c["peak_memory"] for c in costs)}


def _curve(rng: np.random.Generator, examples: int, overfits: bool) -> list[dict[str, Any]]:
    points = []
    for i in range(7):
        x = i / 6
        train = 0.66 * np.exp(-(3.2 if overfits else 1.5) * x) + 0.02 + rng.normal(0, 0.008)
        valid = 0.66 * np.exp(-2.2 * x) + 0.12 + (0.34 * x**2 if overfits else 0.05) + rng.normal(0, 0.012)
        points.append({
            "step": round(examples * x / 32), "examples": round(examples * x),
            "train_loss": None if i == 0 else float(max(train, 0.005)), "validation_loss": float(valid),
            "validation_score": float(0.9 - 0.4 * valid),
        })  # fmt: skip
    return points


class _Steps:
    """Collects steps, sharing those with the same label as the graph would."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.found: dict[str, dict[str, Any]] = {}

    def add(self, arm: str, op: str, label: str, seed: int | None, inputs: list[str], **cost: Any) -> str:
        key = _hash(op, label, seed, *inputs)
        if key not in self.found:
            step: dict[str, Any] = {
                "key": key, "op": op, "label": label, "seed": seed, "inputs": inputs, "arms": [], "cost": _cost(**cost),
                "cached": len(self.found) % 5 == 0, "digest": _hash("digest", key),
            }  # fmt: skip
            if op == "tune":
                step["curve"] = _curve(
                    self.rng, int(cost["examples"]), overfits="each" in label or "on amazon" in label
                )
                losses = [p["validation_loss"] for p in step["curve"]]
                step["chosen_step"] = step["curve"][int(np.argmin(losses))]["step"]
            if op == "search":
                scores = 0.86 + self.rng.normal(0, 0.006, 6)
                step["trials"] = [
                    {"parameters": {"scale": round(0.2 * (i + 1), 1), **({"density": 0.5} if "ties" in label else {})},
                     "score": float(s), "chosen": bool(s == scores.max())}
                    for i, s in enumerate(scores)
                ]  # fmt: skip
            self.found[key] = step
        if arm not in self.found[key]["arms"]:
            self.found[key]["arms"].append(arm)
        return key

    def merge(self, arm: str, method: str, seed: int, what: str, models: list[str], base: str) -> str:
        choice = self.add(arm, "search", f"search {method} over {what}", seed, [*models, base], forward=1800, trials=6)
        return self.add(arm, "merge", f"merge {method}: {what}", seed, [*models, base, choice])


def _build(steps: _Steps, arm: tuple[Any, ...], seed: int, tasks: list[str]) -> None:
    name, strategy, method = arm[0], arm[1], arm[2]
    base = steps.add(name, "init", "base with a fresh head", seed, [])
    each = BUDGET // len(tasks)

    def pool() -> list[str]:
        return [steps.add(name, "tune", f"make pool model {t}", seed, [base], examples=640) for t in TASKS]

    def tuned(model: str, what: str, examples: int) -> str:
        return steps.add(name, "tune", f"tune {what}", seed, [model], examples=examples)

    finals: list[str]
    if strategy == "merge_then_tune":
        finals = [tuned(steps.merge(name, method, seed, "pool", pool(), base), "the merge on the mix", BUDGET)]
    elif strategy == "tune_then_merge":
        models = [tuned(m, f"{t} on its share", each) for m, t in zip(pool(), TASKS, strict=True)]
        finals = [steps.merge(name, method, seed, "tuned pool", models, base)]
    elif strategy == "tune_merge_tune":
        models = [tuned(m, f"{t} on half its share", each // 2) for m, t in zip(pool(), TASKS, strict=True)]
        finals = [
            tuned(
                steps.merge(name, method, seed, "half-tuned pool", models, base), "the merge on the rest", BUDGET // 2
            )
        ]
    elif strategy == "sequential":
        model = base
        for task in tasks:
            model = tuned(model, f"in turn on {task}", each)
        finals = [model]
    elif strategy in {"best_single", "ensemble"}:
        models = [tuned(m, f"{t} on the whole budget, each", BUDGET) for m, t in zip(pool(), TASKS, strict=True)]
        finals = models if strategy == "ensemble" else models[:1]
    elif strategy == "merge_only":
        finals = [steps.merge(name, method, seed, "pool", pool(), base)]
    elif strategy == "expert":
        finals = pool()[-1:]
    elif strategy == "base_probe":
        finals = [tuned(base, "the head alone (linear probe)", BUDGET)]
    else:
        finals = [tuned(base, "on everything" if strategy == "joint_total" else "base on the mix",
                        BUDGET + (640 * len(TASKS) if strategy == "joint_total" else 0))]  # fmt: skip
    for task in tasks:
        for split in ("validation", "test"):
            steps.add(name, "predict", f"predict {task} {split}", seed, finals, forward=150 * len(finals))


def _arm(
    rng: np.random.Generator, arm: tuple[Any, ...], seeds: list[int], tasks: list[str], steps: _Steps
) -> dict[str, Any]:
    name, strategy, method, role, mean, deliverable, models, is_tuned = arm
    test = np.clip(mean + rng.normal(0, 0.008, len(seeds)), 0, 1)
    valid = np.clip(test + rng.normal(0.006, 0.004, len(seeds)), 0, 1)
    half = float(0.009 + rng.uniform(0, 0.006))
    offsets = dict(zip(tasks, np.linspace(-0.045, 0.04, len(tasks)) if len(tasks) > 1 else [0.0], strict=True))
    scores = {t: float(np.clip(test.mean() + o + rng.normal(0, 0.012), 0, 1)) for t, o in offsets.items()}
    spent = BUDGET if is_tuned and strategy != "joint_total" else 0
    marginal = _cost(examples=spent + (2880 if strategy == "joint_total" else 0), forward=1800 if method else 0,
                     trials=6 if method else 0, factor=0.35 if strategy == "base_probe" else 1.0)  # fmt: skip
    if strategy == "best_single":
        marginal = _cost(examples=3 * BUDGET, forward=450, trials=3)
    return {
        "name": name, "strategy": strategy, "method": method, "role": role,
        "description": f"What {strategy} does, in a sentence.",
        "paper": "2204.03044" if strategy == "merge_then_tune" else None, "deliverable": deliverable,
        "models": {t: [[_hash("model", name, s, i) for i in range(models)] for s in seeds] for t in tasks},
        "models_at_inference": models, "tuned": is_tuned, "matched": strategy not in {"best_single", "joint_total"},
        "method_chosen": name not in {"merge_then_tune/linear", "tune_then_merge/ties"},
        "validation": float(valid.mean()), "validation_by_seed": valid.tolist(),
        "test": {"value": float(test.mean()), "low": float(test.mean()) - half, "high": float(test.mean()) + half},
        "test_by_seed": test.tolist(),
        "tasks": {t: {"score": {"value": s, "low": s - 0.02, "high": s + 0.02},
                      "metrics": {"accuracy": s, "macro_f1": s - 0.004, "log_loss": 1.1 - s},
                      "normalised": s / 0.87 if i else None, "forgetting": None}
                  for i, (t, s) in enumerate(scores.items())},
        "worst_task": min(scores, key=lambda t: scores[t]), "marginal": marginal,
        "total": _added(marginal, _cost(examples=0 if strategy in NO_POOL else 1920)),
        "steps": [s["key"] for s in steps.found.values() if name in s["arms"]],
    }  # fmt: skip


def _contrasts() -> list[dict[str, Any]]:
    a, b, c = "merge_then_tune/ties", "tune_then_merge/linear", "tune_merge_tune/ties"
    rows = [(a, b, 0.021, 0.008, 0.034, 0.0008, "better", None), (a, c, 0.009, -0.003, 0.021, 0.21, "inconclusive", 14),
            (c, b, 0.002, -0.006, 0.009, 0.6, "equivalent", None)]  # fmt: skip
    return [
        {"a": x, "b": y, "difference": {"value": d, "low": lo, "high": hi}, "p": p / 2, "p_holm": p,
         "degrees_of_freedom": 11.4,
         "probability_a_better": 0.5 + d * 20, "verdict": v, "smallest_detectable": 0.016, "seeds_to_settle": n}
        for x, y, d, lo, hi, p, v, n in rows
    ]  # fmt: skip


def _task(name: str, role: str) -> dict[str, Any]:
    return {"name": name, "role": role, "kind": "text-classification", "labels": ["negative", "positive"],
            "rows": {"source": 400, "adapt": 320, "validation": 150, "test": 300},
            "data": f"{name}.csv (review sentences)",
            "licence": "cc-by-4.0"}  # fmt: skip


def example_data(*, seeds: list[int] = SEEDS, tasks: list[str] = TASKS, arms: int | None = None) -> dict[str, Any]:
    """The example as plain JSON data, for variants to change before it is validated."""
    rng = np.random.default_rng(7)
    chosen = ARMS[:arms]
    steps = _Steps(rng)
    for seed in seeds:
        for arm in chosen:
            _build(steps, arm, seed, tasks)
    results = [_arm(rng, arm, seeds, tasks, steps) for arm in chosen]
    results[0]["handed_back"] = True
    return {
        "name": "reviews", "tunemerge": "0.1.0", "finished": "2026-05-04T10:11:12+00:00",
        "versions": {"python": "3.12.4", "torch": "2.13.0", "transformers": "5.23.0", "numpy": "2.3.1"},
        "machine": {"cpu": "2 cores, x86_64", "memory": "8.0 GB", "device": "cpu", "precision": "float32"},
        "setting": "several tasks", "metric": "accuracy", "higher_is_better": True, "margin": 0.01, "level": 0.95,
        "base": "sentence-transformers/all-MiniLM-L6-v2", "base_licence": "apache-2.0",
        "pool": dict.fromkeys(TASKS, "made once per seed from source rows"), "tasks": [_task(t, "task") for t in tasks],
        "seeds": seeds,
        "budget": {"unit": "examples", "asked": BUDGET, "examples": BUDGET, "steps": 30, "batch_size": 32,
                   "spent_by_arm": {r["name"]: r["marginal"]["examples"] for r in results}},
        "verdict": {
            "kind": "better",
            "sentence": "merge-then-tune (TIES) is better than tune-then-merge: +2.1 points [0.8, 3.4] at equal cost.",
            "details": ["Against tune-merge-tune nothing is settled: +0.9 points [−0.3, 2.1].",
                        "It also beats joint tuning of the base by 1.5 points on the same examples."],
            "winner": "merge_then_tune/ties", "handed_back": "merge_then_tune/ties", "handed_back_seed": 2,
            "handed_back_reason": "It has the best mean validation score; of its seeds, seed 2 has the median one.",
        },
        "arms": results,
        "unavailable": [{"name": "tune_then_merge/slerp", "reason": "slerp takes two models, the pool has three"}],
        "contrasts": _contrasts() if arms is None else [],
        "steps": list(steps.found.values()), "study_cost": _added(*(s["cost"] for s in steps.found.values())),
        "failed_attempts": 2, "failed_seconds": 14.2, "test_openings": 1,
        "findings": [{"code": "small-test", "severity": "warning",
        "message": "300 test units see differences of about 1.6 points at best.",
                      "where": "tasks.yelp", "remedy": "Give more test rows."}],
        "study_file": "name: reviews\nbase: all-MiniLM-L6-v2\ntasks:\n  amazon: {data: amazon.csv}\nseeds: 5\n",
    }  # fmt: skip


def today(a: str, text: str | None) -> dict[str, Any]:
    """What runs today, and the rows that flip between it and arm `a`."""
    interval = {"value": 0.842, "low": 0.81, "high": 0.871}
    against = {**_contrasts()[0], "a": a, "b": "incumbent", "p_holm": 0.03, "p": 0.03}
    row = {"row": 17, "unit": "u17", "target": "positive", "a": "positive", "b": "negative", "seeds": 5, "text": text}
    gained = [{**row, "task": t, "gained": 5 - i, "lost": 0} for i, t in enumerate(TASKS)]
    lost = [{**row, "task": "yelp", "gained": 0, "lost": 3, "a": "negative", "b": "positive", "text": None}]
    scores = {t: {"score": interval, "metrics": {"accuracy": 0.842}} for t in TASKS}
    counts = {t: {"gains": 21.2, "losses": 14.4, "rows": 300} for t in TASKS}
    return {
        "incumbent": {"name": "incumbent", "predictions": ["today.csv"], "probabilities": False, "test": interval,
                      "tasks": scores, "against": against},
        "flipped": [{"a": a, "b": "incumbent", "tasks": counts, "gained": gained, "lost": lost}],
    }  # fmt: skip


@cache
def example_results() -> Results:
    """13 arms, 5 seeds, 3 tasks; a settled contrast, an open one, an equivalent one; what runs today."""
    data = example_data() | today(
        "merge_then_tune/ties", "Not a bad phone for the price, but the battery died in a week."
    )
    return Results.model_validate(data)


@cache
def one_target() -> Results:
    """One target with retention and unseen tasks, log loss (lower is better), 3 seeds: leads, not settled."""
    data = example_data(seeds=[0, 1, 2])
    data |= {"setting": "one target", "metric": "log_loss", "higher_is_better": False, "margin": 0.02}
    for info, role in zip(data["tasks"], ("target", "retention", "unseen"), strict=True):
        info["role"] = role
    for arm in data["arms"]:
        arm["tasks"]["imdb"]["forgetting"] = 0.012
        arm["validation"], arm["test"] = (
            1 - arm["validation"],
            {"value": 1 - arm["test"]["value"], "low": 1 - arm["test"]["high"], "high": 1 - arm["test"]["low"]},
        )
        arm["test_by_seed"] = [1 - v for v in arm["test_by_seed"]]
        arm["validation_by_seed"] = [1 - v for v in arm["validation_by_seed"]]
    data["verdict"]["kind"] = "leads"
    data["contrasts"][0]["verdict"] = "leads"
    data["test_openings"] = 3
    return Results.model_validate(data)


HOSTILE = [
    '<script>alert("x")</script>',
    "\"onload='x' `a|b` [l](javascript:x)",
    "a" * 400,
    "\u202egnp.exe\u202c שלום\x00\n# h",
    "&amp;</svg>",
]


@cache
def hostile() -> Results:
    """Names, labels and notes that try to break out of HTML, SVG, Markdown, YAML and the terminal."""
    data = example_data(tasks=["amazon", HOSTILE[0], HOSTILE[3]])
    for i, name in enumerate(HOSTILE):
        old = data["arms"][i]["name"]
        data["arms"][i] |= {"name": name, "description": name, "method": name, "paper": name}
        for step in data["steps"]:
            step["arms"] = [name if arm == old else arm for arm in step["arms"]]
        for row in data["contrasts"]:
            row["a"], row["b"] = (name if row["a"] == old else row["a"]), (name if row["b"] == old else row["b"])
        if old in data["budget"]["spent_by_arm"]:
            data["budget"]["spent_by_arm"][name] = data["budget"]["spent_by_arm"].pop(old)
    for i, step in enumerate(data["steps"]):
        step["label"] = HOSTILE[i % len(HOSTILE)] + step["label"]
    data["verdict"] |= {
        "winner": HOSTILE[0],
        "handed_back": HOSTILE[0],
        "sentence": " ".join(HOSTILE),
        "details": HOSTILE,
    }
    data |= {"name": HOSTILE[0] + HOSTILE[3], "base": HOSTILE[1], "base_licence": HOSTILE[3],
    "pool": {n: n for n in HOSTILE},
             "study_file": "\n".join(HOSTILE), "machine": {HOSTILE[0]: HOSTILE[1]},
             "versions": {HOSTILE[3]: HOSTILE[0]},
             "unavailable": [{"name": HOSTILE[0], "reason": HOSTILE[1]}]}  # fmt: skip
    data["tasks"][0] |= {"data": HOSTILE[0], "licence": HOSTILE[1], "labels": HOSTILE}
    data["findings"].append(
        {"code": "x", "severity": "error", "message": HOSTILE[0], "where": HOSTILE[4], "remedy": HOSTILE[1]}
    )
    return Results.model_validate(data | today(HOSTILE[0], HOSTILE[1]))


@cache
def unknown_total() -> Results:
    """A pool from elsewhere: nobody knows what it cost; licences are unknown too."""
    data = example_data()
    data |= {"base": "./models/base", "base_licence": None, "pool": {t: f"someone/{t}-model" for t in TASKS}}
    for arm in data["arms"]:
        arm["total"] = None
    for info in data["tasks"]:
        info["licence"] = None
    return Results.model_validate(data)


@cache
def one_arm() -> Results:
    """One arm, one seed, one task, nothing to compare."""
    data = example_data(seeds=[0], tasks=["yelp"], arms=1)
    data["verdict"] |= {
        "kind": "inconclusive",
        "sentence": "There is one arm only; nothing was compared.",
        "details": [],
        "winner": None,
        "handed_back_seed": 0,
    }
    return Results.model_validate(data)


@cache
def no_winner() -> Results:
    """Nothing handed back; no curves, no trials, no findings; fields that may be None are None."""
    data = example_data()
    data["arms"][0]["handed_back"] = False
    data["verdict"] |= {"kind": "dont_merge", "sentence": "Don't merge: joint tuning is better than both orders.",
    "winner": None,
                        "handed_back": None, "handed_back_seed": None,
                        "handed_back_reason": "No arm that is one checkpoint was better."}  # fmt: skip
    for step in data["steps"]:
        step |= {"curve": [], "chosen_step": None, "trials": []}
    data |= {"findings": [], "unavailable": [], "failed_attempts": 0, "failed_seconds": 0.0}
    return Results.model_validate(data)


VARIANTS = {"main": example_results, "one_target": one_target, "hostile": hostile, "unknown_total": unknown_total,
            "one_arm": one_arm, "no_winner": no_winner}  # fmt: skip
