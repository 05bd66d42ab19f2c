from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from corpus import LABELS, SPEC, RowsFactory
from tunemerge.errors import TunemergeError, UsageError
from tunemerge.evaluate.predict import predict
from tunemerge.stats.metrics import METRICS
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.model import Tuned, tune_model

TASK = TASKS["text-classification"]
State = dict[str, np.ndarray]


@pytest.fixture
def start(tiny_bert: Path, tmp_path: Path) -> Path:
    """The tiny BERT with a head, without dropout."""
    folder = tmp_path / "start"
    folder.mkdir()
    TASK.initialise(tiny_bert, folder, SPEC, 0, dropout=0.0)
    return folder


Tune = Callable[..., tuple[Path, Tuned]]


@pytest.fixture
def tune(start: Path, tmp_path: Path, rows_parquet: RowsFactory) -> Tune:
    """tune(name, examples=..., **settings) -> (folder, what happened), on 50 training and 40 validation rows."""
    train, validation = [rows_parquet(50, 1, "train")], [rows_parquet(15, 2, "v1"), rows_parquet(25, 3, "v2")]

    def run(
        name: str, *, examples: int = 100, seed: int = 7, held_out: bool = True, **settings: Any
    ) -> tuple[Path, Tuned]:
        config = TuneConfig(**{"learning_rate": 1e-3, "batch_size": 16, **settings})
        rows = validation if held_out else []
        out = tmp_path / name
        return out, tune_model(start, out, train, rows, task=SPEC, seed=seed, examples=examples, config=config)

    return run


def _weights(folder: Path) -> State:
    return load_file(folder / "model.safetensors")


def _distance(one: State, other: State) -> float:
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def test_same_inputs_same_bits_whatever_ran_before(tune: Tune) -> None:
    first, _ = tune("a", dropout=0.1)
    other, _ = tune("b", dropout=0.1, seed=8)
    tune("c", precision="float32")
    again, _ = tune("d", dropout=0.1)
    files = {p.name for p in first.iterdir()}
    assert files == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "tunemerge_tune.json",
        "tunemerge_rows.json",
    }
    assert all((first / name).read_bytes() == (again / name).read_bytes() for name in files)
    assert _distance(_weights(first), _weights(other)) > 0


