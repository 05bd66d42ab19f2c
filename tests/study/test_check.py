"""What `check` says of a study file: everything at once, each finding with its line, once."""

import shutil

import pytest
import yaml
from safetensors.numpy import load_file, save_file

from small import SPLITS, write_study, write_table
from tunemerge.study.study import Study
from tunemerge.tune.single import tune


@pytest.fixture
def study(tmp_path, tiny_bert):
    """A function: write study.yaml with these changes of keys, then check it with these overrides."""

    def check(*overrides, text=lambda t: t, **changes):
        content = {**write_study(tmp_path, tiny_bert), **changes}
        content = {key: value for key, value in content.items() if value is not None}
        (tmp_path / "study.yaml").write_text(text(yaml.safe_dump(content, sort_keys=False)))
        found = Study.check_file(tmp_path / "study.yaml", list(overrides))
        assert not (tmp_path / ".tunemerge").exists() and not (tmp_path / "runs").exists()
        return [str(f) for f in found]

    return check


@pytest.fixture
def pool(tmp_path, tiny_bert):
    """A function: a pool of models, no two of them alike, under these names."""

    def make(*names):
        for number, name in enumerate(names):
            if not (tmp_path / f"model_{name}").exists():
                shutil.copytree(tiny_bert, tmp_path / f"model_{name}")
                weights = tmp_path / f"model_{name}" / "model.safetensors"
                state = {key: array + number for key, array in load_file(weights).items()}
                save_file(state, weights, {"format": "pt"})
        return {name: f"model_{name}" for name in names}

    return make


def one(found, code):
    (finding,) = [f for f in found if f"[{code}]" in f]
    return finding


def errors(found):
    return [f for f in found if f.startswith("error")]


def test_a_good_study_has_no_finding_but_for_its_few_seeds(study):
    (note,) = study()
    assert note.startswith("note[few-seeds] study.yaml:") and "with 2 seeds no win is claimed" in note
    assert study(seeds=5) == []


def test_faults_of_every_kind_come_in_one_round_in_the_order_of_the_file(study, tmp_path):
    found = study(
        tasks={"a": {"data": "a.csv", "text": "wrote", "splits": SPLITS}, "b": {"data": "gone.csv", "splits": SPLITS}},
        methods=["linear", "tias"],
        budget={"examples": 3},
        base="nothing/here/at/all",
        seeds="five",
    )
    lines = [int(f.split("study.yaml:")[1].split()[0].rstrip(":")) for f in errors(found)]
    assert lines == sorted(lines)
    codes = [f.split("]")[0].removeprefix("error[") for f in errors(found)]
    assert codes == ["no-such-model", "no-such-column", "bad-data", "unknown-name", "budget-too-small", "bad-value"]
    assert "study.yaml:2 base: nothing/here/at/all" in one(found, "no-such-model")
    assert "budget: 3 examples are less than one batch of 8" in one(found, "budget-too-small")


def test_a_task_with_wrong_keys_is_not_blamed_for_what_follows_from_them(study):
    tasks = {"a": {"data": "a.csv", "txt": "text", "splits": SPLITS}, "b": {"data": "gone.csv", "splits": SPLITS}}
    found = study(tasks=tasks, target="a")
    assert [f.split("]")[0] for f in errors(found)] == ["error[unknown-key", "error[bad-data"]
    assert "tasks.a: not checked further" in one(found, "unchecked")
    found = study(tasks={"a": tasks["a"]})
    assert "more may show" in one(found, "unchecked")


def test_a_model_of_the_pool_that_is_no_task(study, pool):
    found = study(pool=pool("a", "bb"))
    assert "pool.bb: no task of this name; did you mean 'b'?" in one(found, "no-such-task")
    # whoever asks for nothing that needs it may have such a model, and with one target the names are free
    assert not errors(study(pool=pool("a", "bb"), strategies=["merge_then_tune", "joint"]))
    assert not errors(study(pool=pool("a", "bb"), target="a"))


