"""A model tuned at one place is a model of the pool elsewhere, with its cost and digests."""

import json
import shutil

import pytest

from small import SPLITS, TUNING, run, small_study, write_table
from tunemerge.findings import FindingsError
from tunemerge.tune.record import read_record
from tunemerge.tune.single import tune

STRATEGIES = ["merge_then_tune", "expert", "joint"]


@pytest.fixture(scope="module")
def sites(tmp_path_factory, tiny_bert):
    """Two sites' tables, and what `tunemerge tune` makes of them: a folder each."""
    folder = tmp_path_factory.mktemp("sites")
    for number, name in enumerate("ab"):
        write_table(folder / f"history_{name}.csv", 40, 10 + number)
        tune(tiny_bert, folder / f"history_{name}.csv", folder / name, epochs=2, **TUNING)
    return folder


def study_of(sites, tmp_path, tiny_bert, **changes):
    for name in "ab":
        if not (tmp_path / "models" / name).exists():
            shutil.copytree(sites / name, tmp_path / "models" / name)
    splits = {k: v for k, v in SPLITS.items() if k != "source"}
    tasks = {n: {"data": f"{n}.csv", "splits": splits} for n in "ab"}
    pool = {n: f"models/{n}" for n in "ab"}
    given = dict(tasks=tasks, pool=pool, strategies=STRATEGIES, methods=["linear"], seeds=1, name="pooled")
    return small_study(tmp_path, tiny_bert, **{**given, **changes})


def test_the_record_tells_what_was_spent(sites, tmp_path):
    record = read_record(sites / "a")
    assert record.rows == 40 and record.seed == 0
    assert record.cost.examples == 80 and record.cost.optimizer_steps == 10
    assert record.cost.tokens > 80 and record.cost.train_flops > 0 and record.cost.seconds > 0
    assert record.base == read_record(sites / "b").base and record.model != read_record(sites / "b").model
    tune(sites / "a", sites / "history_b.csv", tmp_path / "again", epochs=1, **TUNING)
    again = read_record(tmp_path / "again")
    assert again.cost.examples == 120 and again.base == record.base


def test_a_study_takes_it_as_a_sunk_cost(sites, tmp_path, tiny_bert):
    results = run(study_of(sites, tmp_path, tiny_bert))
    arms = {a.name: a for a in results.arms}
    assert arms["expert/a"].marginal.examples == 0
    assert arms["expert/a"].total.examples == arms["expert/a"].total_examples == 80
    merged = arms["merge_then_tune/linear"]
    assert merged.total.examples == merged.total_examples == merged.marginal.examples + 160
    spent = sum(read_record(sites / n).cost.train_flops for n in "ab")
    assert merged.total.train_flops == pytest.approx(merged.marginal.train_flops + spent)
    assert {n: r.model for n, r in results.pool_records.items()} == {n: read_record(sites / n).model for n in "ab"}
    assert "tuned there on 40 rows" in (results._folder / "report.html").read_text()


def test_other_weights_than_the_record_is_of_are_refused(sites, tmp_path, tiny_bert):
    study = study_of(sites, tmp_path, tiny_bert)
    shutil.copy(sites / "a" / "model.safetensors", tmp_path / "models" / "b")
    (tmp_path / "models" / "a" / "tunemerge_tune.json").write_text('{"cost": 3}')
    with pytest.raises(FindingsError) as e:
        study.plan()
    assert "pool.b: " in str(e.value) and "its weights are not those" in str(e.value)
    assert "[bad-record] pool.a" in str(e.value) and "delete tunemerge_tune.json" in str(e.value)


def test_another_base_and_another_count_are_warned_of(sites, tmp_path, tiny_bert):
    study_of(sites, tmp_path, tiny_bert)
    file = tmp_path / "models" / "a" / "tunemerge_tune.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base": "another"}))
    pool = {"a": "models/a", "b": {"model": "models/b", "examples": 7}}
    found = {f.code: f for f in study_of(sites, tmp_path, tiny_bert, pool=pool).plan().findings}
    assert found["other-base"].where == "pool.a"
    assert found["pool-cost"].message == "7 examples here, 80 in tunemerge_tune.json, which counts"
