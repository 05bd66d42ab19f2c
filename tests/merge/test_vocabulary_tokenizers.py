"""Reading real tokenizers as the library numbers them, and uniting them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend

from tokenizing import ENGLISH, GREEK, KINDS, save, train, words
from tunemerge.errors import CheckpointError
from tunemerge.findings import FindingsError
from tunemerge.merge.vocabulary import TokenizerRequest, Vocabulary, parse_tokenizer, plan_vocabulary
from tunemerge.merge.vocabulary.tokenizer import read_tokenizer


def planned(models: dict[str, Path], base: str | None = None, **data: Any) -> Vocabulary:
    request, findings = parse_tokenizer(data or {"tokenizer_source": "union"})
    assert not findings
    return plan_vocabulary(models, base, request)


def written(vocabulary: Vocabulary, folder: Path) -> Path:
    folder.mkdir()
    vocabulary.write(folder)
    return folder


def backend(folder: Path) -> Backend:
    return Backend.from_file(str(folder / "tokenizer.json"))


def tokens_in(text: str, folder: Path) -> list[str]:
    return backend(folder).encode(text).tokens


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Of each kind an English and a Greek tokenizer, each with a special token of its own behind its vocabulary."""
    root = tmp_path_factory.mktemp("trained")
    return {
        kind: {
            "english": save(root / kind / "english", train(kind, ENGLISH, added=["<|en|>", "<|both|>"])),
            "greek": save(root / kind / "greek", train(kind, GREEK, added=["<|both|>", "<|el|>"])),
        }
        for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["english", "greek"])
def test_numbers_are_those_of_the_library(kind: str, name: str, trained: dict[str, dict[str, Path]]) -> None:
    folder = trained[kind][name]
    tokenizer = read_tokenizer(folder)
    assert tokenizer is not None and tokenizer.kind == kind
    assert tokenizer.ids == backend(folder).get_vocab(with_added_tokens=True)
    assert list(tokenizer.ids.values()) == sorted(tokenizer.ids.values())


