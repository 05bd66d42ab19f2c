"""A study with code of a person's own: what runs it, what its edits run again, and what is said of its faults."""

from pathlib import Path

import pytest
import yaml

from small import run, write_study
from tunemerge.graph.executors.inline import InlineExecutor
from tunemerge.graph.executors.local import LocalExecutor
from tunemerge.study.study import Study

METHOD = """
from median import middle
from tunemerge.merge.method import Method, register
from tunemerge.merge.parameters import LAMBDA


def reference(tensors, base, values):
    return base + values["lambda"] * middle([x - base for x in tensors])


register(
    Method(
        name="median",
        paper="",
        summary="the middle of the task vectors",
        parameters=(LAMBDA,),
        base="needed",
        reference=reference,
        candidates=lambda n, k: [{"lambda": x} for x in (1.0, 0.5)][:k],
    )
)
"""
MIDDLE = """
import torch


def middle(deltas):
    return torch.stack(deltas).quantile(0.5, dim=0)
"""
METRIC = """
from tunemerge.stats.metrics import METRICS, Metric


def first_class(target, logits, weights):
    return weights @ (logits.argmax(axis=1) == target) / weights.sum(axis=1)


METRICS.add("share_right", Metric("share_right", True, first_class))
"""
STRATEGY = """
from tunemerge.strategies.strategy import strategy


@strategy("polished", role="order", merges=True)
def polished(s):
    "Tune each model with a quarter of the budget, merge, tune the rest."
    first = s.budget // 4
    return s.tune(s.merge(s.tune_each(first)), s.mix, s.budget - first)
"""


@pytest.fixture
def folder(own_code):
    for name, text in {"mine.py": METHOD, "median.py": MIDDLE, "score.py": METRIC, "order.py": STRATEGY}.items():
        (own_code / name).write_text(text)
    return own_code


def study(folder: Path, base: Path, **changes) -> Study:
    changes = {
        "seeds": 1,
        "plugins": ["mine.py", "score.py", "order.py"],
        "strategies": ["polished", "joint", "best_single"],
        "methods": ["linear", "median"],
        "metric": "share_right",
        **changes,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(write_study(folder, base, **changes), sort_keys=False))
    return Study.from_yaml(folder / "study.yaml", workdir=folder / "work")


def edit(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def new_steps(study: Study) -> list:
    return [s for s in study.plan().graph.steps if study.store.get(s.key) is None]


def test_a_study_of_own_code_and_what_an_edit_runs_again(folder, tiny_bert):
    first = study(folder, tiny_bert)
    with LocalExecutor(2) as workers:  # the same warm workers for all runs: they take up each edit
        results = first.run(executor=workers)
        names = {a.name for a in results.arms}
        assert {"polished/median", "polished/linear", "joint"} < names and results.metric == "share_right"
        assert not new_steps(study(folder, tiny_bert))

        edit(folder / "order.py", "tune the rest.", "and tune the rest.")
        assert not new_steps(study(folder, tiny_bert)), "a strategy's code only builds the graph"

        edit(folder / "median.py", "0.5, dim", "0.6, dim")  # a module that mine.py imports
        again = study(folder, tiny_bert)
        new = new_steps(again)
        assert {s.op for s in new} == {"search", "merge", "tune", "predict"}
        assert all("median" in s.label for s in new if s.op in ("search", "merge")) and len(new) == 7
        rerun = again.run(executor=workers)
        assert {s.key for s in rerun.steps if not s.cached} == {s.key for s in new}
        before, after = ({s.label: s.digest for s in r.steps if s.op == "merge"} for r in (results, rerun))
        assert {label for label in before if before[label] != after[label]} == {
            label for label in before if label.startswith("median merge")
        }
        untouched = [{a.name: a.test_by_seed for a in r.arms if "median" not in a.name} for r in (results, rerun)]
        assert untouched[0] == untouched[1]

    edit(folder / "score.py", "def first_class", "# chosen by it: searches and the best single\ndef first_class")
    assert {s.op for s in new_steps(study(folder, tiny_bert))} >= {"search", "select"}
    assert all(s.op != "tune" or "merge" in s.label for s in new_steps(study(folder, tiny_bert)))


def test_code_that_changes_under_a_run_is_refused_not_mixed(folder, tiny_bert):
    own = study(folder, tiny_bert, strategies=["merge_only"], methods=["median"], metric="accuracy")

    def change(plan):
        edit(folder / "median.py", "0.5, dim", "0.7, dim")

    with pytest.raises(Exception, match="changed since the plan was made: run again"):
        own.run(on_plan=change, executor=InlineExecutor())
    assert run(study(folder, tiny_bert, strategies=["merge_only"], methods=["median"], metric="accuracy")).arms


def test_a_plug_in_that_fails_is_one_finding_in_the_round_of_all_others(folder, tiny_bert):
    edit(folder / "median.py", "import torch", "import torch, no_such_thing")
    study(folder, tiny_bert, plugins=["mine.py", "nowhere.py", "order.py"], seeds=2, target="c")
    found = [str(f) for f in Study.check_file(folder / "study.yaml")]
    errors = [f for f in found if f.startswith("error")]
    assert f"plugins.0 ({folder / 'median.py'}:2): can't be loaded: ModuleNotFoundError" in errors[0]
    assert errors[0].startswith("error[plugin] study.yaml:") and "install no_such_thing" in errors[0]
    assert "plugins.1" in errors[1] and "no such file" in errors[1]
    assert "unknown task 'c'" in errors[2] and len(errors) == 3, errors  # and nothing of the method 'median'


def test_what_was_registered_by_hand_is_no_part_of_a_study(folder, tiny_bert):
    exec(compile(STRATEGY, str(folder / "cell"), "exec"), {"__name__": "__main__"})
    try:
        own = study(folder, tiny_bert, plugins=[], strategies=["polished", "joint"], methods=["linear"], metric="ece")
        (finding,) = [f for f in own.check() if f.severity == "error"]
        assert finding.code == "by-hand" and "`plugins`" in finding.remedy and "cell:5" in finding.message
    finally:
        from tunemerge.strategies.strategy import STRATEGIES

        del STRATEGIES._items["polished"]


def test_plug_ins_are_in_no_study_that_does_not_name_them(folder, tiny_bert):
    study(folder, tiny_bert).plan()  # loads them into this process
    arms = study(folder, tiny_bert, plugins=[], strategies=None, methods=["linear"], metric="accuracy").plan().arms
    assert len(arms) > 5 and not any("polished" in arm.name for arm in arms)
    found = [f for f in study(folder, tiny_bert, plugins=["mine.py", "score.py"]).check() if f.severity == "error"]
    assert [f.code for f in found] == ["plugin-not-named"] and "order.py, which `plugins` does not name" in str(
        found[0]
    )


def test_the_copy_in_the_run_folder_finds_its_plug_ins(folder, tiny_bert):
    own = study(folder, tiny_bert, strategies=["polished", "joint"], methods=["median"], metric="accuracy")
    run(own)
    copy = Study.from_yaml(own.run_folder / "study.yaml", workdir=own.workdir)
    assert not new_steps(copy)


def test_a_check_tells_what_plug_ins_bring(folder, tiny_bert):
    own = study(folder, tiny_bert, seeds=5)
    told = [(f.where, f.message) for f in own.check() if f.code == "plugin"]
    assert [where.split(" ")[1] + " " + message for where, message in told] == [
        "plugins.0 brings merge method median",
        "plugins.1 brings metric share_right",
        "plugins.2 brings strategy polished",
    ]
