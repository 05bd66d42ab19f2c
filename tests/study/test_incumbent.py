"""What runs today: laid beside the test rows by their ids, scored, and compared with the arm handed back."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import stdtr

from small import SPLITS, run, small_study, write_table
from tunemerge.cli.flips import show_flips
from tunemerge.findings import FindingsError
from tunemerge.stats.twoway import two_way

KEYWORDS = ("good", "great", "lovely", "fine")
STRATEGIES = ["merge_then_tune", "tune_then_merge"]


def answers(path, wrong_every: int = 0) -> pd.DataFrame:
    """A keyword rule on every row of a table, wrong on each `wrong_every`-th: row, prediction."""
    table = pd.read_csv(path)
    given = [any(w in KEYWORDS for w in text.split()) for text in table["text"]]
    names = ["positive" if (g != (wrong_every and i % wrong_every == 0)) else "negative" for i, g in enumerate(given)]
    return pd.DataFrame({"row": range(1, len(table) + 1), "prediction": names})


def study_with(tmp_path, tiny_bert, tables, **changes):
    small_study(tmp_path, tiny_bert)
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}_today.csv", index=False)
    incumbent = {"predictions": {n: f"{n}_today.csv" for n in tables}}
    given = dict(strategies=STRATEGIES, methods=["linear"], incumbent=incumbent, name="today")
    return small_study(tmp_path, tiny_bert, **{**given, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_bert):
    folder = tmp_path_factory.mktemp("today")
    for number, name in enumerate("ab"):
        write_table(folder / f"{name}.csv", 200, number)
    tables = {n: answers(folder / f"{n}.csv", wrong_every=10) for n in "ab"}
    study = study_with(folder, tiny_bert, tables)
    return study, run(study)


def test_the_incumbent_is_scored_on_the_test_rows(finished):
    _, results = finished
    found = results.incumbent
    texts = pd.read_parquet(results._folder / "test_rows.parquet")
    for task in "ab":
        rows = texts[texts["task"] == task]["row"] - 1
        assert found.tasks[task].score.value == pytest.approx(1 - (rows % 10 == 0).mean())
        assert set(found.tasks[task].metrics) == {"accuracy", "macro_f1"}  # labels alone give no probabilities
    assert found.test.low < found.test.value < found.test.high
    assert not found.probabilities


def test_it_is_compared_outside_the_family_of_orders(finished):
    _, results = finished
    against = results.incumbent.against
    assert against.a == results.verdict.handed_back and against.p == against.p_holm
    assert against.difference.value == pytest.approx(
        next(a for a in results.arms if a.handed_back).test.value - results.incumbent.test.value
    )
    assert "incumbent" not in {n for c in results.contrasts for n in (c.a, c.b)}
    assert "beside the family of orders" in results.verdict.details[-1]


def test_flips_add_up_to_the_difference(finished):
    _, results = finished
    told = {(f.a, f.b): f for f in results.flipped}
    assert list(told) == [(results.verdict.handed_back, "incumbent"), (results.contrasts[0].a, results.contrasts[0].b)]
    for (a, b), f in told.items():
        net = np.mean([(c.gains - c.losses) / c.rows for c in f.tasks.values()])
        difference = results.incumbent.against if b == "incumbent" else results.contrasts[0]
        assert net == pytest.approx(difference.difference.value)
        table = results.flips(a, b)
        assert table["gained"].sum() == pytest.approx(2 * sum(c.gains for c in f.tasks.values()))
        assert all(e.text and e.target != e.b for e in f.gained)


def test_flips_as_a_command_prints_them(finished, tmp_path, capsys):
    study, results = finished
    arm = results.verdict.handed_back
    show_flips(study.run_folder, arm, "incumbent", None, tmp_path / "flips.csv")
    said = " ".join(capsys.readouterr().out.split())  # lines are wrapped
    written = pd.read_csv(tmp_path / "flips.csv")
    assert len(written) == len(results.flips(arm, "incumbent")) and f"{len(written)} rows" in said
    assert f"a: {arm} gains" in said and f"b: {arm} gains" in said and "truth" in said
    show_flips(study.run_folder, arm, arm, None, None)
    assert "answer every test row alike" in capsys.readouterr().out


def test_metrics_that_need_probabilities_refuse_labels(tmp_path, tiny_bert):
    small_study(tmp_path, tiny_bert)
    tables = {n: answers(tmp_path / f"{n}.csv") for n in "ab"}
    with pytest.raises(FindingsError, match="auroc needs probabilities, and there are only labels"):
        study_with(tmp_path, tiny_bert, tables, metric="auroc").plan()


def test_probabilities_for_all_tasks_in_one_file(tmp_path, tiny_bert):
    small_study(tmp_path, tiny_bert)
    parts = []
    for n in "ab":
        yes = (answers(tmp_path / f"{n}.csv", 10)["prediction"] == "positive") * 0.8 + 0.1
        parts.append(pd.DataFrame({"task": n, "row": range(1, 201), "negative": 1 - yes, "positive": yes}))
    pd.concat(parts).to_parquet(tmp_path / "today.parquet")
    study = small_study(tmp_path, tiny_bert, metric="log_loss", incumbent={"predictions": "today.parquet"}, seeds=1)
    plan = study.plan()
    assert plan.incumbent.probabilities
    (p,) = plan.incumbent.predictions["a"]
    assert set(np.round(np.exp(p.outputs[:, 1]), 6)) == {0.1, 0.9} and len(p.unit) == SPLITS["test"]
    notes = [f.message for f in plan.findings if f.code == "incumbent-extra"]
    assert notes == [f"140 predictions are of rows of {n} that are no test rows: not used" for n in "ab"]


def found(study) -> str:
    with pytest.raises(FindingsError) as e:
        study.plan()
    return str(e.value)


def test_missing_twice_and_unknown_predictions_are_counted_and_named(tmp_path, tiny_bert):
    small_study(tmp_path, tiny_bert)
    a, b = (answers(tmp_path / f"{n}.csv") for n in "ab")
    a = pd.concat([a.iloc[:-20], a.iloc[:3]])
    b.loc[0:4, "prediction"] = "perhaps"
    text = found(study_with(tmp_path, tiny_bert, {"a": a, "b": b}))
    assert "of 60 test rows of a have no prediction: '" in text
    assert "3 values of 'row' stand twice or more among the predictions of a: '1', '2', '3'" in text
    assert "predictions of b are none of its labels: 'perhaps'" in text
    assert "no predictions for 'b'" in found(study_with(tmp_path, tiny_bert, {"a": a}))


def test_ids_of_a_column_that_both_have(tmp_path, tiny_bert):
    small_study(tmp_path, tiny_bert)
    tables = {}
    for n in "ab":
        data = pd.read_csv(tmp_path / f"{n}.csv")
        data.insert(0, "id", [f"{n}{i}" for i in range(len(data))])
        data.to_csv(tmp_path / f"{n}.csv", index=False)
        tables[n] = (
            answers(tmp_path / f"{n}.csv").drop(columns="row").assign(id=data["id"]).sample(frac=1, random_state=1)
        )
    tables["b"] = pd.concat([tables["b"], pd.DataFrame({"id": ["x1", "x2"], "prediction": "positive"})])
    tasks = {n: {"data": f"{n}.csv", "splits": SPLITS, "unit": "id"} for n in "ab"}
    for n, table in tables.items():
        table.to_csv(tmp_path / f"{n}_today.csv", index=False)
    incumbent = {"predictions": {n: f"{n}_today.csv" for n in "ab"}}
    for n in "ab":  # small_study writes the tables again: keep these
        (tmp_path / f"{n}_id.csv").write_bytes((tmp_path / f"{n}.csv").read_bytes())
        tasks[n]["data"] = f"{n}_id.csv"
    plan = small_study(tmp_path, tiny_bert, tasks=tasks, incumbent=incumbent).plan()
    assert all((p.outputs.argmax(axis=1) == p.target).all() for p in plan.incumbent.predictions["a"])
    assert "2 predictions are of no row of b: 'x1', 'x2'" in {f.message for f in plan.findings}


def test_tasks_with_the_same_test_rows_at_other_places_keep_their_own_numbers(tmp_path, tiny_bert):
    small_study(tmp_path, tiny_bert)
    rows = pd.read_csv(tmp_path / "a.csv")
    rows["id"] = [f"id {i}" for i in range(len(rows))]
    adapt, validation, test = (rows.iloc[i : i + 60] for i in (0, 60, 120))
    tasks = {
        "one": {
            "files": {"adapt": "adapt_1.csv", "validation": "validation_1.csv", "test": "test_1.csv"},
            "unit": "id",
        },
        "two": {
            "files": {"adapt": "adapt_2.csv", "validation": "validation_2.csv", "test": "test_2.csv"},
            "unit": "id",
        },
    }
    adapt.iloc[:30].to_csv(tmp_path / "adapt_1.csv", index=False)
    adapt.iloc[30:].to_csv(tmp_path / "adapt_2.csv", index=False)
    validation.iloc[:30].to_csv(tmp_path / "validation_1.csv", index=False)
    validation.iloc[30:].to_csv(tmp_path / "validation_2.csv", index=False)
    test.to_csv(tmp_path / "test_1.csv", index=False)
    other = pd.concat([adapt.iloc[:7].assign(kept="no"), test.assign(kept="yes")])
    other.to_csv(tmp_path / "test_2.csv", index=False)
    tasks["two"]["where"] = {"kept": "yes"}
    for name in ("adapt_2.csv", "validation_2.csv"):
        pd.read_csv(tmp_path / name).assign(kept="yes").to_csv(tmp_path / name, index=False)
    rows = small_study(tmp_path, tiny_bert, tasks=tasks, pool={}, strategies=["joint"]).plan().rows
    digests = {n: rows.tasks[n].parts[0]["test"].digest for n in tasks}
    assert len(set(digests.values())) == 1
    assert rows.lines["one", 0, "test"].tolist() == list(range(60))
    assert rows.lines["two", 0, "test"].tolist() == list(range(7, 67))


def test_private_ids_are_counted_and_not_named(tmp_path, tiny_bert):
    small_study(tmp_path, tiny_bert)
    labels = {"negative": "negative", "positive": "positive"}
    tasks = {n: {"data": f"{n}.csv", "splits": SPLITS, "private": True, "labels": labels} for n in "ab"}
    a = answers(tmp_path / "a.csv").iloc[:-20]
    a.loc[0:4, "prediction"] = "secretvalue"
    text = found(study_with(tmp_path, tiny_bert, {"a": a, "b": a}, tasks=tasks))
    assert "test rows of a have no prediction\n" in text and "secretvalue" not in text


def test_a_constant_arm_gets_its_nominal_error_rate():
    """The incumbent answers alike for every seed: nulls of a model whose seeds vary against it."""
    rng = np.random.default_rng(0)
    studies, seeds, units = 1500, 5, 200
    hard = rng.normal(0, 1, (studies, 1, units))
    model = rng.normal(0, 0.15, (studies, seeds, 1)) + hard + rng.normal(0, 1, (studies, seeds, units)) > -0.9
    today = hard + rng.normal(0, 1.011, (studies, 1, units)) > -0.9
    true = model.mean() - today.mean()
    parts = two_way([model.astype(float) - today - true])
    p = 2 * stdtr(parts.df, -np.abs(parts.mean) / np.sqrt(parts.variance))
    assert 0.01 < (p < 0.05).mean() < 0.06
