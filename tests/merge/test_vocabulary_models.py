"""Models seen through a common vocabulary: which tensors follow, padding, tied embeddings, config, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenizing import Memory, whole, words
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.errors import UsageError
from tunemerge.findings import FindingsError
from tunemerge.merge.vocabulary import (
    RemappedModel,
    TokenizerRequest,
    Vocabulary,
    parse_tokenizer,
    plan_vocabulary,
)
from tunemerge.merge.vocabulary.tensors import vocabulary_tensors

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def planned(models: dict[str, Path], base: str | None = None, **data: Any) -> Vocabulary:
    request, findings = parse_tokenizer(data or {"tokenizer_source": "union"})
    assert not findings
    return plan_vocabulary(models, base, request)


def numbered(*values: float, width: int = 2) -> Any:
    """Rows that are all one number, so that a row says where it comes from."""
    return np.repeat(np.array(values, np.float32)[:, None], width, 1)


def first_column(model: Any, name: str) -> list[float]:
    return whole(model, name).reshape(model.tensors[name].size // 2, -1)[:, 0].tolist()


def infos(**shapes: tuple[int, ...]) -> dict[str, TensorInfo]:
    return {name.replace("__", "."): TensorInfo("F32", shape, 0, 0) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("shapes", "size", "expected"),
    [
        # BERT with its head; the size is also that of the positions
        (
            dict(
                bert__embeddings__word_embeddings__weight=(64, 8),
                bert__embeddings__position_embeddings__weight=(64, 8),
                bert__embeddings__token_type_embeddings__weight=(2, 8),
                bert__encoder__layer__0__output__dense__weight=(8, 64),
                cls__predictions__bias=(64,),
                cls__predictions__decoder__weight=(64, 8),
                cls__predictions__decoder__bias=(64,),
                cls__predictions__transform__dense__weight=(8, 8),
                classifier__weight=(2, 8),
            ),
            64,
            {
                *("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"),
                *("cls.predictions.decoder.weight", "cls.predictions.decoder.bias"),
            },
        ),
        # no config: the rows of the input embeddings
        (dict(wte__weight=(50, 8), wpe__weight=(50, 8), h__0__mlp__weight=(8, 32)), None, {"wte.weight"}),
        # config.json says something that the embeddings don't have: the rows of the embeddings
        (dict(model__embed_tokens__weight=(52, 8), lm_head__weight=(52, 8)), 50, {EMBED, HEAD}),
        # BART
        (
            dict(
                model__shared__weight=(50, 8), final_logits_bias=(1, 50), model__encoder__layers__0__fc1__weight=(9, 8)
            ),
            50,
            {"model.shared.weight", "final_logits_bias"},
        ),
        # a square embedding, and layers as wide
        (
            dict(model__embed_tokens__weight=(8, 8), model__norm__weight=(8,), model__layers__0__q__weight=(8, 8)),
            8,
            {EMBED},
        ),
        # a name that nobody knows, with a size that is no coincidence
        (dict(words=(50, 8), words_out__bias=(50,), layers__0__w=(8, 8)), 50, {"words", "words_out.bias"}),
        # ... and one that may be
        (dict(words=(50, 8), layers__0__w=(50, 8)), 50, set()),
        # heads in numbered layers
        (dict(model__embed_tokens__weight=(50, 8), model__layers__9__shared_head__head__weight=(50, 8)), 50, None),
        (dict(layers__0__weight=(8, 8), head__weight=(3, 8)), None, set()),
    ],
)
def test_which_tensors_have_a_row_a_token(
    shapes: dict[str, tuple[int, ...]], size: int | None, expected: set[str] | None
) -> None:
    tensors = infos(**shapes)
    found = vocabulary_tensors(tensors, size)
    assert found.keys() == (tensors.keys() if expected is None else expected)


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, Path]:
    """a: [UNK] one two <a>; b: two three [UNK] <b>. Their union: [UNK] one two <a> three <b>."""
    return {
        "a": words(tmp_path / "a", ["[UNK]", "one", "two"], added=["<a>"]),
        "b": words(tmp_path / "b", ["two", "three", "[UNK]"], added=["<b>"]),
    }


def models_of(a: dict[str, Any], b: dict[str, Any]) -> list[Memory]:
    return [Memory("a", a), Memory("b", b)]


def test_the_rows_of_a_union_by_hand(pair: dict[str, Path]) -> None:
    a, b = numbered(10, 11, 12, 13), numbered(20, 21, 22, 23)
    shared = np.ones((3, 2), np.float32)
    models = models_of({EMBED: a, HEAD: -a, "x": shared}, {EMBED: b, HEAD: -b, "x": shared})
    first, second = planned(pair).apply(models)
    assert isinstance(first, RemappedModel)
    assert first_column(first, EMBED) == [10, 11, 12, 13, 21, 23]
    assert first_column(second, EMBED) == [22, 11, 20, 13, 21, 23]
    assert first_column(second, HEAD) == [-22, -11, -20, -13, -21, -23]
    assert first.tensors[EMBED].shape == (6, 2) and first.tensors["x"].shape == (3, 2)
    assert first.source("x").where == "a: x" and (whole(first, "x") == shared).all()
    average = (np.array(first_column(first, EMBED)) + first_column(second, EMBED)) / 2
    assert average.tolist() == [16, 11, 16, 13, 21, 23]


def test_with_a_base_and_rules(pair: dict[str, Path], tmp_path: Path) -> None:
    pair["base"] = words(tmp_path / "base", ["[UNK]", "one", "three"])
    models = [*models_of({EMBED: numbered(10, 11, 12, 13)}, {EMBED: numbered(20, 21, 22, 23)})]
    models.append(Memory("base", {EMBED: numbered(30, 31, 32)}))
    tokens = {
        "<b>": {"source": {"kind": "model_token", "model": "a", "token": "two"}},
        "[UNK]": {"source": "b", "force": True},
        "two": {"source": {"kind": "zero"}},
        "<new>": {"source": {"kind": "model_token", "model": "base", "token_id": 1}},
    }
    vocabulary = planned(pair, "base", tokenizer={"source": "union", "tokens": tokens})
    assert vocabulary.tokenizer is not None
    assert list(vocabulary.tokenizer.ids) == ["[UNK]", "one", "three", "two", "<a>", "<b>", "<new>"]
    views = vocabulary.apply(models)
    assert first_column(views[0], EMBED) == [22, 11, 32, 12, 13, 12, 31]
    assert first_column(views[1], EMBED) == [22, 31, 21, 20, 13, 23, 31]
    assert first_column(views[2], EMBED) == [22, 31, 32, 0, 13, 12, 31]


def test_a_mean_where_neither_the_base_nor_one_model_has_it(pair: dict[str, Path], tmp_path: Path) -> None:
    pair["base"] = words(tmp_path / "base", ["[UNK]", "one"])
    models = [*models_of({EMBED: numbered(10, 11, 12, 13)}, {EMBED: numbered(20, 21, 22, 23)})]
    models.append(Memory("base", {EMBED: numbered(30, 31)}))
    views = planned(pair, "base").apply(models)
    assert first_column(views[2], EMBED) == [30, 31, (12 + 20) / 2, 13, 21, 23]


def test_models_that_need_no_change_are_returned(tmp_path: Path) -> None:
    folder = words(tmp_path / "a", ["[UNK]", "one"])
    models = models_of({EMBED: numbered(1, 2)}, {EMBED: numbered(3, 4)})
    assert planned({"a": folder, "b": folder}).apply(models) == models
    assert planned({"a": folder, "b": folder}, chat_template="chatml").apply(models) == models


def test_padded_vocabularies(pair: dict[str, Path]) -> None:
    for name, folder in pair.items():
        (folder / "config.json").write_text(json.dumps({"vocab_size": 8 if name == "a" else 5}))
    models = models_of({EMBED: numbered(10, 11, 12, 13, 1, 1, 1, 1)}, {EMBED: numbered(20, 21, 22, 23, 1)})
    first, second = planned(pair).apply(models)
    assert first_column(first, EMBED) == [10, 11, 12, 13, 21, 23]
    assert first_column(second, EMBED) == [22, 11, 20, 13, 21, 23]
    vocabulary = planned(pair, tokenizer={"source": "union", "pad_to_multiple_of": 4})
    first, _ = vocabulary.apply(models)
    assert first_column(first, EMBED) == [10, 11, 12, 13, 21, 23, 15, 15]  # 15: the mean of the six
    assert vocabulary.config_changes("a") == {} and vocabulary.config_changes("b") == {"config.json": {"vocab_size": 8}}
    exact = planned(pair, tokenizer={"source": "union", "pad_to_multiple_of": 3})
    assert exact.rows is not None and exact.rows.count == 6


def test_one_tokenizer_with_padding_loses_it(tmp_path: Path) -> None:
    folder = words(tmp_path / "a", ["[UNK]", "one", "two"], config={"vocab_size": 5})
    (view,) = planned({"a": folder}, tokenizer_source="base").apply([Memory("a", {EMBED: numbered(0, 1, 2, 9, 9)})])
    assert first_column(view, EMBED) == [0, 1, 2]


def test_tokens_behind_the_embeddings(tmp_path: Path) -> None:
    a = words(tmp_path / "a", ["[UNK]", "one"], added=["<pad>"], config={"vocab_size": 2})
    vocabulary = planned({"a": a}, tokenizer_source="base")
    assert vocabulary.rows is not None and vocabulary.rows.count == 2
    assert [f.severity for f in vocabulary.findings] == ["note"] and "'<pad>'" in vocabulary.findings[0].message
    b = words(tmp_path / "b", ["[UNK]", "two"])
    models = models_of({EMBED: numbered(10, 11)}, {EMBED: numbered(20, 21)})
    united = planned({"a": a, "b": b})
    assert [f.severity for f in united.findings] == ["warning"] and "rows are zero" in united.findings[0].message
    first, second = united.apply(models)
    assert first_column(first, EMBED) == [10, 11, 0, 21] and first_column(second, EMBED) == [20, 11, 0, 21]


def test_a_tokenizer_that_no_model_has_a_token_of(tmp_path: Path) -> None:
    other = words(tmp_path / "other", ["x", "y"])
    with pytest.raises(FindingsError, match="no model has a row for any token"):
        plan_vocabulary({"a": words(tmp_path / "a", ["one", "two"])}, None, TokenizerRequest("o"), {"o": other})


def test_a_rule_is_no_missing_row(pair: dict[str, Path]) -> None:
    rule = {"source": {"kind": "model_token", "model": "a", "token_id": 0}}
    assert not planned(pair, tokenizer={"tokens": {"<new>": rule}}).findings
    assert "'<new>'" in planned(pair, tokenizer={"tokens": {"<new>": None}}).findings[0].message


def test_fewer_rows_than_the_config_says(pair: dict[str, Path]) -> None:
    """The tensor counts: what it has no row for, the model lacks."""
    models = models_of({EMBED: numbered(10, 11, 12)}, {EMBED: numbered(20, 21, 22, 23)})
    first, second = planned(pair).apply(models)
    assert first_column(first, EMBED) == [10, 11, 12, 0, 21, 23] and first_column(second, EMBED) == [
        22,
        11,
        20,
        0,
        21,
        23,
    ]


def test_tied_embeddings(pair: dict[str, Path]) -> None:
    a, b = numbered(10, 11, 12, 13), numbered(20, 21, 22, 23)
    first, second = planned(pair).apply(models_of({EMBED: a, HEAD: -a}, {EMBED: b}))
    assert first_column(first, HEAD) == [-10, -11, -12, -13, 21, 23]  # b's head is its embeddings
    assert first_column(second, EMBED) == [22, 11, 20, 13, 21, 23]
    assert first_column(second, HEAD) == [22, -11, 20, -13, 21, 23]  # ... but not where its rows come from a head

    write_json(pair["b"] / "config.json", vocab_size=4, tie_word_embeddings=False)
    first, second = planned(pair).apply(models_of({EMBED: a, HEAD: -a}, {EMBED: b}))
    assert first_column(first, HEAD) == [-10, -11, -12, -13, 0, 0] and HEAD not in second.tensors
    neither = planned(pair).apply(models_of({EMBED: a}, {EMBED: b}))
    assert all(set(view.tensors) == {EMBED} for view in neither)


def test_biases_and_rows_of_one(pair: dict[str, Path]) -> None:
    name = "final_logits_bias"
    a = {EMBED: numbered(10, 11, 12, 13), "lm_head.bias": np.arange(4, dtype=np.float32)}
    b = {EMBED: numbered(20, 21, 22, 23), "lm_head.bias": np.arange(5, 9, dtype=np.float32)}
    a[name], b[name] = (m["lm_head.bias"][None] for m in (a, b))
    _, second = planned(pair).apply(models_of(a, b))
    assert whole(second, "lm_head.bias").tolist() == [7, 1, 5, 3, 6, 8]
    assert whole(second, name).tolist() == [[7, 1, 5, 3, 6, 8]]


def test_names_with_and_without_a_prefix(pair: dict[str, Path]) -> None:
    inner = EMBED.removeprefix("model.")
    a, b = numbered(10, 11, 12, 13), numbered(20, 21, 22, 23)
    first, second = planned(pair).apply(models_of({EMBED: a, HEAD: -a}, {inner: b}))
    assert second.tensors.keys() == {inner, HEAD}
    assert first_column(first, EMBED) == [10, 11, 12, 13, 21, 23]
    assert first_column(first, HEAD) == [-10, -11, -12, -13, 21, 23]
    assert first_column(second, inner) == [22, 11, 20, 13, 21, 23]
    first, second = planned(pair).apply(models_of({inner: a}, {EMBED: b}))
    assert first_column(first, inner) == [10, 11, 12, 13, 21, 23]
    assert first_column(second, EMBED) == [22, 11, 20, 13, 21, 23]


def test_square_embeddings(pair: dict[str, Path]) -> None:
    a, b = (np.arange(16, dtype=np.float32).reshape(4, 4) + start for start in (0, 100))
    _, second = planned(pair).apply(models_of({EMBED: a}, {EMBED: b}))
    assert second.tensors[EMBED].shape == (6, 4)
    assert (whole(second, EMBED) == np.stack([b[2], a[1], b[0], a[3], b[1], b[3]])).all()


def test_models_that_do_not_fit(pair: dict[str, Path]) -> None:
    vocabulary = planned(pair)
    good = {EMBED: numbered(1, 2, 3, 4)}
    with pytest.raises(UsageError, match=r"b: no embeddings of 4 rows"):
        vocabulary.apply(models_of(good, {"layers.0.weight": numbered(1, 2)}))
    with pytest.raises(UsageError, match=r"differ in width \(a: 2, b: 3\)"):
        vocabulary.apply(models_of(good, {EMBED: numbered(1, 2, 3, 4, width=3)}))
    with pytest.raises(UsageError, match=r"a: .*embed_tokens.weight is I8"):
        vocabulary.apply(models_of({EMBED: numbered(1, 2, 3, 4).astype(np.int8)}, good))
    with pytest.raises(UsageError, match=r"b: lm_head.weight has the shape \[7, 2\]"):
        vocabulary.apply(models_of({**good, HEAD: good[EMBED]}, {**good, HEAD: numbered(*range(7))}))
    with pytest.raises(ValueError, match="1 models for a vocabulary of 2"):
        vocabulary.apply(models_of(good, good)[:1])


def test_rules_that_do_not_fit(pair: dict[str, Path]) -> None:
    tokens = {
        "<x>": {"source": "c"},
        "<y>": {"source": "a"},
        "<z>": {"source": {"kind": "model_token", "model": "b", "token_id": 4}},
        "one": {"source": {"kind": "model_token", "model": "b", "token": "nope"}},
    }
    with pytest.raises(FindingsError) as caught:
        planned(pair, tokenizer={"tokens": tokens})
    assert [f.where.rsplit(".")[-1] for f in caught.value.findings] == list(tokens)
    for text in ("'c' is none of the models", "a has no token '<y>'", "b has 4 rows, none with the number 4", "'nope'"):
        assert text in str(caught.value)
    late = planned(pair, tokenizer={"tokens": {"<b>": {"source": "b", "force": True}}})
    good = numbered(1, 2, 3, 4)
    with pytest.raises(UsageError, match=r"b: has no lm_head.bias"):
        late.apply(models_of({EMBED: good, "lm_head.bias": good[:, 0]}, {EMBED: good}))


def test_a_model_without_a_tokenizer(pair: dict[str, Path], tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text(json.dumps({"vocab_size": 4}))
    vocabulary = planned({**pair, "bare": bare})
    assert [f.code for f in vocabulary.findings] == ["tokenizer-assumed"]
    assert vocabulary.rows is not None and (vocabulary.rows.maps[2] == vocabulary.rows.maps[0]).all()
    vocabulary = planned({**pair, "bare": bare}, "b")
    assert vocabulary.rows is not None and (vocabulary.rows.maps[2] == vocabulary.rows.maps[1]).all()
    (bare / "config.json").write_text(json.dumps({"vocab_size": 7}))
    with pytest.raises(FindingsError, match=r"another size of vocabulary \(7\) than a \(4\)"):
        planned({**pair, "bare": bare})
    with pytest.raises(FindingsError, match="the recipe takes the tokenizer from it"):
        planned({**pair, "bare": bare}, tokenizer_source="bare")


def write_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(values))