def edited(folder: Path, out: Path, change: Any, **settings: Any) -> Path:
    """A copy of a tokenizer folder whose tokenizer.json went through `change`."""
    out.mkdir()
    data = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    change(data)
    (out / "tokenizer.json").write_text(json.dumps(data), "utf-8")
    (out / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return out


def _gap(data: Any) -> None:
    data["model"]["vocab"]["far"] = 40


def _wrong_number(data: Any) -> None:
    data["added_tokens"][-1]["id"] = 900


def _twice(data: Any) -> None:
    data["added_tokens"] += [dict(data["added_tokens"][-1]), {**data["added_tokens"][-1], "content": ""}]


def _in_vocabulary(data: Any) -> None:
    data["added_tokens"][-1]["content"] = "b"


@pytest.mark.parametrize("change", [_gap, _wrong_number, _twice, _in_vocabulary])
def test_odd_numbers_are_read_as_the_library_reads_them(change: Any, tmp_path: Path) -> None:
    folder = edited(words(tmp_path / "plain", ["a", "b", "c"], added=["<x>", "<y>"]), tmp_path / "odd", change)
    tokenizer = read_tokenizer(folder)
    assert tokenizer is not None
    assert tokenizer.ids == backend(folder).get_vocab(with_added_tokens=True)


def test_a_piece_that_is_there_twice(tmp_path: Path, trained: dict[str, dict[str, Path]]) -> None:
    def change(data: Any) -> None:
        data["model"]["vocab"].append(["▁", -9.0])

    folder = edited(trained["Unigram"]["english"], tmp_path / "odd", change)
    tokenizer = read_tokenizer(folder)
    assert tokenizer is not None
    assert tokenizer.ids == backend(folder).get_vocab(with_added_tokens=True)


def test_tokens_that_only_transformers_knows_have_its_numbers(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    extra = {"7": {"content": "<seven>", "special": False}, "6": {"content": "<six>", "special": True}}
    folder = words(
        *(tmp_path / "w", ["[UNK]", "a", "b"]),
        added=["<x>"],
        pad_token="<pad>",
        eos_token={"content": "<x>", "__type": "AddedToken"},
        extra_special_tokens=["<extra>"],
        added_tokens_decoder=extra,
    )
    tokenizer = read_tokenizer(folder)
    assert tokenizer is not None
    assert tokenizer.ids == {"[UNK]": 0, "a": 1, "b": 2, "<x>": 3, "<six>": 4, "<seven>": 5, "<pad>": 6, "<extra>": 7}
    assert tokenizer.ids == PreTrainedTokenizerFast.from_pretrained(folder).get_vocab()


def test_a_union_by_hand(tmp_path: Path) -> None:
    models = {
        "a": words(tmp_path / "a", ["[UNK]", "one", "two"], added=["<a>"]),
        "b": words(tmp_path / "b", ["three", "two", "[UNK]", "four"], added=["<a>", "<b>"]),
        "c": words(tmp_path / "c", ["five", "four", "<b>"]),
    }
    union = planned(models)
    assert union.tokenizer is not None and union.rows is not None
    assert list(union.tokenizer.ids) == ["[UNK]", "one", "two", "<a>", "three", "four", "<b>", "five"]
    assert list(union.tokenizer.ids.values()) == list(range(8))
    assert union.rows.maps.tolist() == [
        [0, 1, 2, 3, -1, -1, -1, -1],
        [2, -1, 1, 4, 0, 3, 5, -1],
        [-1, -1, -1, -1, -1, 1, 2, 0],
    ]
    turned = planned(models, base="b")
    assert turned.tokenizer is not None
    assert list(turned.tokenizer.ids) == ["three", "two", "[UNK]", "four", "<a>", "<b>", "one", "five"]


def test_one_tokenizer_of_several(tmp_path: Path) -> None:
    models = {
        "a": words(tmp_path / "a", ["[UNK]", "one"]),
        "b": words(tmp_path / "b", ["two", "[UNK]", "one"]),
        "c": words(tmp_path / "c", ["two", "one", "[UNK]"]),
    }
    for source, order in (("base", ["two", "[UNK]", "one"]), ("c", ["two", "one", "[UNK]"])):
        vocabulary = planned(models, base="b", tokenizer_source=source)
        assert vocabulary.tokenizer is not None and list(vocabulary.tokenizer.ids) == order
        out = written(vocabulary, tmp_path / f"out_{source}")
        donor = models["b" if source == "base" else "c"]
        assert (out / "tokenizer.json").read_bytes() == (donor / "tokenizer.json").read_bytes()
    assert planned(models, tokenizer_source="base").tokenizer == planned(models, tokenizer_source="a").tokenizer


def test_a_model_that_is_not_merged_can_give_the_tokenizer(tmp_path: Path) -> None:
    models = {"a": words(tmp_path / "a", ["[UNK]", "one"])}
    other = words(tmp_path / "other", ["one", "two", "[UNK]"])
    vocabulary = plan_vocabulary(models, None, TokenizerRequest("org/other"), {"org/other": other})
    assert vocabulary.rows is not None and vocabulary.rows.maps.tolist() == [[1, -1, 0]]
    with pytest.raises(FindingsError, match="no model of the recipe"):
        plan_vocabulary(models, None, TokenizerRequest("org/other"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loader", ["PreTrainedTokenizerFast", "AutoTokenizer"])
def test_a_union_splits_each_text_as_its_own_tokenizer(
    kind: str, loader: str, trained: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    import transformers

    models = trained[kind]
    vocabulary = planned(models)
    assert vocabulary.tokenizer is not None and not vocabulary.findings
    out = written(vocabulary, tmp_path / "out")
    (out / "config.json").write_bytes((models["english"] / "config.json").read_bytes())
    union = getattr(transformers, loader).from_pretrained(out)
    assert union.get_vocab() == vocabulary.tokenizer.ids
    first = backend(models["english"]).get_vocab(with_added_tokens=True)
    assert {token: union.get_vocab()[token] for token in first} == first
    assert union.get_vocab().keys() == first.keys() | backend(models["greek"]).get_vocab().keys()
    for name, texts in (("english", ENGLISH), ("greek", GREEK)):
        for text in (*texts, f"{texts[0]} <|both|> {texts[1]}"):
            assert union.convert_ids_to_tokens(union(text)["input_ids"]) == tokens_in(text, models[name])
    text = f"{ENGLISH[0]}<|el|>{GREEK[0]}<|en|>"
    assert union.decode(union(text)["input_ids"], skip_special_tokens=True).count("<|") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_union_of_a_tokenizer_with_itself_is_the_tokenizer(
    kind: str, trained: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    folder = trained[kind]["english"]
    out = written(planned({"a": folder, "b": folder}), tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(("name", "kind"), [("GPT2Tokenizer", "BPE"), ("BertTokenizer", "WordPiece")])
def test_classes_that_build_their_own_tokenizer_number_the_union_alike(
    name: str, kind: str, trained: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    import transformers

    special = {
        "BPE": dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|end|>"),
        "WordPiece": {"strip_accents": False},
    }
    models = {}
    for i, source in enumerate(trained[kind].values()):
        models[str(i)] = edited(source, tmp_path / str(i), lambda data: None, tokenizer_class=name, **special[kind])
    vocabulary = planned(models)
    assert vocabulary.tokenizer is not None
    union = getattr(transformers, name).from_pretrained(written(vocabulary, tmp_path / "out"))
    ours = dict(vocabulary.tokenizer.ids)
    assert {token: union.get_vocab()[token] for token in ours} == ours
    assert union.tokenize(GREEK[1]) == backend(models["1"]).encode(GREEK[1], add_special_tokens=False).tokens


def test_merges_follow_in_order_each_once(trained: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    def as_text(data: Any) -> None:
        data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]

    models = trained["BPE"]
    union = planned(models).tokenizer
    assert union is not None
    pairs = [[tuple(p) for p in read["model"]["merges"]] for read in map(_json, models.values())]
    expected = pairs[0] + [pair for pair in pairs[1] if pair not in pairs[0]]
    assert [tuple(pair) for pair in union.data["model"]["merges"]] == expected
    old = {name: edited(folder, tmp_path / name, as_text) for name, folder in models.items()}
    older = planned(old).tokenizer
    assert older is not None and older.data["model"] == union.data["model"]


def _json(folder: Path) -> Any:
    return json.loads((folder / "tokenizer.json").read_text("utf-8"))


def test_pieces_keep_their_scores(trained: dict[str, dict[str, Path]]) -> None:
    models = trained["Unigram"]
    union = planned(models).tokenizer
    assert union is not None
    english, greek = (_json(folder)["model"]["vocab"] for folder in models.values())
    vocab = union.data["model"]["vocab"]
    assert vocab[: len(english)] == english
    scores = dict(vocab)
    known = {piece for piece, _ in english} | {"<|both|>"}
    assert all(scores[piece] == score for piece, score in greek if piece not in known)
    assert scores["<|en|>"] == min(score for _, score in english)
    assert [piece for piece, _ in vocab] == list(union.ids)


def test_added_tokens_keep_their_behaviour(tmp_path: Path) -> None:
    def change(data: Any) -> None:
        for entry in data["added_tokens"]:
            entry |= {"lstrip": True, "special": False}

    models = {
        "a": words(tmp_path / "a", ["[UNK]", "one"], added=["<s>"], added_tokens_decoder={}),
        "b": edited(words(tmp_path / "b0", ["[UNK]", "two"], added=["<t>", "<s>"]), tmp_path / "b", change),
    }
    out = written(planned(models), tmp_path / "out")
    decoder = json.loads((out / "tokenizer_config.json").read_text("utf-8"))["added_tokens_decoder"]
    plain = {"single_word": False, "rstrip": False, "normalized": False}
    assert decoder == {
        "2": {"content": "<s>", "lstrip": False, "special": True, **plain},
        "4": {"content": "<t>", "lstrip": True, "special": False, **plain},
    }
    assert [entry["id"] for entry in _json(out)["added_tokens"]] == [2, 4]
    assert backend(out).encode("one  <t> two<s>").ids == [1, 4, 3, 2]


def test_gaps_stay_gaps(tmp_path: Path) -> None:
    folder = edited(words(tmp_path / "a0", ["[UNK]", "b", "c"], added=["<x>"]), tmp_path / "a", _gap)
    vocabulary = planned({"a": folder, "b": words(tmp_path / "b", ["[UNK]", "new"], added=["<y>"])})
    assert vocabulary.tokenizer is not None and vocabulary.rows is not None
    assert vocabulary.tokenizer.ids == {"[UNK]": 0, "b": 1, "c": 2, "<x>": 4, "far": 40, "new": 41, "<y>": 42}
    assert vocabulary.rows.count == 43 and vocabulary.rows.is_token.sum() == 7


def test_kinds_that_can_not_be_united(trained: dict[str, dict[str, Path]]) -> None:
    models = {
        "bpe": trained["BPE"]["english"],
        "piece": trained["Unigram"]["greek"],
        "word": trained["WordPiece"]["greek"],
    }
    with pytest.raises(FindingsError) as caught:
        planned(models)
    assert [finding.where for finding in caught.value.findings] == ["piece", "word"]
    assert "Unigram tokenizer, that of bpe BPE" in str(caught.value) and "tokenizer_source: base" in str(caught.value)
    assert planned(models, tokenizer_source="base").rows is not None


def test_another_way_to_split_is_told(trained: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    def change(data: Any) -> None:
        data["normalizer"] = {"type": "Lowercase"}
        data["model"]["continuing_subword_prefix"] = "@@"

    other = edited(trained["WordPiece"]["greek"], tmp_path / "other", change)
    (finding,) = planned({"a": trained["WordPiece"]["english"], "b": other}).findings
    assert finding.severity == "warning" and finding.where == "b"
    assert "normalizer, continuing_subword_prefix" in finding.message


def test_a_vocab_txt_is_read_through_transformers(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "slow"
    folder.mkdir()
    tokens = list(backend(tiny_bert).get_vocab())
    tokens.sort(key=backend(tiny_bert).get_vocab().get)  # type: ignore[arg-type]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", "utf-8")
    (folder / "config.json").write_bytes((tiny_bert / "config.json").read_bytes())
    slow, fast = read_tokenizer(folder), read_tokenizer(tiny_bert)
    assert slow is not None and fast is not None
    assert slow.ids == fast.ids and slow.kind == "WordPiece"
    out = written(planned({"slow": folder, "fast": tiny_bert}), tmp_path / "out")
    assert (out / "vocab.txt").read_bytes() == (folder / "vocab.txt").read_bytes()


def test_files_that_can_not_be_used_say_so_all_at_once(tmp_path: Path) -> None:
    models = {"good": words(tmp_path / "good", ["[UNK]", "one"])}
    cases: dict[str, tuple[Any, str]] = {
        "text": ("{", "not JSON"),
        "list": ([], "no model with a vocab"),
        "empty": ({"model": {"type": "WordLevel", "vocab": {}}}, "no tokens"),
        "pairs": ({"model": {"type": "Unigram", "vocab": [["a", 0.0], ["b"]]}}, "no model with a vocab"),
        "scores": ({"model": {"type": "Unigram", "vocab": [["a", "high"]]}}, "no model with a vocab"),
        "merges": ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": 5}}, "merges are not a list"),
        "ragged": ({"model": {"type": "WordLevel", "vocab": {"a": [1, 2], "b": 3}}}, "whole number"),
        "far": ({"model": {"type": "WordLevel", "vocab": {"a": 2**40}}}, "from 0 to 10,000,000"),
        "negative": ({"model": {"type": "WordLevel", "vocab": {"a": -1}}}, "from 0 to 10,000,000"),
        "float": ({"model": {"type": "WordLevel", "vocab": {"a": 1.5}}}, "whole number"),
        "added": ({"model": {"type": "WordLevel", "vocab": {"a": 0}}, "added_tokens": [3]}, "added_tokens"),
    }
    for name, (content, _) in cases.items():
        (tmp_path / name).mkdir()
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name / "tokenizer.json").write_text(text, "utf-8")
        models[name] = tmp_path / name
    (tmp_path / "piece").mkdir()
    (tmp_path / "piece" / "tokenizer.model").write_bytes(b"\x00not a model")
    models["piece"] = tmp_path / "piece"
    with pytest.raises(FindingsError) as caught:
        planned(models)
    found = {finding.where: finding.message for finding in caught.value.findings}
    assert found.keys() == models.keys() - {"good"}
    for name, (_, says) in cases.items():
        assert says in found[name] and str(tmp_path / name) in found[name]
    assert "save_pretrained" in found["piece"]


@pytest.mark.parametrize("merge", [["a", "b", "c"], ["a", 3], [["a"], "b"], "a", 7])
def test_merges_that_are_no_pairs(merge: Any, trained: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    def change(data: Any) -> None:
        data["model"]["merges"][0] = merge

    with pytest.raises(FindingsError, match="not a pair of tokens"):
        planned({"a": trained["BPE"]["english"], "b": edited(trained["BPE"]["greek"], tmp_path / "b", change)})


def test_a_union_that_the_library_refuses(trained: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    def change(data: Any) -> None:
        data["model"]["merges"].append(["never", "there"])

    with pytest.raises(FindingsError, match="the tokenizers library refuses"):
        planned({"a": trained["BPE"]["english"], "b": edited(trained["BPE"]["greek"], tmp_path / "b", change)})


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = words(tmp_path / "a", ["[UNK]", "one"])
    (folder / "tokenizer.json").rename(tmp_path / "outside.json")
    (folder / "tokenizer.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(CheckpointError, match="leaves the model's folder"):
        read_tokenizer(folder)
