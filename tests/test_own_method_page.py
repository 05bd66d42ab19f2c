"""What docs/own-method.md tells people to write is right."""

import re
from importlib import resources
from pathlib import Path

import pytest
import yaml

from tunemerge.merge.method import METHODS, Method
from tunemerge.plugins import load_plugin
from tunemerge.strategies.written import WrittenStrategy
from tunemerge.study.config import StudyConfig
from tunemerge.study.names import unknown_names
from tunemerge.testing import methods as suite

PAGE = (Path(__file__).parents[1] / "docs" / "own-method.md").read_text()
STUDY, STRATEGIES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
REFERENCE, STRATEGY, KERNEL = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TEMPLATES = resources.files("tunemerge.cli").joinpath("templates")


def test_the_code_is_what_new_writes():
    for shown, template in ((REFERENCE, "method.txt"), (STRATEGY, "strategy.txt")):
        text = TEMPLATES.joinpath(template).read_text().replace("__NAME__", "early_polish")
        lines = [line.strip() for line in text.splitlines()]
        assert all(line.strip() in lines for line in shown.splitlines() if not line.startswith("def reference"))


def test_the_study_names_what_there_is(own_code):
    config = StudyConfig.model_validate(yaml.safe_load(STUDY))
    assert {f.message.split(";")[0] for f in unknown_names(config)} == {
        "unknown strategy 'early_polish'", "unknown merge method 'middle'",
    }  # fmt: skip
    own = yaml.safe_load(STRATEGIES.replace(" on:", " 'on':"))["strategies"][1]
    written = WrittenStrategy.model_validate(own)
    assert written.ends == ["out"] and sum(written.shares.values()) == 1


@pytest.mark.parametrize("contract", suite.CONTRACTS, ids=lambda c: c.__name__)
def test_the_kernel_keeps_the_contracts(contract, own_code):
    (own_code / "middle.py").write_text(TEMPLATES.joinpath("method.txt").read_text().replace("__NAME__", "middle"))
    load_plugin(own_code / "middle.py")
    contract(Method(**{**vars(METHODS["middle"]), "stream": kernel()["MiddleStream"], "torch": False}))


def kernel(_made={}):  # noqa: B006 (compiled once)
    if not _made:
        exec(KERNEL, _made)
    return _made
