"""A search over settings: pruned trials cost what they used, a killed search ends with the same bits."""

import json

import pytest

from small import TUNING, write_table
from tunemerge.errors import TunemergeError
from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job
from tunemerge.store.digest import digest_folder
from tunemerge.tasks.files import completed_for, rows_of_file
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.keeper import Point
from tunemerge.tune.model import Tuned
from tunemerge.tune.operation import tune
from tunemerge.tune.search import TRIALS_FILE, search_tunings
from tunemerge.tune.search_config import TuningSearch

RATE = {"low": 1e-5, "high": 1e-1, "log": True}
SEARCH = TuningSearch(trials=12, learning_rate=RATE, dropout=[0, 0.1], pruning="asha").params()
EVALUATIONS = 4


class KilledError(Exception):
    pass


@pytest.fixture(autouse=True)
def _nothing_is_forced_to_the_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)  # which only a power cut would ask for


def trial(kill_at=None, seen=None):
    """A stand-in for a tuning, with a curve that is known: the nearer the rate to 1e-3, the lower the loss."""
    count = 0

    def run(parameters, out, unfinished, identity, watch, progress):
        nonlocal count
        if count == kill_at:
            raise KilledError
        count += 1
        if seen is not None:
            seen.append(dict(parameters))
        if parameters["learning_rate"] > 3e-2:
            return Tuned((), 0, Cost(examples=10), "diverged")
        off = abs(parameters["learning_rate"] / 1e-3 - 1) / 10
        points = []
        for i in range(1, EVALUATIONS + 1):
            points.append(Point(i, 10 * i, 0.5, 1 / i + min(off, 5)))
            if watch(points):
                return Tuned(tuple(points), i, Cost(examples=10 * i), "pruned")
        out.mkdir()
        (out / "model").write_text(json.dumps(parameters))
        return Tuned(tuple(points), EVALUATIONS, Cost(examples=10 * EVALUATIONS))

    return run


def search(out, unfinished, run, values=SEARCH):
    out.mkdir(exist_ok=True)
    tuned = search_tunings(values, 0, EVALUATIONS, True, run, out, unfinished, lambda done, text: None)
    return tuned, json.loads((out / TRIALS_FILE).read_text())


def test_pruned_trials_cost_what_they_used_and_the_best_finished_one_is_kept(tmp_path):
    tuned, told = search(tmp_path / "out", None, trial())
    trials = told["trials"]
    states = [t["state"] for t in trials]
    assert len(trials) == 12 and {"finished", "pruned"} <= set(states)
    assert {t["examples"] for t in trials if t["state"] == "pruned"} <= {10, 30}  # the first and the third evaluation
    assert tuned.cost.examples == sum(t["examples"] for t in trials) < 12 * 40 and tuned.cost.trials == 12
    best = min((t for t in trials if t["state"] == "finished"), key=lambda t: t["loss"])
    assert trials[told["chosen"]] == best
    assert json.loads((tmp_path / "out" / "model").read_text()) == best["parameters"]


def test_a_killed_search_goes_on_with_the_trial_it_was_in(tmp_path):
    kill_at = 7
    whole, seen = search(tmp_path / "whole", tmp_path / "a", trial()), []
    (tmp_path / "out").mkdir()
    with pytest.raises(KilledError):
        search(tmp_path / "out", tmp_path / "b", trial(kill_at))
    again = search(tmp_path / "out", tmp_path / "b", trial(seen=seen))
    assert len(seen) == 12 - kill_at
    assert again[1] == whole[1] and again[0].curve == whole[0].curve
    assert again[0].cost.examples == whole[0].cost.examples
    assert digest_folder(tmp_path / "out") == digest_folder(tmp_path / "whole")


def test_a_damaged_model_of_a_killed_search_is_not_taken(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(KilledError):
        search(tmp_path / "out", tmp_path / "b", trial(5))
    next((tmp_path / "b").glob("model-*/model")).write_text("other")
    seen = []
    search(tmp_path / "out", tmp_path / "b", trial(seen=seen))
    assert len(seen) == 12


def test_where_every_trial_diverges_it_says_so(tmp_path):
    high = TuningSearch(trials=2, learning_rate=[0.05, 0.1]).params()
    with pytest.raises(TunemergeError, match="every trial of the search diverged"):
        search(tmp_path / "out", None, trial(), high)


def test_a_step_that_was_killed_in_a_trial_ends_with_the_bits_of_an_undisturbed_one(tmp_path, tiny_bert):
    write_table(tmp_path / "rows.csv", 48, 1)
    kind = TASKS["text-classification"]
    options, _ = completed_for(kind, kind.Options(), tmp_path / "rows.csv", tiny_bert)
    rows = rows_of_file(tmp_path / "rows.csv", kind, options)
    rows.to_parquet(tmp_path / "rows.parquet")
    spec, start = kind.spec(options, [rows]), tmp_path / "start"
    start.mkdir()
    kind.initialise(tiny_bert, start, spec, 0, None, None)
    values = TuningSearch(trials=3, learning_rate={"low": 1e-4, "high": 1e-2, "log": True}, pruning="asha").params()
    params = {
        "task": spec.as_dict(),
        "seed": 0,
        "examples": 32,
        "tuning": TuneConfig(**TUNING).params(),
        "search": values,
    }
    table = (tmp_path / "rows.parquet",)

    def step(name, unfinished, progress=lambda done, text: None):
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        inputs = {"model": (start,), "train": table, "validation": table}
        return out, tune(Job(params, inputs, out, progress, unfinished))

    def kill(done, text):
        if text.startswith("trial 2"):
            raise KilledError

    with pytest.raises(KilledError):
        step("killed", tmp_path / "unfinished", kill)
    assert (tmp_path / "unfinished" / "trials").exists() and not any((tmp_path / "killed").iterdir())
    (resumed, paid), (whole, undisturbed) = step("killed", tmp_path / "unfinished"), step("whole", None)
    assert digest_folder(resumed) == digest_folder(whole)
    assert paid.examples == undisturbed.examples and paid.trials == 3 and paid.train_flops == undisturbed.train_flops