def test_the_same_model_twice_in_a_pool(study, tiny_bert):
    found = study(pool={"a": str(tiny_bert), "b": str(tiny_bert)})
    assert "pool.b: the same files as pool.a" in one(found, "same-model")


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"retention": ["b"], "pool": "ab"}, "tune_then_merge, tune_merge_tune: no adapt rows for the pool's b"),
        ({"base": None, "pool": "a"}, "tune_then_merge, tune_merge_tune: the study names no base"),
        ({"no_source": ["a", "b"]}, "merge_then_tune: the same graph as joint"),
        ({"strategies": ["merge_then_tune", "tune_then_merge"], "retention": ["b"]}, "tune_then_merge: the same graph"),
    ],
)
def test_a_study_that_cannot_answer_its_question_says_so(study, pool, changes, missing):
    changes = dict(changes)
    if "pool" in changes:
        changes["pool"] = pool(*changes["pool"])
    lacking = changes.pop("no_source", [])
    splits = {n: {k: v for k, v in SPLITS.items() if k != "source" or n not in lacking} for n in "ab"}
    found = study(tasks={n: {"data": f"{n}.csv", "splits": splits[n]} for n in "ab"}, **changes)
    assert not errors(found)
    assert "can't answer which order is better" in one(found, "question-open")
    assert missing in one(found, "question-open")


def test_who_asks_for_one_order_is_not_warned_that_the_other_is_missing(study):
    assert not any("question-open" in f for f in study(strategies=["merge_then_tune", "joint"]))


def test_a_pool_of_one_merges_nothing(study):
    splits = {k: v for k, v in SPLITS.items() if k != "source"}
    found = study(tasks={"a": {"data": "a.csv", "splits": SPLITS}, "b": {"data": "b.csv", "splits": splits}})
    assert not errors(found)
    assert "the pool is one model (a), so merge_then_tune and merge_only merge nothing" in one(found, "pool-of-one")


@pytest.mark.parametrize(
    ("budget", "text", "fix"),
    [
        ({"examples": 3}, "3 examples are less than one batch of 8", "at least 32 examples"),
        ({"steps": 1}, "budget: 1 optimizer step of 8 examples: too few for", "at least 4 steps"),
        ({"epochs": 0.3}, "0.3 epochs are 2 optimizer steps of 8 examples", "at least 0.5 epochs"),
    ],
)
def test_a_budget_that_is_too_small_is_one_finding_with_the_number_that_is_enough(study, budget, text, fix):
    found = one(study(budget=budget), "budget-too-small")
    assert text in found and "tune_merge_tune" in found and f"give {fix}" in found
    key, enough = next(iter(budget)), float(fix.split()[2])
    enough = enough if key == "epochs" else int(enough)
    assert not errors(study(budget={key: enough}))
    assert errors(study(budget={key: enough - (0.01 if key == "epochs" else 1)}))


def test_a_pool_budget_that_is_too_small_stands_beside_the_other(study):
    found = study(pool_budget={"epochs": 0.1}, budget={"steps": 1})
    both = [f for f in found if "[budget-too-small]" in f]
    assert len(both) == 2 and "0.1 epochs over 48 source rows of a, 48 source rows of b" in both[1] + both[0]
    assert "give at least 0.17 epochs" in both[0] + both[1]


def test_the_same_fault_of_many_tables_is_said_once(study, tmp_path):
    splits = ("adapt", "validation", "test", "source")
    for number, split in enumerate(splits):
        write_table(tmp_path / f"{split}.csv", 60, number)
    labels = {"positve": "good", "negative": "bad"}
    tasks = {n: {"files": {s: f"{s}.csv" for s in splits}, "labels": labels} for n in "ab"}
    finding = one(study(tasks=tasks), "unknown-label")
    assert "'positive'; did you mean 'positve'?" in finding and "tasks.a (adapt.csv)" in finding
    assert "and 4 more places" in finding


def test_a_wrong_label_column_shows_few_of_its_labels(study, tmp_path):
    for split in ("adapt", "validation", "test"):
        lines = [f"text {split} {i},{split[:2]}{i}" for i in range(60)]
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    found = study(tasks={"a": {"files": {s: f"{s}.csv" for s in ("adapt", "validation", "test")}}})
    for finding in (f for f in found if "label-not-in-training" in f):
        assert "and 52 more" in finding and len(finding) < 400


