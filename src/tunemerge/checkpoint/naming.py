"""What tensors' names tell: which are embeddings, which heads, in which layers they stand. The one place that decides.

Names are those that libraries use (transformers, timm, torchvision, the authors of Llama); where a name alone can't
tell, callers look at shapes too.
"""

from __future__ import annotations

import re

from tunemerge.checkpoint.dtypes import INTEGERS

_END = r"(\.|\Z)"
_WORD_HEAD = re.compile(
    rf"(^|\.)(lm_head|embed_out|output_embed\w*|unembed\w*|generator_lm_head|vocab_projector){_END}", re.IGNORECASE
)
_MAYBE_WORD_HEAD = re.compile(
    r"((^|[./])(output|decoder|head|logits)\.(weight|bias)|predictions\.bias|final_logits_bias)\Z"
)
_WORD_TABLE = re.compile(
    r"(^|[./])(embed_tokens|word_embeddings?|wte|tok_embeddings|token_embeddings?|tokens_embed|embed_in|shared"
    r"|embeddings?|embed|emb)\.weight\Z"
)
_NO_WORDS = re.compile(r"position|token_type|segment|relative|patch|wpe|time|class_emb", re.IGNORECASE)
_POSITION_TABLE = re.compile(
    r"pos(ition)?(al)?_?(emb|enc)|embed_positions|rel_embeddings|(^|\.)wpe(\.|\Z)", re.IGNORECASE
)
_RELATIVE_BIAS = re.compile(r"relative\w*bias", re.IGNORECASE)
_TABLE = re.compile(rf"embed|relative|(^|[._])w[tp]e\b|(^|\.)(shared|emb){_END}|(^|[._])tokens?{_END}", re.IGNORECASE)
_TABLE_MODULE = re.compile(
    r"(embed(ding)?s?|emb|embed_in|embed_tokens|embed_positions|wte|wpe|shared|attention_bias)\Z"
)
_FIRST = re.compile(
    rf"(^|\.)(stem|project_in|conv1|bn1|pos_embed\w*|positional_\w+){_END}|patch_conv|ln_pre|layernorm_pre|rotary",
    re.IGNORECASE,
)
_LAST = re.compile(rf"(^|\.)head{_END}", re.IGNORECASE)
_BUFFER = re.compile(r"(^|\.)(position_ids|token_type_ids|inv_freq|masked_bias|num_batches_tracked)\Z")
_TASK_HEADS = (
    "classifier.",
    "score.",
    "pre_classifier.",
    "classification_head.",
    "cls.",
    "lm_head.",
    "qa_outputs.",
    "vocab_transform.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "pooler.",
)


def numbers(name: str) -> list[tuple[str, int, str]]:
    """Every (prefix, number, rest) of a name with a number between dots, from the left: "a.3.b" has ("a", 3, "b")."""
    parts = name.split(".")
    return [
        (".".join(parts[:i]), int(part), ".".join(parts[i + 1 :]))
        for i, part in enumerate(parts[:-1])
        if is_number(part)
    ]


def is_number(part: str) -> bool:
    """Whether a part of a name is the number of a layer."""
    return part.isascii() and part.isdigit() and len(part) < 6


def is_table(name: str) -> bool:
    """Something that is looked up (embeddings of words, positions, kinds; single tokens; relative positions), or stands
    with such things before the layers: no linear layer in between, and no head."""
    return _TABLE.search(name) is not None and not is_word_head(name)


def is_table_module(module: str) -> bool:
    """Whether a module by its own name is an embedding, which its neighbours (a norm of the embeddings) are not."""
    return _TABLE_MODULE.search(module) is not None


def is_position_table(name: str) -> bool:
    """A row for each position."""
    return _POSITION_TABLE.search(name) is not None


def is_relative_bias(name: str) -> bool:
    """What attention adds for the distance of two positions."""
    return _RELATIVE_BIAS.search(name) is not None


def is_word_table(name: str) -> bool:
    """Input embeddings: a row for each token of the vocabulary."""
    return _WORD_TABLE.search(name) is not None and not _NO_WORDS.search(name)


def is_word_head(name: str) -> bool:
    """An output head: a row, or an element of a bias, for each token of the vocabulary."""
    return _WORD_HEAD.search(name) is not None


def may_be_word_head(name: str) -> bool:
    """As `is_word_head`, or a name that other parts have too: the number of rows must tell."""
    return is_word_head(name) or _MAYBE_WORD_HEAD.search(name) is not None


def has_no_words(name: str) -> bool:
    """A table of positions, segments, patches or times, whatever the number of its rows."""
    return _NO_WORDS.search(name) is not None


def is_task_head(name: str) -> bool:
    """On top of the encoder: transformers makes it afresh, or leaves it, by the class that loads. So is a pooler, also
    under the encoder's prefix."""
    return name.startswith(_TASK_HEADS) or name.partition(".")[2].startswith("pooler.")


def is_buffer(name: str, dtype: str) -> bool:
    """What a class computes afresh where it is not stored, and only some versions store. Integers count: no weights."""
    return dtype in INTEGERS or _BUFFER.search(name) is not None


def is_counter(name: str) -> bool:
    """How many batches a norm has seen: other in every model, and read by none that was trained."""
    return name.rpartition(".")[2] == "num_batches_tracked"


def before_layers(name: str) -> bool:
    """Whether a tensor outside of all layers works before the first of them (an embedding) or after the last."""
    return (is_table(name) or _FIRST.search(name) is not None) and not is_word_head(name) and not _LAST.search(name)
