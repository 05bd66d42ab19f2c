"""A tuning that is searched: trials of optuna's sampler one after the other, the best by validation is the result.

All trials are one step of the graph. Finished ones are written down beside the best model so far, so that a killed
search goes on with the next; what optuna knew is told to it again, in the same order, and it asks for the same.
"""

from __future__ import annotations

import gc
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunemerge.errors import TunemergeError
from tunemerge.findings import Finding, error
from tunemerge.graph.cost import Cost, total
from tunemerge.store.atomic import link, make_folder, replace_folder, write_file
from tunemerge.store.digest import digest_folder, digest_json, seal, unseal
from tunemerge.tune.keeper import Point, Progress, Watch
from tunemerge.tune.model import Tuned

TRIALS_FILE = "tunemerge_trials.json"
_STATE, _NEW, _RUNNING = "trials", "new", "running"
_REDUCTION = 3  # one in so many goes on
_RANDOM = 10  # at most so many trials, and at most half of all, are drawn at random before what was seen guides

# Of one trial: its parameters, folders for its model and its checkpoints, what identifies it, who watches it.
Run = Callable[[Mapping[str, Any], Path, Path, str, Watch, Progress], Tuned]


@dataclass(frozen=True)
class TrialRecord:
    """One finished trial; `state` is finished, pruned or diverged, `loss` that on validation of the state that it kept
    or would have kept, None where it diverged."""

    parameters: Mapping[str, Any]
    state: str
    loss: float | None
    curve: tuple[Point, ...]
    chosen_step: int
    cost: Cost


@dataclass
class _Progress:
    """The trials so far. `model` is the folder of the best one, and `digest` that of its content."""

    records: list[TrialRecord]
    best: int | None = None
    digest: str = ""


def optuna_version() -> str:
    """For the key of a step; where optuna is missing a finding says so before anything runs."""
    try:
        return version("optuna")
    except PackageNotFoundError:
        return "not installed"


def missing_optuna() -> list[Finding]:
    """An error where optuna is not installed."""
    if find_spec("optuna") is not None:
        return []
    text = "a search over settings needs the package 'optuna', which is not installed"
    return [error("optuna-missing", text, "tuning_search", "pip install 'tunemerge[search]'")]


def search_tunings(
    search: Mapping[str, Any],
    seed: int,
    evaluations: int,
    best_state: bool,
    run: Run,
    out: Path,
    unfinished: Path | None,
    progress: Progress,
) -> Tuned:
    """The best of several tunings, each of at most `evaluations` evaluations: its model and `TRIALS_FILE` in `out`.

    `search` is `TuningSearch.params()`. `best_state` says whether a tuning keeps its best state, or the last. The
    validation loss decides, as on the checkpoint of a tuning; of equals the first. The cost is that of all trials.
    TunemergeError where every one of them diverged.
    """
    with TemporaryDirectory() if unfinished is None else nullcontext(str(unfinished)) as place:
        folder = Path(place)
        make_folder(folder)
        identity = digest_json([dict(search), seed, evaluations, best_state, optuna_version()])
        so_far = _read(folder, identity)
        before = sum(record.cost.seconds for record in so_far.records)
        spent = _all_trials(search, seed, evaluations, best_state, run, folder, identity, so_far, progress)
        if so_far.best is None:
            tried = "; ".join(json.dumps(dict(r.parameters)) for r in so_far.records)
            raise TunemergeError(f"every trial of the search diverged: {tried}; lower tuning_search.learning_rate")
        model = _model(folder, so_far.best)
        for file in (f for f in model.rglob("*") if f.is_file()):
            target = out / file.relative_to(model)
            target.parent.mkdir(exist_ok=True)
            link(file, target)
    told = [
        {"parameters": dict(r.parameters), "state": r.state, "loss": r.loss, "examples": r.cost.examples}
        for r in so_far.records
    ]
    (out / TRIALS_FILE).write_text(json.dumps({"trials": told, "chosen": so_far.best}, indent=1, sort_keys=True) + "\n")
    best = so_far.records[so_far.best]
    cost = replace(total(r.cost for r in so_far.records), trials=len(told), seconds=before + spent)
    return Tuned(best.curve, best.chosen_step, cost)


