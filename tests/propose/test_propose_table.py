"""A table without texts is proposed as a task on tables, with a base that the study makes."""

import pandas as pd

from tunemerge.propose.proposal import propose
from tunemerge.propose.questions import Answers
from tunemerge.propose.size import size_of
from tunemerge.propose.tables import find_sources
from tunemerge.propose.write import study_text
from tunemerge.yamlfile import parse_yaml


def test_a_table_without_texts_is_a_task_on_tables(tmp_path):
    rows = range(80)
    table = pd.DataFrame({"patient_id": rows, "age": [40 + i % 37 for i in rows], "sex": ["f", "m"] * 40})
    table.assign(ill=[i % 2 for i in rows]).to_csv(tmp_path / "north.csv", index=False)
    answers = Answers(label="ill", labels={"0": "healthy", "1": "ill"})
    proposal, questions, found = propose(find_sources([tmp_path / "north.csv"]), answers)
    assert not found and not [q for q in questions if q.needed]
    text = study_text(proposal, size_of(proposal, 1.0), "x", tmp_path / "study.yaml", "")
    study, _ = parse_yaml(text, "study")
    task = study["tasks"]["north"]
    assert study["base"] == {"build": "table_mlp"} and task["kind"] == "table-classification"
    assert (task["numeric"], task["categorical"], task["ignore"]) == (["age"], ["sex"], ["patient_id"])
    assert study["metric"] == "auroc" and task["labels"] == {"0": "healthy", "1": "ill"}
