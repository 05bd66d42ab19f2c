"""Which tables are proposed for language models."""

import json

import pandas as pd
import pytest

from corpus import sentences
from tunemerge.propose.language import language_of
from tunemerge.propose.questions import Answers
from tunemerge.propose.tables import find_sources
from tunemerge.propose.tasks import look

ALPACA = {"instruction": "Add", "input": "1 2", "output": "3"}


@pytest.mark.parametrize(
    ("row", "keys"),
    [
        ({"Prompt": "a", "completion": "b", "id": 1}, {"prompt": "Prompt", "completion": "completion"}),
        (ALPACA, {"prompt": "instruction", "completion": "output", "input": "input"}),
        ({"talk": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, {"messages": "talk"}),
    ],
)
def test_instructions(tmp_path, row, keys):
    (tmp_path / "d.jsonl").write_text("\n".join([json.dumps(row)] * 9))
    (source,) = find_sources([tmp_path])
    found = language_of(source, None)
    assert (found.kind, found.keys, found.rows) == ("instructions", keys, 9)
    assert language_of(source, "text-classification") is None


def test_text_files_are_texts_where_there_are_no_tables(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(sentences(100, 1)[0]))
    draft = look(find_sources([tmp_path]), Answers()).tasks[0]
    assert (draft.name, draft.kind, draft.keys) == ("a", "language-modelling", {}) and draft.rows > 3
    pd.DataFrame({"text": ["x"] * 9, "label": ["y"] * 9}).to_csv(tmp_path / "t.csv")
    assert [s.name for s in find_sources([tmp_path])] == ["t"]
    said = look(find_sources([tmp_path / "t.csv"]), Answers(kind="language-modelling", text="text")).tasks[0]
    assert (said.kind, said.keys, said.rows) == ("language-modelling", {"text": "text"}, 9)
