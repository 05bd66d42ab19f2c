"""The recipe's key `align`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tunemerge.checkpoint.source import ArrayModel
from tunemerge.findings import FindingsError
from tunemerge.merge.align.request import AlignRequest


def test_what_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text("a: 1")
    assert AlignRequest.parse("weight_matching") == AlignRequest("weight_matching")
    assert AlignRequest.parse({"method": "weight_matching"}) == AlignRequest("weight_matching")
    found = AlignRequest.parse({"method": "weight_matching", "groups": "g.yaml"}, tmp_path)
    assert found == AlignRequest("weight_matching", tmp_path / "g.yaml")


def test_all_that_is_wrong_is_said(tmp_path: Path) -> None:
    def wrong(value: object) -> list[str]:
        found = AlignRequest.parse(value, tmp_path)
        assert isinstance(found, tuple) and all(f.severity == "error" and f.where == "align" for f in found)
        return [f.message for f in found]

    assert wrong("weight-matching") == ["unknown method 'weight-matching'; did you mean 'weight_matching'?"]
    assert "must be 'weight_matching' or a mapping" in wrong(True)[0]
    messages = wrong({"metod": "weight_matching", "groups": "missing.yaml"})
    assert messages[0] == "unknown key 'metod'; did you mean 'method'?"
    assert messages[1].startswith("method is missing")
    assert messages[2] == f"no such file: {tmp_path / 'missing.yaml'}"
    assert "must be the name of a YAML file" in wrong({"method": "weight_matching", "groups": 3})[0]


def test_groups_of_a_file_are_used(tmp_path: Path) -> None:
    """Of an autoencoder no groups can be derived; given ones align it."""
    generator = np.random.default_rng(0)
    state = {
        n: generator.standard_normal(s).astype(np.float32) for n, s in (("enc.weight", (9, 5)), ("dec.weight", (5, 9)))
    }
    order = generator.permutation(9)
    copy = {"enc.weight": state["enc.weight"][order], "dec.weight": state["dec.weight"][:, order]}
    models = [ArrayModel("a", state), ArrayModel("b", copy)]
    with pytest.raises(FindingsError, match="more than one order"):
        AlignRequest("weight_matching").run(models)
    (tmp_path / "g.yaml").write_text("hidden: [{tensor: enc.weight, axis: 0}, {tensor: dec.weight, axis: 1}]")
    result = AlignRequest("weight_matching", tmp_path / "g.yaml").run(models)
    found = np.empty(45, np.float32)
    result.models[1].source("enc.weight").read_into(found, 0)
    np.testing.assert_array_equal(found.reshape(9, 5), state["enc.weight"])
    assert result.reports[0].after == pytest.approx(1)
