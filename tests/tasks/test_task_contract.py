"""Every kind of task that ships keeps the contract; and it is a contract that can be broken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pictures
from corpus import LABELS, sentences
from series import tiny_series, waves
from tunemerge.tasks.kinds.text_regression import TextRegression
from tunemerge.tasks.made_network import Description
from tunemerge.tasks.task import TASKS, Loaded
from tunemerge.testing import tasks as contract
from tunemerge.testing.tasks import CONTRACTS, Case
from tunemerge.tune.config import TuneConfig


def text_classification(base: Path) -> Case:
    texts, labels = sentences(48, 1)
    table = pd.DataFrame({"review": texts, "label": [LABELS.index(label) for label in labels]})
    options = {"text": "review", "labels": {"0": "negative", "1": "positive"}}
    bad = [(table.assign(label=7), "unknown-label"), (table.drop(columns="review"), "no-such-column")]
    return Case(TASKS["text-classification"], options, table, base, bad)


def text_pairs(base: Path) -> Case:
    first, labels = sentences(48, 1)
    table = pd.DataFrame({"text": sentences(48, 2)[0], "answer": first, "label": labels})
    gap = table.assign(answer=[None, *first[1:]])
    return Case(TASKS["text-classification"], {"pair": "answer"}, table, base, [(gap, "missing-value")])


def text_multilabel(base: Path) -> Case:
    texts, labels = sentences(48, 1)
    topics = [
        ";".join([label, *(["short"] if len(t.split()) < 8 else [])]) for t, label in zip(texts, labels, strict=True)
    ]
    table = pd.DataFrame({"text": texts, "topics": [None, *topics[1:]]})
    named = {"label": "topics", "labels": {x: x.upper() for x in ("negative", "positive", "short")}}
    bad = [(table.assign(topics="bland;short"), "unknown-label"), (table.drop(columns="topics"), "no-such-column")]
    tuning = TuneConfig(learning_rate=1e-2, batch_size=8, dropout=0.0)
    return Case(TASKS["text-multilabel"], named, table, base, bad, tuning)


def text_regression(base: Path) -> Case:
    texts, labels = sentences(48, 1)
    noise = np.random.default_rng(0).normal(0, 5, 48)
    table = pd.DataFrame({"text": texts, "stars": 300 + 40 * np.array([LABELS.index(x) for x in labels]) + noise})
    bad = [(table.assign(stars=["many", *table["stars"][1:]]), "not-a-number")]
    return Case(TASKS["text-regression"], {"value": "stars", "quantity": "stars"}, table, base, bad)


def language_modelling(base: Path) -> Case:
    table = pd.DataFrame({"body": sentences(48, 1)[0]})
    blank = table.assign(body=["  ", *table["body"][1:]])
    bad = [(blank, "empty-text"), (table.rename(columns={"body": "other"}), "no-such-column")]
    return Case(TASKS["language-modelling"], {"text": "body"}, table, base, bad)


def instructions(base: Path) -> Case:
    asked, labels = sentences(48, 1)
    table = pd.DataFrame({"asked": asked, "answer": labels})
    bad = [
        (table.assign(asked=["", *asked[1:]]), "empty-prompt"),
        (table.assign(answer=["  ", *labels[1:]]), "empty-completion"),
        (table.assign(answer=[None, *labels[1:]]), "missing-value"),
    ]
    options = {"prompt": "asked", "completion": "answer", "new_tokens": 4, "template": "{prompt} ?"}
    return Case(TASKS["instructions"], options, table, base, bad)


def chats(base: Path) -> Case:
    said, answers = sentences(48, 1)
    turns = [
        [{"role": "system", "content": "Say it."}, {"role": "user", "content": a}, {"role": "assistant", "content": b}]
        for a, b in zip(said, answers, strict=True)
    ]
    table = pd.DataFrame({"chat": turns})
    no_answer, nobody = [turns[0][:2], *turns[1:]], [[{"role": "judge", "content": "x"}], *turns[1:]]
    bad = [(table.assign(chat=no_answer), "no-assistant-turn"), (table.assign(chat=nobody), "bad-messages")]
    return Case(TASKS["instructions"], {"messages": "chat", "new_tokens": 4, "template": "{prompt}:"}, table, base, bad)


def forecasting(base: Path) -> Case:
    table = waves(4, 40)
    options = {"context": 16, "horizon": 4, "season": 4}
    backward = table.iloc[[1, 0, *range(2, len(table))]].reset_index(drop=True)
    bad = [
        (table.assign(value=["high", *table["value"][1:]]), "not-a-number"),
        (table.assign(time=["2024-13-01", *table["time"][1:]]), "bad-date"),
        (backward, "time-goes-back"),
        (pd.concat([table, table.tail(1)], ignore_index=True), "time-twice"),
        (table.drop(index=5).reset_index(drop=True), "gap"),
        (table.groupby("series").head(10).reset_index(drop=True), "too-short"),
        (table.assign(value=1.0), "flat-past"),
    ]
    return Case(TASKS["forecasting"], options, table, tiny_series(base / "mixer", "patchtsmixer", 16), bad, rows=84)


def returns(base: Path) -> Case:
    table = waves(3, 70).rename(columns={"value": "price"})
    bad = [(table.assign(price=table["price"] - 60), "not-a-price"), (table.drop(columns="time"), "no-such-column")]
    options = {"value": "price", "context": 12, "horizon": 2, "channels": ["volume"]}
    table["volume"] = np.random.default_rng(1).normal(size=len(table))
    bad = [(b.assign(volume=0.0), code) for b, code in bad]
    return Case(TASKS["returns"], options, table, tiny_series(base / "tst", "patchtst", 12, 2), bad, rows=84)


def patients() -> tuple[pd.DataFrame, np.ndarray]:
    """Numbers with gaps, categories, and what follows from them."""
    rng = np.random.default_rng(0)
    age, sex = rng.normal(50, 10, 64), rng.choice(["f", "m"], 64)
    risk = (age - 50) / 10 + (sex == "m") + rng.normal(0, 0.2, 64)
    age[::9] = np.nan
    table = pd.DataFrame({"age": age, "sex": sex, "pain": rng.integers(1, 5, 64).astype(str)})
    return table, risk


def drawn(folder: Path, build: str, **config: Any) -> Path:
    """A folder that describes a network, without weights."""
    (folder / build).mkdir(exist_ok=True)
    Description(build, config, drawn=True).write(folder / build)
    return folder / build


def tables(base: Path) -> Case:
    table, risk = patients()
    table = table.assign(ill=(risk > 0.5).astype(int))
    options = {"label": "ill", "labels": {"0": "healthy", "1": "ill"}, "categorical": ["pain"]}
    bad = [
        (table.assign(age=["young", *table["age"][1:]]), "not-a-number"),
        (table.assign(ill=2), "unknown-label"),
        (table.drop(columns="pain"), "no-such-column"),
    ]
    return Case(TASKS["table-classification"], options, table, drawn(base, "table_mlp", width=16), bad)


def tables_by_transformer(base: Path) -> Case:
    table, risk = patients()
    table = table.assign(days=100 + 20 * risk)
    made = drawn(base, "ft_transformer", width=8, heads=2, blocks=1)
    bad = [(table.assign(days=[None, *table["days"][1:]]), "missing-value")]
    return Case(TASKS["table-regression"], {"value": "days", "quantity": "days"}, table, made, bad)


def text_beside_columns(base: Path) -> Case:
    table, risk = patients()
    texts = [
        f"{'great' if r > 0.5 else 'bad'} {text}" for r, text in zip(risk, sentences(len(table), 1)[0], strict=True)
    ]
    table = table.assign(ill=(risk > 0.5).astype(int), note=texts)
    options = {"label": "ill", "labels": {"0": "healthy", "1": "ill"}, "categorical": ["pain"], "text": "note"}
    bad = [
        (table.assign(age=["young", *table["age"][1:]]), "not-a-number"),
        (table.assign(note=[None, *texts[1:]]), "missing-value"),
        (table.assign(ill=2), "unknown-label"),
    ]
    return Case(TASKS["text-table-classification"], options, table, base, bad)


def value_of_text_and_columns(base: Path) -> Case:
    table, risk = patients()
    table = table.assign(days=100 + 20 * risk, text=sentences(len(table), 1)[0])
    bad = [(table.assign(days=["many", *table["days"][1:]]), "not-a-number")]
    return Case(TASKS["text-table-regression"], {"value": "days", "quantity": "days"}, table, base, bad)


def _images(base: Path, name: str, make: Callable[[Path], Path], channels: int) -> Case:
    folder = base / name
    if not folder.exists():
        folder.mkdir()
        make(folder)
    table = pictures.table(48, 1, channels)
    broken = table.assign(image=[b"no image", *table["image"][1:]])
    other = table.assign(image=[table["image"][0][:4], *table["image"][1:]])
    bad = [(broken, "bad-image"), (other, "image-sizes"), (table.drop(columns="label"), "no-such-column")]
    options = {"labels": {"0": "lying", "1": "standing"}}
    return Case(TASKS["image-classification"], options, table, folder, bad)


def image_vit(base: Path) -> Case:
    return _images(base, "tiny_vit", pictures.tiny_vit, 1)


def image_resnet(base: Path) -> Case:
    return _images(base, "tiny_resnet", pictures.tiny_resnet, 3)


def image_made(base: Path) -> Case:
    return _images(base, "made_base", pictures.made_base, 1)


def image_text(base: Path) -> Case:
    case = _images(base, "tiny_clip", pictures.tiny_clip, 1)
    return dataclasses.replace(
        case, kind=TASKS["image-text"], options={**case.options, "caption": "a photo of {label}"}
    )


CASES = {
    text_classification: "tiny_bert",
    text_pairs: "tiny_bert",
    text_multilabel: "tiny_bert",
    text_regression: "tiny_bert",
    language_modelling: "tiny_gpt",
    instructions: "tiny_gpt",
    chats: "tiny_llama",
    forecasting: "made_bases",
    returns: "made_bases",
    tables: "made_bases",
    tables_by_transformer: "made_bases",
    text_beside_columns: "tiny_bert",
    value_of_text_and_columns: "tiny_bert",
    image_vit: "made_bases",
    image_resnet: "made_bases",
    image_made: "made_bases",
    image_text: "made_bases",
}


@pytest.fixture(scope="module")
def made_bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


def test_every_kind_has_a_case(tmp_path: Path) -> None:
    """But for the one that needs a package of its own, which test_harness.py has."""
    assert {make(tmp_path).kind.name for make in CASES} | {"lm-eval"} == set(TASKS.names())


@pytest.mark.parametrize("make", CASES)
@pytest.mark.parametrize("check", CONTRACTS)
def test_contract(make: Any, check: Any, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    check(make(request.getfixturevalue(CASES[make])), tmp_path)


class Forgetful(TextRegression):
    """Reads past the mask, and forgets how many rows it has seen."""

    def forward(self, model: Loaded, inputs: Any) -> Any:
        return model.net(**{k: v for k, v in inputs.items() if k != "attention_mask"}).logits

    def summarise(self, rows: Any, spec: Any) -> Any:
        return {**super().summarise(rows, spec), "rows": 1}


@pytest.mark.parametrize("check", [contract.padding_changes_no_prediction, contract.what_is_fitted_adds_up])
def test_a_kind_that_breaks_it_is_found(
    check: Any, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What runs models looks the kind up by its name.
    monkeypatch.setattr(TextRegression, "forward", Forgetful.forward)
    case = dataclasses.replace(text_regression(tiny_bert), kind=Forgetful())
    with pytest.raises(AssertionError):
        check(case, tmp_path)
