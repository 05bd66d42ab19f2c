"""The quick demo: a real study of MiniLM on real reviews, as a person runs it."""

import json

from test_cli import as_process

from commands import command


def test_the_quick_demo(tmp_path, minilm):
    from transformers import AutoModelForSequenceClassification

    done = as_process("demo", "--quick", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "demo-quick"
    results = json.loads((run / "results.json").read_text())
    assert results["setting"] == "one target" and results["pool"].keys() == {"amazon", "imdb"}
    assert results["verdict"]["sentence"] in " ".join((run / "report.md").read_text().split()).replace("\\", "")
    model = AutoModelForSequenceClassification.from_pretrained(run / "model")
    assert model.num_parameters() > 22_000_000
    best = max(arm["test"]["value"] for arm in results["arms"])
    assert best > 0.75  # one in two by chance
    again = command("demo", "--quick", cwd=tmp_path)
    assert "0 steps run" in again.stdout
