"""Which runs of a folder use which steps, and what each run keeps: read from `runs/*/plan.json` and `results.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunemerge.errors import TunemergeError
from tunemerge.store.atomic import write_file
from tunemerge.store.collect import Choice
from tunemerge.store.inventory import Entry

if TYPE_CHECKING:
    from tunemerge.study.plan import StudyPlan

PLAN_FILE, RESULTS_FILE = "plan.json", "results.json"
Keep = Literal["all", "models", "winner"]
KEEPS: tuple[Keep, ...] = ("all", "models", "winner")


@dataclass(frozen=True)
class Use:
    """A step in a run: the arms that it is for, and its seed (None: several seeds)."""

    arms: tuple[str, ...]
    seed: int | None


@dataclass(frozen=True)
class RunUse:
    """A run's steps by key. `models` and `winner` are keys of steps that answer a task, in any arm and in the one
    handed back. A run that has not `finished` its plan keeps all, whatever `keep` says, so that it can go on."""

    name: str
    keep: Keep
    finished: bool
    steps: Mapping[str, Use]
    models: frozenset[str]
    winner: frozenset[str]

    def kept(self, keep: Keep | None = None) -> frozenset[str]:
        """The keys of steps that stay whole."""
        how = (keep or self.keep) if self.finished else "all"
        return {"all": frozenset(self.steps), "models": self.models, "winner": self.winner}[how]


def write_plan(plan: StudyPlan, folder: Path) -> None:
    """Say in the run's folder which steps it is made of."""
    steps = {key: {"arms": arms, "seed": seed} for key, (arms, seed) in plan.users().items()}
    values = {"format": 1, "name": plan.config.name, "keep": plan.config.keep, "steps": steps}
    write_file(folder / PLAN_FILE, json.dumps(values).encode())


def read_uses(runs: Path) -> list[RunUse]:
    """All runs in a folder, by name. TunemergeError names a file that can't be read as what it should be."""
    folders = sorted(p for p in runs.glob("*") if (p / PLAN_FILE).exists() or (p / RESULTS_FILE).exists())
    return [_read(folder) for folder in folders]


def by_rule(uses: Iterable[RunUse], keep: Iterable[str]) -> Choice:
    """Steps of `keep` stay; of a run's other steps the models go; what belongs to no run goes whole."""
    kept, known = set(keep), {key for use in uses for key in use.steps}

    def choose(entry: Entry) -> str:
        return "keep" if entry.key in kept else "strip" if entry.key in known else "remove"

    return choose


def _read(folder: Path) -> RunUse:
    plan, results = _json(folder / PLAN_FILE), _json(folder / RESULTS_FILE)
    try:
        found = {s["key"]: Use(tuple(s["arms"]), s["seed"]) for s in results.get("steps", ())}
        planned = {key: Use(tuple(u["arms"]), u["seed"]) for key, u in plan.get("steps", {}).items()}
        models = {arm["name"]: _models(arm) for arm in results.get("arms", ())}
        handed = next((a for a in results.get("arms", ()) if a["name"] == results["verdict"]["handed_back"]), None)
        winner: set[str] = set()
        if handed is not None:
            at = results["seeds"].index(results["verdict"]["handed_back_seed"])
            winner = {key for by_seed in handed["models"].values() for key in by_seed[at]}
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as problem:
        text = f"{folder}: {PLAN_FILE} or {RESULTS_FILE} is not of this version ({problem!r}); remove the run's folder"
        raise TunemergeError(text) from None
    return RunUse(
        name=folder.name,
        keep=plan.get("keep", "all"),
        finished=bool(found) and found.keys() >= planned.keys(),
        steps={**found, **planned},
        models=frozenset(key for keys in models.values() for key in keys),
        winner=frozenset(winner),
    )


def _models(arm: Mapping[str, Any]) -> set[str]:
    return {key for by_seed in arm.get("models", {}).values() for keys in by_seed for key in keys}


def _json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_bytes()))
    except FileNotFoundError:
        return {}
    except ValueError as problem:
        raise TunemergeError(f"{file}: damaged ({problem}); remove it, or run the study again") from None