def test_other_tasks_of_a_target_need_no_rows_where_the_pool_is_given(study, pool):
    rows = {k: v for k, v in SPLITS.items() if k != "source"}
    tasks = {"a": {"data": "a.csv", "splits": rows}, "b": {"data": "nowhere.csv", "splits": rows}}
    assert not errors(study(tasks=tasks, target="a", pool=pool("a", "b")))
    assert errors(study(tasks=tasks, target="a"))


def test_the_same_test_rows_under_two_names(study, tmp_path):
    for number, split in enumerate(("adapt", "validation", "more", "still")):
        write_table(tmp_path / f"{split}.csv", 80, number)
    write_table(tmp_path / "test.csv", 60, 9)
    tasks = {
        "a": {"files": {"adapt": "adapt.csv", "validation": "validation.csv", "test": "test.csv"}},
        "b": {"files": {"adapt": "more.csv", "validation": "still.csv", "test": "test.csv"}},
    }
    found = one(study(tasks=tasks, strategies=["joint"]), "test-twice")
    assert found.startswith("warning") and "of the 60 test rows of b are test rows of a too" in found


def test_weak_evidence_is_said_beforehand(study, tmp_path):
    splits = {**SPLITS, "test": 4}
    found = study(tasks={n: {"data": f"{n}.csv", "splits": splits} for n in "ab"}, margin=5)
    assert "tasks.a" in one(found, "few-test-rows") and "tasks.b" in one(found, "few-test-rows")
    assert "4 test units: one of them is 25% of the score" in one(found, "few-test-rows")
    assert "margin: 5 is 500 points of accuracy" in one(found, "wide-margin")
    assert not any("wide-margin" in f for f in study(margin=5, metric="log_loss"))


def test_what_an_override_gives_is_found_there(study):
    assert one(study("budgt=3"), "unknown-key").startswith("error[unknown-key] --set budgt: unknown key 'budgt'")
    assert one(study("methods=[ties, ties]"), "bad-value").endswith("--set methods: ties given twice")
    assert " budget with --set budget.examples: 3 examples" in one(study("budget.examples=3"), "budget-too-small")
    assert "--set methods.1" not in one(study("methods=[ties, tias]"), "unknown-name")


def test_a_value_of_the_wrong_type_is_one_error(study):
    (found,) = errors(study(seeds="five"))
    assert " seeds: expected a whole number, found 'five'" in found and found.count("seeds") == 1
    (found,) = errors(study(keep="winers"))
    assert found.endswith(" keep: expected 'all', 'models' or 'winner', found 'winers'; did you mean 'winner'?")
    (found,) = errors(study(seeds=[3, 3]))
    assert "seeds: the seeds must be different numbers" in found
    (found,) = errors(study(pool={"a": {"modle": "x"}}))
    assert "unknown key 'pool.a.modle'; did you mean 'model'?" in found


def test_labels_may_be_numbers(study, tmp_path):
    for name in "ab":
        write_table(tmp_path / f"{name}.csv", 200, ord(name))
    tasks = {n: {"data": f"{n}.csv", "splits": SPLITS, "labels": {0: "bad", 1: "good"}} for n in "ab"}
    numbers = {"positive": "1", "negative": "0"}

    def as_numbers(text):
        for name in "ab":
            rows = (tmp_path / f"{name}.csv").read_text()
            for word, number in numbers.items():
                rows = rows.replace(f",{word}", f",{number}")
            (tmp_path / f"{name}.csv").write_text(rows)
        return text

    assert not errors(study(tasks=tasks, text=as_numbers))


def test_models_are_called_by_their_key(study, tmp_path, tiny_bert):
    write_table(tmp_path / "rows.csv", 40, 5)
    text = (tmp_path / "rows.csv").read_text().replace("positive", "good")
    (tmp_path / "rows.csv").write_text(text)
    tune(tiny_bert, tmp_path / "rows.csv", tmp_path / "other", epochs=1, batch_size=8)
    found = study(pool={"a": str(tmp_path / "other"), "b": str(tmp_path / "empty")})
    assert "pool.a: its head has the labels good, negative" in one(found, "head-labels")
    assert "pool.b: " in one(found, "no-such-model") and "study.yaml:" in one(found, "no-such-model")


