"""docs/study.md is what the schema says, and its examples are good ones."""

from pathlib import Path

import pytest

from tunemerge.study.config import StudyConfig
from tunemerge.study.config_given import BuiltModel, PoolModel
from tunemerge.study.config_task import TaskConfig
from tunemerge.study.config_tuning import Budget
from tunemerge.study.page import example_of, study_page
from tunemerge.tune.config import TuneConfig
from tunemerge.yamlfile import parse_yaml

DOCS = Path(__file__).parents[2] / "docs" / "study.md"
PARTS = {
    StudyConfig: {"name": "x", "tasks": {"a": {"data": "a", "splits": {"test": 1}}}, "budget": {"steps": 1}},
    TaskConfig: {"data": "a.csv", "splits": {"test": 1}},
    PoolModel: {"model": "x"},
    BuiltModel: {"build": "nets.py:make"},
    Budget: {},
    TuneConfig: {"method": "lora"},
}
FIELDS = [(model, name) for model in PARTS for name in model.model_fields]


def test_the_page_is_made_from_the_schema():
    assert DOCS.read_text() == study_page(), "run: tunemerge schema --markdown > docs/study.md"


@pytest.mark.parametrize(("model", "name"), FIELDS, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_every_key_is_described_with_an_example_that_is_valid_as_printed(model, name):
    field = model.model_fields[name]
    assert field.description and example_of(field) not in (None, [], {})
    (line,) = [x for x in study_page().splitlines() if x.startswith(f"| `{name}` |") and field.description in x][:1]
    printed = line.rsplit("`", 2)[1]
    given, _ = parse_yaml(printed, "example")
    others = (
        {"method": "last_layers"} if name == "layers" else {k: v for k, v in PARTS[model].items() if name != "files"}
    )
    if model is PoolModel and name in BuiltModel.model_fields:
        others = {"build": "nets.py:make", "weights": "w.safetensors"}
    read = model.model_validate({**others, **given})
    assert getattr(read, name) == getattr(model.model_validate({**others, name: example_of(field)}), name)
