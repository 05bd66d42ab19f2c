from pathlib import Path

import pytest

from tunemerge.demo import STUDY
from tunemerge.findings import FindingsError
from tunemerge.study.config_tuning import Budget
from tunemerge.study.read import load_study

GOOD = """\
name: small
base: model
tasks:
  a: {data: a.csv, splits: {adapt: 0.2, validation: 0.2, test: 0.2}}
budget: {examples: 64}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


def refused(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(FindingsError) as e:
        load_study(write(tmp_path, text))
    return [f"{f.where} {f.message}" for f in e.value.findings]


def test_a_good_study_and_its_defaults(tmp_path):
    config, _, text = load_study(write(tmp_path, GOOD))
    assert config.seed_list == [0, 1, 2, 3, 4] and config.methods == ["linear", "task_arithmetic", "ties"]
    assert text == GOOD


def test_every_fault_comes_at_once_with_its_line(tmp_path):
    text = GOOD.replace(
        "budget: {examples: 64}", "budgett: {examples: 64}\ntuning:\n  learning_rat: 1e-4\n  batch_size: 0"
    )
    messages = refused(tmp_path, text)
    assert any(m.startswith("study.yaml:5 unknown key 'budgett'; did you mean 'budget'") for m in messages)
    assert any(
        m.startswith("study.yaml:7 unknown key 'tuning.learning_rat'; did you mean 'learning_rate'") for m in messages
    )
    assert any(m.startswith("study.yaml:8 tuning.batch_size") and "found 0" in m for m in messages)
    assert any("key 'budget' is required" in m for m in messages)


@pytest.mark.parametrize("budget", ["{}", "{examples: 1, steps: 1}", "{examples: -5}"])
def test_a_budget_has_exactly_one_unit(tmp_path, budget):
    assert refused(tmp_path, GOOD.replace("{examples: 64}", budget))


def test_budgets_become_whole_steps():
    assert Budget(examples=100).in_steps(32, 999) == 3
    assert Budget(steps=7).in_steps(32, 999) == 7
    assert Budget(epochs=1.5).in_steps(10, 100) == 15
    assert Budget(examples=10).in_steps(32, 999) == 0


def test_data_and_files_exclude_each_other(tmp_path):
    message, note = refused(tmp_path, GOOD.replace("data: a.csv,", "data: a.csv, files: {test: t.csv},"))
    assert message.startswith("study.yaml:4") and "either `data`" in message
    assert "more may show" in note


def test_overrides_reach_any_key(tmp_path):
    path = write(tmp_path, GOOD)
    config, _, text = load_study(path, ["tuning.learning_rate=1e-3", "seeds=[3, 5]", "tasks.a.where={site: x}"])
    assert config.tuning.learning_rate == 1e-3 and config.seed_list == [3, 5]
    assert config.tasks["a"].where == {"site": "x"} and "learning_rate" in text
    with pytest.raises(FindingsError, match=r"unknown key 'tuning\.rate'"):
        load_study(path, ["tuning.rate=1"])
    with pytest.raises(FindingsError, match="not key=value"):
        load_study(path, ["seeds"])


def test_the_demo_is_a_valid_study():
    config, _, _ = load_study(STUDY)
    assert config.target == "yelp" and len(config.seed_list) >= 5