def _all_trials(
    search: Mapping[str, Any],
    seed: int,
    evaluations: int,
    best_state: bool,
    run: Run,
    folder: Path,
    identity: str,
    so_far: _Progress,
    progress: Progress,
) -> float:
    """Do the trials that are not done; the seconds that earlier attempts at one of these took."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials, spent = search["trials"], 0.0
    pruner = optuna.pruners.SuccessiveHalvingPruner(1, _REDUCTION) if search["pruning"] else optuna.pruners.NopPruner()
    sampler = optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=min(_RANDOM, -(-trials // 2)))
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    for number in range(trials):
        trial = study.ask(_distributions(search["space"]))
        watch = _reporter(trial, evaluations, best_state)
        if number < len(so_far.records):
            record = so_far.records[number]
            for end in range(len(record.curve)):  # as it was told then: pruning writes down what it is asked
                watch(record.curve[: end + 1])
        else:
            begun = time.perf_counter()
            tell = partial(_tell, progress, number, trials)
            new, running = _emptied(folder / _NEW), folder / _RUNNING
            tuned = run(trial.params, new, running, f"{identity} {number}", watch, tell)
            gc.collect()  # the Trainer and what it holds, optimizer states included, refer to each other
            spent += tuned.cost.seconds
            seconds = tuned.cost.seconds + time.perf_counter() - begun
            record = _record(trial.params, tuned, seconds, best_state)
            _keep(folder, identity, so_far, record)
        states = {"finished": None, "pruned": optuna.trial.TrialState.PRUNED, "diverged": optuna.trial.TrialState.FAIL}
        study.tell(trial, record.loss if record.state == "finished" else None, state=states[record.state])
    return spent


def _tell(progress: Progress, number: int, trials: int, done: float, text: str) -> None:
    progress((number + done) / trials, f"trial {number + 1} of {trials}, {text}")


def _reporter(trial: Any, evaluations: int, best_state: bool) -> Watch:
    """Tells optuna every evaluation once, and asks it whether to go on; a checkpoint may bring several at once."""
    told = 0

    def watch(curve: Sequence[Point]) -> bool:
        nonlocal told
        prune = False
        while told < len(curve):
            told += 1
            trial.report(_loss(curve[:told], best_state), told)
            prune = told < evaluations and trial.should_prune()
        return prune

    return watch


def _distributions(space: Mapping[str, Any]) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        name: CategoricalDistribution(values) if isinstance(values, list) else FloatDistribution(**values)
        for name, values in space.items()
    }


def _loss(curve: Sequence[Point], best_state: bool) -> float:
    """The validation loss of the state that is kept after these evaluations."""
    losses = [point.validation_loss or 0.0 for point in curve]
    return min(losses) if best_state else losses[-1]


def _record(parameters: Mapping[str, Any], tuned: Tuned, seconds: float, best_state: bool) -> TrialRecord:
    state = tuned.stopped or "finished"
    loss = None if state == "diverged" else _loss(tuned.curve, best_state)
    return TrialRecord(
        dict(parameters), state, loss, tuned.curve, tuned.chosen_step, replace(tuned.cost, seconds=seconds)
    )


def _keep(folder: Path, identity: str, so_far: _Progress, record: TrialRecord) -> None:
    """Write the trial down, and keep its model if it is the best so far: first the model, then what says so."""
    number, best = len(so_far.records), so_far.best
    so_far.records.append(record)
    lowest = None if best is None else so_far.records[best].loss
    if record.state == "finished" and (lowest is None or (record.loss or 0.0) < lowest):
        replace_folder(folder / _NEW, _model(folder, number))
        so_far.best, (so_far.digest, _) = number, digest_folder(_model(folder, number))
    values = {"identity": identity, "best": so_far.best, "digest": so_far.digest}
    write_file(folder / _STATE, seal({**values, "records": [asdict(r) for r in so_far.records]}))
    for other in folder.iterdir():
        if other.is_dir() and (so_far.best is None or other != _model(folder, so_far.best)):
            shutil.rmtree(other, ignore_errors=True)


def _read(folder: Path, identity: str) -> _Progress:
    """What an earlier attempt has written down; nothing where it is of another search, or its model is damaged."""
    with suppress(OSError, ValueError, KeyError):
        values = unseal((folder / _STATE).read_bytes())
        best = values["best"]
        whole = best is None or digest_folder(_model(folder, best))[0] == values["digest"]
        if values["identity"] == identity and whole:
            records = [
                TrialRecord(**{**r, "curve": tuple(Point(**p) for p in r["curve"]), "cost": Cost.of(r["cost"])})
                for r in values["records"]
            ]
            return _Progress(records, best, values["digest"])
    return _Progress([])


def _model(folder: Path, number: int) -> Path:
    return folder / f"model-{number}"


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder
