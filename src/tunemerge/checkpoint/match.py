"""Do checkpoints hold the same tensors in the same shapes? From headers alone."""

from __future__ import annotations

from collections.abc import Mapping

from tunemerge.checkpoint.dtypes import INTEGERS
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.naming import is_word_table, may_be_word_head
from tunemerge.findings import Finding, error, note
from tunemerge.registry import listed

_SHOWN = 3


def tensor_differences(models: Mapping[str, Mapping[str, TensorInfo]]) -> list[Finding]:
    """Compare every model with the first one: names that only one of both has, and shapes that differ.

    Integer tensors that one of both lacks are a note: they are buffers, not parameters.
    """
    (first, expected), *others = models.items()
    findings = []
    for model, tensors in others:
        findings += _names(first, expected, model, tensors)
        findings += _shapes(first, expected, model, tensors)
    return findings


def common_prefix(ours: set[str], theirs: set[str]) -> str | None:
    """The prefix ("bert.") under which most of `theirs` are found among `ours`, where there is one."""
    for name in sorted(theirs)[:1]:
        for other in sorted(ours):
            if other.endswith("." + name):
                prefix = other.removesuffix(name)
                if sum(prefix + n in ours for n in theirs) > len(theirs) / 2:
                    return prefix
    return None


def _names(
    first: str, expected: Mapping[str, TensorInfo], model: str, tensors: Mapping[str, TensorInfo]
) -> list[Finding]:
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    findings = []
    buffers = [name for name in [*missing, *extra] if (expected.get(name) or tensors[name]).dtype in INTEGERS]
    if buffers:  # counted, never learnt: an older transformers saved position ids that a newer one makes itself
        text = f"integer tensors that only it or {first} has: {listed(buffers, _SHOWN)}; nothing depends on them"
        findings = [note("tensor-buffers", text, model)]
        missing, extra = ([name for name in names if name not in buffers] for names in (missing, extra))
    if not missing and not extra:
        return findings
    parts = []
    if missing:
        parts.append(f"lacks {len(missing)} of the {len(expected)} tensors of {first} ({listed(missing, _SHOWN)})")
    if extra:
        parts.append(f"has {len(extra)} that {first} lacks ({listed(extra, _SHOWN)})")
    prefix = common_prefix(set(expected), set(tensors)) or common_prefix(set(tensors), set(expected))
    remedy = "merge models of one architecture, saved with the same class"
    if prefix:
        remedy = f"the names differ by the prefix {prefix!r}: load both with the same Auto class and save them again"
    return [*findings, error("tensor-names", " and ".join(parts), model, remedy)]


def _shapes(
    first: str, expected: Mapping[str, TensorInfo], model: str, tensors: Mapping[str, TensorInfo]
) -> list[Finding]:
    differ = [n for n in sorted(expected.keys() & tensors.keys()) if expected[n].shape != tensors[n].shape]
    if not differ:
        return []
    shown = [f"{n} {list(tensors[n].shape)} instead of {list(expected[n].shape)}" for n in differ]
    same_tail = all(expected[n].shape[1:] == tensors[n].shape[1:] for n in differ)
    remedy = "merge models of one architecture and size"
    if same_tail and all(is_word_table(n) or may_be_word_head(n) for n in differ):
        remedy = "the vocabularies differ: give all models the same tokenizer (resize_token_embeddings) first"
    text = f"{len(differ)} tensors have other shapes than in {first}: {listed(shown, _SHOWN)}"
    return [error("tensor-shapes", text, model, remedy)]