def test_strategies_written_as_steps_say_what_is_wrong_with_them(study, tmp_path):
    steps = {
        "a": {"tune": "pool.x", "on": "b", "budget": 0.5},
        "m": {"merge": ["a", "bse", "pool"]},
        "e": {"ensemble": ["m", "base"]},
        "out": {"tune": "e", "on": ["mix", "c"], "budget": 0.25},
    }
    loop = {"x": {"merge": ["y", "base"]}, "y": {"select": ["x"]}, "z": {"merge": "pool"}}
    ends = {"x": {"merge": "pool"}, "y": {"tune": "pool", "budget": 1}}
    named = [("joint", steps), ("loop", loop), ("ends", ends)]
    own = [{"name": name, "steps": some} for name, some in named]
    found = errors(study(strategies=[*own, "joint2"]))
    lines = (tmp_path / "study.yaml").read_text().splitlines()

    def line(text, after=0):
        return next(i for i, one in enumerate(lines, 1) if one.strip() == text and i > after)

    for place, said in [
        (f"{line('- name: joint')} strategies.0.name", "there is a strategy 'joint' already, in tunemerge.strategies."),
        (f"{line('tune: pool.x')} strategies.0.steps.a.tune", "unknown model 'pool.x'; did you mean 'pool.b' or"),
        (f"{line('- bse')} strategies.0.steps.m.merge.1", "unknown model 'bse'; did you mean 'base'?"),
        (f"{line('- c')} strategies.0.steps.out.on.1", "no task 'c' that arms are tuned on"),
        (f"{line('tune: e')} strategies.0.steps.out.tune", "e is an ensemble"),
        (f"{line('steps:')} strategies.0.steps", "the shares of the budget add up to 0.75, not 1: 0.5 of a + 0.25 of"),
        (f"{line('x:', line('- name: loop'))} strategies.1.steps.x", "steps that wait for each other: x <- y <- x"),
        (f"{line('steps:', line('- name: ends'))} strategies.2.steps", "x, y are read by no other step"),
        (f"{line('tune: pool')} strategies.2.steps.y.tune", "the pool is several models"),
        (f"{line('- joint2')} strategies.3", "unknown strategy 'joint2'; did you mean 'joint'"),
    ]:
        assert any(f"study.yaml:{place}: {said}" in one for one in found), "\n".join([place, said, *found])
    assert len(found) == 10, found


def test_wrong_keys_of_written_strategies_have_their_lines(study, tmp_path):
    own = {"name": "mine", "stages": {}, "steps": {"a": {"tune": "base", "bugdet": 1}, "b": {"merge": 3}}}
    found = errors(study(strategies=["joint", own]))
    lines = [one.strip() for one in (tmp_path / "study.yaml").read_text().splitlines()]
    assert any(f"study.yaml:{lines.index('bugdet: 1') + 1}: unknown key" in one for one in found)
    text = "\n".join(found)
    assert "unknown key 'strategies.1.stages'; did you mean 'steps'?" in text
    assert "unknown key 'strategies.1.steps.a.bugdet'; did you mean 'budget'?" in text
    assert " strategies.1.steps.b.merge: expected a list, found 3" in text


def test_a_written_strategy_is_an_arm_a_method(study):
    steps = {"m": {"merge": ["base", "pool.a"]}, "out": {"tune": "m", "budget": 1}}
    assert errors(study(strategies=[{"name": "half", "steps": steps}, "joint"])) == []


def test_unknown_tasks_are_named_wherever_the_study_names_them_beside_all_that_there_are(study, tmp_path):
    (tmp_path / "today.csv").write_text("row,prediction\n1,positive\n")
    incumbent = {"predictions": {"a": "today.csv", "b": "today.csv", "bb": "today.csv"}}
    tasks = {"a": {"data": "a.csv", "splits": SPLITS, "txt": "x"}, "b": {"data": "b.csv", "splits": SPLITS}}
    found = study(tasks=tasks, target="zzz", incumbent=incumbent)
    assert any("incumbent.predictions.bb: unknown task 'bb'" in f for f in found)
    assert any("target: unknown task 'zzz'; known: b, a" in f for f in found)
    assert not any("unknown task 'a'" in f for f in found)
