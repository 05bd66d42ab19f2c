"""Do the models read the same tokens? Row i of every embedding must mean the same token, or a merge is noise."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.model import inside, read_json
from tunemerge.errors import CheckpointError
from tunemerge.findings import Finding, error, note, warning

_PIECE_FILES = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model")
_FEW = 0.01
"""Added tokens up to this share of the vocabulary are a warning, as long as no token has another number."""
_SPLITTING = ("normalizer", "pre_tokenizer", "model.type")


def tokenizer_findings(folders: Mapping[str, Path]) -> list[Finding]:
    """Compare every tokenizer with the first one found: an error where a token has another number."""
    findings: list[Finding] = []
    read: dict[str, _Tokenizer] = {}
    for name, folder in folders.items():
        try:
            tokenizer = _read(folder)
        except CheckpointError as problem:
            findings.append(error("tokenizer-unreadable", str(problem), name))
            continue
        if tokenizer is None:
            findings.append(note("tokenizer-missing", f"{folder}: no tokenizer files", name))
        else:
            read[name] = tokenizer
    if len(read) < 2:
        return findings
    (first, expected), *others = read.items()
    for name, tokenizer in others:
        findings += _compare(first, expected, name, tokenizer)
    return findings


class _Tokenizer:
    """A vocabulary (token to number), or where only a binary file is there its digest; and how text is split."""

    def __init__(self, vocab: dict[str, int] | None, digest: str, splitting: dict[str, Any]) -> None:
        self.vocab, self.digest, self.splitting = vocab, digest, splitting


def _read(folder: Path) -> _Tokenizer | None:
    if (folder / "tokenizer.json").is_file():
        data = read_json(inside(folder, "tokenizer.json"))
        model = data.get("model")
        vocab = _vocab(model.get("vocab") if isinstance(model, dict) else None)
        for token in data.get("added_tokens") or []:
            if isinstance(token, dict) and isinstance(token.get("content"), str):
                vocab[token["content"]] = token.get("id", -1)
        kind = model.get("type") if isinstance(model, dict) else None
        return _Tokenizer(vocab, "", {**{key: data.get(key) for key in _SPLITTING}, "model.type": kind})
    if (folder / "vocab.txt").is_file():
        lines = inside(folder, "vocab.txt").read_text("utf-8", "replace").splitlines()
        return _Tokenizer({token: i for i, token in enumerate(lines)}, "", {})
    if (folder / "vocab.json").is_file():
        return _Tokenizer(_vocab(read_json(inside(folder, "vocab.json"))), "", {})
    for file in _PIECE_FILES:
        if (folder / file).is_file():
            return _Tokenizer(None, hashlib.sha256(inside(folder, file).read_bytes()).hexdigest(), {})
    return None


def _vocab(value: Any) -> dict[str, int]:
    """A mapping, or a unigram model's list of [piece, score] in order."""
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, list):
        return {str(entry[0]): i for i, entry in enumerate(value) if isinstance(entry, list) and entry}
    return {}


def _compare(first: str, expected: _Tokenizer, name: str, found: _Tokenizer) -> list[Finding]:
    if expected.vocab is None or found.vocab is None:
        if expected.vocab is None and found.vocab is None and expected.digest != found.digest:
            return [_different(f"its tokenizer file differs from that of {first}", name)]
        return []
    ours, theirs = expected.vocab, found.vocab
    extra = sorted(theirs.keys() - ours.keys(), key=lambda t: theirs[t])
    missing = sorted(ours.keys() - theirs.keys(), key=lambda t: ours[t])
    moved = sorted((t for t in ours.keys() & theirs.keys() if ours[t] != theirs[t]), key=lambda t: ours[t])
    parts = [
        f"{len(tokens):,} {what} ({', '.join(repr(t) for t in tokens[:3])}{', ...' if len(tokens) > 3 else ''})"
        for tokens, what in (
            (extra, f"tokens that {first} lacks"),
            (missing, f"tokens of {first} missing"),
            (moved, "tokens with other numbers"),
        )
        if tokens
    ]
    if parts:
        text = f"its tokenizer differs from that of {first}: " + "; ".join(parts)
        if not moved and len(extra) + len(missing) <= _FEW * len(ours):
            return [warning("tokenizers-differ", text, name, "the rows of these tokens are merged with unrelated ones")]
        return [_different(text, name)]
    other = [
        k for k in _SPLITTING if found.splitting and expected.splitting and found.splitting[k] != expected.splitting[k]
    ]
    if other:
        text = f"has the tokens of {first}, but splits text differently ({', '.join(other)})"
        return [warning("tokenizer-splitting", text, name, "use one tokenizer for tuning all of them")]
    return []


def _different(text: str, name: str) -> Finding:
    return error("tokenizers-differ", text, name, "merge models that share one tokenizer, or tune them again with it")
