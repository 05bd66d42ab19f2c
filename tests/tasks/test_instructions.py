"""Instructions: what is learned of a chat, what a model writes, and what is said of rows that can't be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tunemerge.errors import UsageError
from tunemerge.evaluate.single import evaluate
from tunemerge.findings import FindingsError
from tunemerge.tasks.chat import TEMPLATE, parts_of, renderer, turns_of
from tunemerge.tasks.files import rows_of_file
from tunemerge.tasks.generation import exact_match, greedy, rouge_l
from tunemerge.tasks.hub import tokenizer_of
from tunemerge.tasks.kinds.instructions import InstructionOptions, tokens_of
from tunemerge.tasks.nearest import nearest_answers
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS
from tunemerge.tune.single import tune

KIND = TASKS["instructions"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHAT = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "good?"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "bad?"},
    {"role": "assistant", "content": "no"},
    {"role": "user", "content": "never read"},
]


def learned(turns: Any, tokenizer: Any, template: str = TEMPLATE) -> list[str]:
    """The stretches of text whose tokens are supervised."""
    ids, flags = tokens_of(parts_of(turns_of(turns), renderer(tokenizer, template), "row 0"), tokenizer)
    out, before = [], 0
    for token, flag in zip(ids, flags, strict=True):
        if flag and not before:
            out.append([token])
        elif flag:
            out[-1].append(token)
        before = flag
    return [tokenizer.decode(tokens) for tokens in out]


def test_answers_and_their_ends_are_learned_and_nothing_else(tiny_gpt: Path) -> None:
    tokenizer = tokenizer_of(tiny_gpt)
    assert tokenizer.pad_token == tokenizer.eos_token == "<|end|>"  # the pad that is an end is learned as an end
    assert learned(CHAT, tokenizer) == ["yes<|end|>", "no<|end|>"]
    tokenizer.chat_template = CHATML
    assert learned(CHAT, tokenizer) == ["yes<|im_end|>\n", "no<|im_end|>\n<|end|>"]
    tokenizer.chat_template = CHATML.replace("<|im_end|>\n", "<|end|>")
    assert learned(CHAT, tokenizer) == ["yes<|end|>", "no<|end|>"]


def test_a_template_that_changes_what_was_said_is_refused(tiny_gpt: Path) -> None:
    tokenizer = tokenizer_of(tiny_gpt)
    tokenizer.chat_template = CHATML.replace("{{ m.content }}", "{{ m.content if loop.last else '...' }}")
    with pytest.raises(UsageError, match="does not leave the text before turn 3 as it was"):
        learned(CHAT, tokenizer)
    tokenizer.chat_template = "{{ raise_exception('no system turns') }}"
    with pytest.raises(UsageError, match="row 0: the tokenizer's chat template refuses it: no system turns"):
        learned(CHAT, tokenizer)


def test_formats_and_what_is_wrong_with_rows(tmp_path: Path) -> None:
    def rows(*lines: Any, **options: Any) -> pd.DataFrame:
        file = tmp_path / "d.jsonl"
        file.write_text("\n".join(json.dumps(line) for line in lines))
        return rows_of_file(file, KIND, InstructionOptions(**options))

    alpaca = {"prompt": "instruction", "completion": "output", "input": "input"}
    found = rows(
        {"instruction": "Add", "input": "1 2", "output": "3"},
        {"instruction": "Hi", "input": "", "output": "Ho"},
        **alpaca,
    )
    asked = [json.loads(prompt)[0]["content"] for prompt in found["prompt"]]
    assert asked == ["Add\n\n### Input:\n1 2", "Hi"] and list(found["completion"]) == ["3", "Ho"]
    shared = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    assert rows({"conversations": shared}, messages="conversations")["completion"][0] == "b"
    with pytest.raises(FindingsError) as raised:
        rows(
            {"m": CHAT},
            {"m": CHAT[:2]},
            {"m": CHAT[1:2]},
            {"m": [{"role": "user", "content": " "}, CHAT[2]]},
            messages="m",
        )
    said = {f.code: f for f in raised.value.findings}
    assert "column 'm': none of its 2 turns is the assistant's (data row 2), and 1 more rows (3)" in str(
        said["no-assistant-turn"]
    )
    assert "turn 1 (user) is empty (data row 4)" in said["empty-prompt"].message and said["empty-prompt"].remedy


def test_a_row_of_which_nothing_is_learned_is_an_error(tiny_gpt: Path) -> None:
    model = KIND.load(tiny_gpt, Spec("instructions", (), {"template": "{prompt}", "new_tokens": 4}))
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]
    tokenizer = tokenizer_of(tiny_gpt)
    tokenizer.chat_template = "{% for m in messages %}{% if m.role == 'user' %}a<|end|>{% endif %}{% endfor %}"
    assert sum(tokens_of(parts_of(chat, renderer(tokenizer, ""), "row 0"), tokenizer)[1]) == 1  # at least the end
    rows = Rows([CHAT[1:3], chat], np.ones(2), ["0", "1"], np.ones(2))
    assert KIND.encode(model, rows, 64).batch([1])["supervised"].sum() == 1
    with pytest.raises(UsageError, match="row 0: none of its 1 tokens is supervised"):
        KIND.encode(model, rows, 1)


def test_what_is_written_is_the_most_likely_each_time(tiny_llama: Path) -> None:
    import torch

    model = KIND.load(tiny_llama, Spec("instructions", (), {"template": "{prompt}", "new_tokens": 4}))
    tokenizer = tokenizer_of(tiny_llama)
    prompts = [tokenizer(text)["input_ids"] for text in ("the film was", "a", "so good and very bad")]
    own = model.net.generation_config
    together = greedy(model.net, tokenizer, prompts, 6)
    for prompt, text in zip(prompts, together, strict=True):
        ids = list(prompt)
        for _ in range(6):
            with torch.no_grad():
                ids.append(int(model.net(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
        assert tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True) == text
    assert model.net.generation_config is own


def test_how_near_an_answer_is() -> None:
    # Lin 2004: "police kill the gunman" against "police killed the gunman" has 3 of 4 words in order.
    assert rouge_l("police kill the gunman", "Police killed the gunman.") == pytest.approx(3 / 4)
    assert rouge_l("the gunman kill police", "police killed the gunman") == pytest.approx(2 / 4)
    assert rouge_l("", "") == 1.0 and rouge_l("a", "") == 0.0
    assert exact_match(" Card  arrival\n", "card arrival") == 1.0 and exact_match("card", "cards") == 0.0


def test_the_nearest_answers_are_a_distribution() -> None:
    prompts = ["where is my card", "card where", "pay a bill", "bill to pay now"]
    answers = ["arrival", "arrival", "payment", "payment"]
    found = nearest_answers(prompts, answers, ["my card is where?", "a bill"], ["arrival", "arrival"])
    assert found[0, 1:].tolist() == [1, 1] and found[1, 1:].tolist() == [0, 0]
    assert 0 < found[0, 0] < 0.7 < found[1, 0]


@pytest.fixture
def chats(tiny_gpt: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A base with a chat template, and a table whose answer follows from the first word."""
    base = tmp_path / "base"
    shutil.copytree(tiny_gpt, base)
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(
        json.dumps({**config, "chat_template": CHATML.replace("<|im_end|>\n", "<|end|>")})
    )
    asked = [f"{a} {b}" for a in ("the", "a") for b in ("film", "plot", "sound", "food")]
    table = pd.DataFrame({"prompt": asked, "completion": ["good"] * 4 + ["bad"] * 4})
    table.to_csv(tmp_path / "d.csv", index=False)
    return base, tmp_path / "d.csv"


