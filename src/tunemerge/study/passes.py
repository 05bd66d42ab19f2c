"""What a step will send through its model, known before it runs: batches padded as they will be, and their FLOPs.

The order of training examples and the batches of a forward pass follow from the rows' lengths alone, so with the
model's own tokenizer the shapes are exactly those that will be counted. What a shape costs is analytic here; the step
itself measures it with torch, which a plan does without.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tunemerge.checkpoint.model import open_checkpoint, read_json
from tunemerge.graph.step import Leaf, Step
from tunemerge.tasks.batching import MULTIPLE, by_length
from tunemerge.tasks.flops import Coefficients, flops
from tunemerge.tasks.forward import BATCH
from tunemerge.tasks.labels import is_causal
from tunemerge.tasks.meter import Shape
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TaskKind
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.order import training_order
from tunemerge.tune.schedule import evaluation_steps

# Where a model has no tokenizer.json: English words are about 1.3 tokens of 4.5 characters, a row has two special ones.
CHARACTERS_PER_TOKEN = 4.2

_LAYER = re.compile(r"\.\d+\.")
_EMBEDDING = re.compile(r"embed|wte|wpe|position|lm_head")
_ONCE_A_ROW = re.compile(r"pooler|classifier|score\.|classification_head")


@dataclass(frozen=True)
class Passes:
    """Passes of one step by (batch, padded length), those of training and the others apart."""

    train: Mapping[Shape, int] = field(default_factory=Counter)
    forward: Mapping[Shape, int] = field(default_factory=Counter)


@dataclass(frozen=True)
class Network:
    """What a pass costs: FLOPs of (a row, a token, a token times a token, a batch), forward; and the float32 bytes."""

    forward: Coefficients
    head: Coefficients
    bytes: int
    layers: int = 0

    def flops(self, passes: Passes, tuning: Mapping[str, Any] | None = None) -> tuple[float, float]:
        """(training, forward only), with the settings of a tuning. A backward pass is two forward ones; a linear probe
        goes back through the head, and an adapter through all with half of that: frozen weights need no gradients. Its
        own thin matrices are left out."""
        tuning = tuning or {}
        once = flops(passes.train, self.forward)
        back = flops(passes.train, self.head if tuning.get("method") == "head" else self.forward)
        again = once if tuning.get("gradient_checkpointing") else 0.0
        return once + again + self._share_back(tuning) * back, flops(passes.forward, self.forward)

    def _share_back(self, tuning: Mapping[str, Any]) -> float:
        """What a backward pass costs, in forward ones."""
        method = tuning.get("method", "full")
        if method == "last_layers" and self.layers:
            return 2.0 * int(tuning.get("layers", 1)) / self.layers
        return {"lora": 1.0, "dora": 1.0, "bitfit": 1.0, "attention": 1.3}.get(str(method), 2.0)


def network_of(folder: Path, kind: TaskKind, spec: Spec) -> Network:
    """What the kind counts for one of its rows, or what `network` reads."""
    own = kind.row_flops(folder, spec)
    if own is None:
        return network(folder)
    sizes = {name: prod(info.shape) for name, info in open_checkpoint(folder).tensors.items()}
    last = sum(size for name, size in sizes.items() if any(part in name for part in kind.head_names))
    return Network(_coefficients(own, 0, 0), _coefficients(2 * last, 0, 0), 4 * sum(sizes.values()))


def network(folder: Path) -> Network:
    """Read from the headers and config.json of a transformer.

    Counted are the matrices of its numbered layers, for every token, attention, and what sees one vector a row. Close
    for plain encoders and decoders; low for attention with relative positions, high for mixtures of experts.
    """
    checkpoint = open_checkpoint(folder)
    shapes = {name: info.shape for name, info in checkpoint.tensors.items()}
    config = checkpoint.config
    layers = int(_first(config, ("num_hidden_layers", "n_layers", "n_layer"), 0))
    hidden = int(_first(config, ("hidden_size", "dim", "n_embd"), 0))
    heads = int(_first(config, ("num_attention_heads", "n_heads", "n_head"), 1))
    width = heads * int(config.get("head_dim") or hidden // heads)
    matrices = {name: prod(shape) for name, shape in shapes.items() if len(shape) > 1 and not _EMBEDDING.search(name)}
    token = sum(size for name, size in matrices.items() if _LAYER.search(name))
    if is_causal(config):  # the output layer, tied or not, sees every token
        token += int(config.get("vocab_size") or 0) * hidden
    row = sum(size for name, size in matrices.items() if not _LAYER.search(name) and _ONCE_A_ROW.search(name))
    head = sum(size for name, size in matrices.items() if not _LAYER.search(name) and "classifi" in name)
    shared = layers // int(config["num_hidden_groups"]) if config.get("num_hidden_groups") else 1
    square = 4 * layers * width
    return Network(
        _coefficients(2 * row, 2 * token * shared, square),
        _coefficients(2 * head, 0, 0),
        4 * sum(map(prod, shapes.values())),
        layers,
    )


class Reader:
    """The lengths of rows as the model will see them, and the passes of steps. `tables` has the rows by leaf, `kind`
    says what of them is tokenized."""

    def __init__(self, folder: Path, tables: Mapping[str, pd.DataFrame], max_length: int, kind: TaskKind) -> None:
        self._tables, self._max, self._kind = tables, max_length, kind
        self._tokens, own = _tokenizer(folder)
        self._limit = min(max_length, own)
        self._lengths: dict[str, np.ndarray] = {}

    def passes(self, step: Step) -> Passes:
        """What a step will compute; nothing for one that runs no model."""
        if step.op == "tune":
            return self._tuning(step)
        if step.op == "predict":
            return Passes(forward=self._forward(step.inputs["rows"], len(step.inputs["models"])))
        if step.op == "search":
            times = len(step.params["candidates"])
            return Passes(forward=sum((self._forward([v], times) for v in step.inputs["validation"]), Counter()))
        return Passes()

    def _tuning(self, step: Step) -> Passes:
        config = TuneConfig.model_validate(step.params["tuning"])
        lengths = self._all(step.inputs["train"])
        examples, batch = int(step.params["examples"]), config.batch_size
        order = training_order(lengths, examples, batch, step.params["seed"], config.length_grouping)
        size = config.planned_pass
        train = Counter(self._shape(lengths[order[i : i + size]]) for i in range(0, len(order), size))
        if config.sam:
            train += train
        checks = len(evaluation_steps(-(-examples // batch), config.evaluations))
        taught = self._forward(step.inputs["train"], len(step.inputs.get("teachers", ())))
        held_out = self._forward(step.inputs.get("validation", ()), checks)
        trials = int(step.params.get("search", {}).get("trials", 1))  # none of them pruned
        return Passes(_times(train, trials), _times(held_out + taught, trials))

    def _forward(self, leaves: Sequence[Any], times: int) -> Counter[Shape]:
        lengths = self._all(leaves)
        once = Counter(self._shape(lengths[rows]) for rows in by_length(lengths, BATCH))
        return _times(once, times)

    def _shape(self, lengths: np.ndarray) -> Shape:
        longest = int(lengths.max())
        if longest == 1:  # rows of one size, which nothing pads
            return len(lengths), 1
        return len(lengths), min(-(-longest // MULTIPLE) * MULTIPLE, max(self._limit, longest))

    def _all(self, leaves: Sequence[Any]) -> np.ndarray:
        parts = [self._of(leaf) for leaf in leaves if isinstance(leaf, Leaf)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _of(self, leaf: Leaf) -> np.ndarray:
        if leaf.key not in self._lengths:
            table = self._tables[leaf.key]
            texts = self._kind.texts(table)
            found = [1] * len(table) if texts is None else self._tokens(texts)
            self._lengths[leaf.key] = np.minimum(np.array(found, np.int64), self._limit)
        return self._lengths[leaf.key]


def _times(shapes: Mapping[Shape, int], times: int) -> Counter[Shape]:
    return Counter({shape: times * count for shape, count in shapes.items()})


def _tokenizer(folder: Path) -> tuple[Callable[[list[str]], list[int]], int]:
    """A function from texts to their numbers of tokens, each text read once, and the longest row the model takes."""
    limit = 10**9
    for file, key in (("tokenizer_config.json", "model_max_length"), ("config.json", "max_position_embeddings")):
        if (folder / file).is_file():
            value = read_json(folder / file).get(key)
            limit = min(limit, int(value)) if value else limit
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
    except Exception:  # all that it raises: no such file, or one of another version; an estimate need not be exact
        return lambda texts: [round(len(t) / CHARACTERS_PER_TOKEN) + 2 for t in texts], limit
    known: dict[str, int] = {}

    def count(texts: list[str]) -> list[int]:
        new = list(dict.fromkeys(t for t in texts if t not in known))
        known.update(zip(new, (len(e.ids) for e in tokenizer.encode_batch(new)), strict=True))
        return [known[t] for t in texts]

    return count, limit


def _coefficients(row: float, token: float, square: float) -> Coefficients:
    return Fraction(row), Fraction(token), Fraction(square), Fraction(0)


def _first(config: Mapping[str, Any], keys: Sequence[str], otherwise: int) -> Any:
    return next((config[k] for k in keys if config.get(k)), otherwise)