def test_another_process_writes_the_same_bits(tune: Tune, start: Path, tmp_path: Path) -> None:
    here, _ = tune("here", dropout=0.1)
    code = f"""
import sys
from pathlib import Path
import torch
from tunemerge.tune.config import TuneConfig
from tunemerge.tasks.spec import Spec
from tunemerge.tune.model import tune_model
torch.set_num_threads({torch_threads()})
rows = [Path(p) for p in {[str(tmp_path / f"{n}.parquet") for n in ("train", "v1", "v2")]!r}]
config = TuneConfig(learning_rate=1e-3, batch_size=16, dropout=0.1)
tune_model(Path({str(start)!r}), Path({str(tmp_path / "there")!r}), rows[:1], rows[1:],
    task=Spec("text-classification", {tuple(LABELS)!r}), seed=7, examples=100, config=config)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (here / "model.safetensors").read_bytes() == (tmp_path / "there" / "model.safetensors").read_bytes()


def torch_threads() -> int:
    import torch

    return torch.get_num_threads()


def test_the_ledger_is_what_an_independent_hook_sees(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {"train": [0, 0], "forward": [0, 0]}
    load = type(TASK).load

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        model = load(self, *args, **kwargs)

        def hook(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
            counts = seen["train" if module.training else "forward"]
            counts[0] += len(inputs[0])
            counts[1] += int((inputs[0] != 0).sum())

        # After the word embeddings, whose padding has the index 0: neither the meter's place nor its way to count.
        model.net.bert.embeddings.word_embeddings.register_forward_hook(hook)
        return model

    monkeypatch.setattr(type(TASK), "load", watched)
    from tunemerge.tasks import flops

    monkeypatch.setattr(flops, "measure", lambda *args, **kwargs: (1, 0, 0, 0))
    _, tuned = tune("a", examples=90, micro_batch=8)
    assert [tuned.cost.examples, tuned.cost.tokens] == seen["train"]
    assert tuned.cost.examples == 90 and tuned.cost.optimizer_steps == 6
    assert tuned.cost.forward_examples == seen["forward"][0] == 4 * 40
    # With the coefficients above the operations of a pass are its batch: nothing is left out of the sums.
    assert tuned.cost.train_flops == 90 and tuned.cost.forward_flops == 160


@pytest.mark.parametrize("examples", [96, 90])
def test_accumulation_equals_the_large_batch(tune: Tune, examples: int) -> None:
    settings = {"precision": "float32", "label_smoothing": 0.1, "select": "last"}
    whole, one = tune("whole", examples=examples, **settings)
    small, two = tune("small", examples=examples, micro_batch=4, **settings)
    assert _distance(_weights(whole), _weights(small)) < 2e-6
    assert [p.train_loss for p in one.curve] == pytest.approx([p.train_loss for p in two.curve], rel=1e-5)
    assert one.cost.optimizer_steps == two.cost.optimizer_steps == 6


def test_one_step_is_adamw(tune: Tune, start: Path, rows_parquet: RowsFactory) -> None:
    """Against the same step written out with torch alone."""
    import torch

    out, tuned = tune("out", examples=16, precision="float32", weight_decay=0.1, select="last", max_grad_norm=0.5)
    from tunemerge.tune.order import training_order

    model = TASK.load(start, SPEC)
    rows = TASK.read([rows_parquet(50, 1, "train")], SPEC)
    encoded = TASK.encode(model, rows, 256)
    order = training_order(encoded.lengths, 16, 16, 7)
    batch = {name: torch.from_numpy(a) for name, a in encoded.batch(order).items()}
    loss = torch.nn.functional.cross_entropy(model.net(**batch).logits, torch.from_numpy(rows.target[order]).long())
    assert tuned.curve[-1].train_loss == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.net.parameters(), 0.5)
    plain = [p for n, p in model.net.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    decayed = [p for n, p in model.net.named_parameters() if not (n.endswith("bias") or "LayerNorm" in n)]
    torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], lr=1e-3
    ).step()
    by_hand = {name: tensor.detach().numpy() for name, tensor in model.net.state_dict().items()}
    # Adam's first step is the sign of the gradient: where that is about 0, rounding decides.
    close = [np.isclose(by_hand[n], tensor, atol=1e-6) for n, tensor in _weights(out).items()]
    assert np.mean(np.concatenate([c.ravel() for c in close])) > 0.99


def test_the_head_alone_is_trained(tune: Tune, start: Path) -> None:
    before, (out, tuned) = _weights(start), tune("out", method="head", learning_rate=0.05, dropout=0.1)
    after = _weights(out)
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert changed == {"classifier.weight", "classifier.bias"}
    # 100 examples forward in training and 160 in validation: with a backward pass it would be 1.9 times as much.
    assert 0.5 < tuned.cost.train_flops / tuned.cost.forward_flops < 0.8


def test_the_best_state_is_kept_and_the_budget_spent(tune: Tune, tmp_path: Path) -> None:
    out, tuned = tune("best", examples=320, learning_rate=0.05, evaluations=8, schedule="constant", warmup=0)
    losses = [point.validation_loss for point in tuned.curve]
    assert tuned.chosen_step == tuned.curve[int(np.argmin(losses))].step != tuned.curve[-1].step
    assert tuned.cost.optimizer_steps == 20 and tuned.cost.examples == 320
    validation = [tmp_path / "v1.parquet", tmp_path / "v2.parquet"]
    found = predict([out], validation, task=SPEC).predictions
    assert METRICS["log_loss"].fn(found.target, found.outputs, found.weight) == pytest.approx(min(losses), abs=2e-3)
    last, other = tune(
        "last", examples=320, learning_rate=0.05, evaluations=8, schedule="constant", warmup=0, select="last"
    )
    assert other.chosen_step == 20 and other.curve == tuned.curve
    assert _distance(_weights(out), _weights(last)) > 0


def test_the_curve_file(tune: Tune) -> None:
    out, tuned = tune("out")
    stored = json.loads((out / "tunemerge_tune.json").read_text())
    assert stored["chosen_step"] == tuned.chosen_step
    assert [(p["step"], p["examples"]) for p in stored["curve"]] == [(2, 32), (4, 64), (5, 80), (7, 100)]
    assert set(stored["curve"][0]) == {"step", "examples", "train_loss", "validation_loss", "validation_score"}
    assert stored["curve"][0]["train_loss"] == pytest.approx(0.69, abs=0.1)
    bare, _ = tune("bare", held_out=False)
    assert json.loads((bare / "tunemerge_tune.json").read_text())["curve"][0]["validation_loss"] is None


def test_it_learns(tune: Tune) -> None:
    _, tuned = tune("out", examples=1600, learning_rate=5e-3)
    assert tuned.curve[-1].train_loss < 0.1
    assert max(point.validation_score or 0 for point in tuned.curve) > 0.8


def test_evaluating_more_often_changes_no_weights(tune: Tune) -> None:
    once, _ = tune("once", evaluations=1, select="last", dropout=0.1)
    often, _ = tune("often", evaluations=7, select="last", dropout=0.1)
    assert (once / "model.safetensors").read_bytes() == (often / "model.safetensors").read_bytes()


def test_a_loss_that_is_no_number_stops_with_step_and_rate(tune: Tune, start: Path) -> None:
    with pytest.raises(TunemergeError, match=r"loss became (nan|inf) in step \d+ of 7 at learning rate 1e\+30, batch"):
        tune("out", learning_rate=1e30, schedule="constant", warmup=0, max_grad_norm=1e30, evaluations=1)


def test_a_broken_last_step_is_not_published(tune: Tune) -> None:
    with pytest.raises(TunemergeError, match="weights are no numbers any more in step 1 of 1"):
        tune("out", examples=16, learning_rate=3e38, warmup=0, weight_decay=1e6, max_grad_norm=1e30, held_out=False)


def test_the_published_config(tune: Tune, start: Path) -> None:
    out, _ = tune("out", dropout=0.25)
    before, after = (json.loads((f / "config.json").read_text()) for f in (start, out))
    assert {k for k in after if after[k] != before.get(k)} == {"hidden_dropout_prob", "attention_probs_dropout_prob"}
    assert after["hidden_dropout_prob"] == 0.25 and before["use_cache"] is after["use_cache"] is True


def test_nothing_is_printed(tune: Tune, capfd: pytest.CaptureFixture[str]) -> None:
    tune("out")
    assert capfd.readouterr() == ("", "")


def test_progress_ends_at_one_and_tells_the_loss(start: Path, tmp_path: Path, rows_parquet: RowsFactory) -> None:
    told: list[tuple[float, str]] = []
    tune_model(
        start,
        tmp_path / "out",
        [rows_parquet(20)],
        task=SPEC,
        seed=0,
        examples=40,
        config=TuneConfig(batch_size=8),
        progress=lambda fraction, message: told.append((fraction, message)),
    )
    assert told[-1][0] == 1 and told[-1][1].startswith("step 5/5, loss 0.")
    assert [fraction for fraction, _ in told] == sorted(fraction for fraction, _ in told)


def test_no_examples_are_refused(tune: Tune) -> None:
    with pytest.raises(UsageError, match="examples is 0"):
        tune("out", examples=0)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="micro_batch 5 does not divide batch_size 32"):
        TuneConfig(micro_batch=5)
    with pytest.raises(ValueError, match="epochs"):
        TuneConfig(epochs=3)  # type: ignore[call-arg]
    assert TuneConfig().model_dump() == TuneConfig.model_validate(TuneConfig().model_dump()).model_dump()