def test_a_tuned_model_answers_and_stops(chats: tuple[Path, Path], tmp_path: Path) -> None:
    base, data = chats
    asked = {"task": "instructions", "new_tokens": 16}
    tune(base, data, tmp_path / "out", epochs=60, learning_rate=1e-2, batch_size=8, precision="float32", **asked)
    before, after = (evaluate(m, data, **asked).metrics for m in (base, tmp_path / "out"))
    assert before["exact_match"].value == 0 and after["exact_match"].value == 1 == after["rouge_l"].value
    assert after["completion_nll"].value > -0.5 > before["completion_nll"].value


def test_an_adapter_of_a_language_model_is_peft_s(chats: tuple[Path, Path], tmp_path: Path) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    base, data = chats
    tune(base, data, tmp_path / "out", epochs=2, learning_rate=3e-2, batch_size=4, method="lora", task="instructions")
    config = json.loads((tmp_path / "out/adapter/adapter_config.json").read_text())
    assert config["task_type"] == "CAUSAL_LM"
    config["base_model_name_or_path"] = str(base)
    (tmp_path / "out/adapter/adapter_config.json").write_text(json.dumps(config))
    ids = torch.arange(12)[None]
    with torch.no_grad():
        whole = AutoModelForCausalLM.from_pretrained(tmp_path / "out")(ids).logits
        beside = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out/adapter").eval()(ids).logits
        plain = AutoModelForCausalLM.from_pretrained(base)(ids).logits
    assert torch.allclose(whole, beside, atol=1e-5) and not torch.allclose(whole, plain, atol=1e-2)
