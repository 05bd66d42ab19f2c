"""What kinds share whose model is a causal language model: loading, saving, and how likely it finds tokens.

The output layer is no head of a task's own: it belongs to the body, is tuned with it and merges with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunemerge.errors import UsageError
from tunemerge.registry import listed
from tunemerge.tasks import hub
from tunemerge.tasks.batching import Encoded
from tunemerge.tasks.labels import is_causal
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import Loaded, TaskKind
from tunemerge.tasks.text_model import load_model, save_model

_AUTO = "AutoModelForCausalLM"


class CausalKind(TaskKind):
    """Predictions are minus the log likelihood of what is supervised of a row (nats), its tokens, its bytes."""

    adapter_task = "CAUSAL_LM"

    def refuses(self, config: Mapping[str, Any], spec: Spec | None = None) -> str | None:
        if is_causal(config):
            return None
        found = listed(config.get("architectures") or ["nothing"])
        return f"{self.name} needs a causal language model (...ForCausalLM), and config.json says {found}"

    def own_labels(self, config: Mapping[str, Any]) -> tuple[str, ...] | None:
        return () if is_causal(config) else None

    def initialise(
        self, folder: Path, out: Path, spec: Spec, seed: int, dropout: float | None = None, fitted: Any = None
    ) -> None:
        """The model as it is, in float32: there is nothing to draw."""
        self.save(self.load(folder, spec, dropout), out)

    def load(self, folder: Path, spec: Spec, dropout: float | None = None) -> Loaded:
        config = hub.read_config(folder)
        why = self.refuses(config.to_dict())
        if why:
            raise UsageError(f"{folder}: {why}")
        hub.set_dropout(config, dropout, folder)
        with hub.quiet():
            net = load_model(folder, config, complete=True, auto=_AUTO)
        return Loaded(net.eval(), spec, folder)

    def save(self, model: Loaded, out: Path) -> None:
        save_model(model.net, model.folder, out, model.fitted)

    def forward(self, model: Loaded, inputs: Mapping[str, Any]) -> Any:
        """Logits (batch, L, vocabulary). Rows are padded on the right, where no token before can see it."""
        mask = inputs["attention_mask"]
        extra = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if _takes_positions(type(model.net)) else {}
        return model.net(input_ids=inputs["input_ids"], attention_mask=mask, use_cache=False, **extra).logits

    def loss(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any], target: Any, smoothing: float) -> Any:
        """Nats of a row over the mean tokens of rows: so every token counts the same, in whatever row it stands."""
        return token_losses(outputs, inputs, smoothing).sum(1) / inputs["mean_tokens"].float()

    def predictions(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        import torch

        nats = token_losses(outputs, inputs, 0.0).sum(1).double()
        tokens = inputs["supervised"][:, 1:].sum(1).double()
        return torch.stack([nats, tokens, inputs["bytes"].double()], dim=1)

    def ensemble(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """Of every row the mean of its probabilities: a mixture of the models, drawn once a row. Tokens are those of
        the first model; of what else is known of rows the mean."""
        found = np.stack(outputs)
        likely = -found[:, :, 0]
        best = likely.max(axis=0)
        mean = best + np.log(np.exp(likely - best).mean(axis=0))
        return np.concatenate([-mean[:, None], found[0][:, 1:3], found[:, :, 3:].mean(axis=0)], axis=1)

    def body(self, model: Loaded) -> Any:
        """The whole network."""
        return model.net


def token_losses(logits: Any, inputs: Mapping[str, Any], smoothing: float) -> Any:
    """Nats of every token after the first (batch, L - 1), float32; zero where a token is not supervised.

    Only supervised positions are turned into float32: of a large vocabulary that is most of the memory.
    """
    import torch
    from torch.nn.functional import cross_entropy

    wanted = inputs["supervised"][:, 1:].bool()
    found = cross_entropy(
        logits[:, :-1][wanted].float(), inputs["input_ids"][:, 1:][wanted], reduction="none", label_smoothing=smoothing
    )
    losses = torch.zeros(wanted.shape, dtype=torch.float32, device=logits.device)
    return losses.masked_scatter(wanted, found)


def encoded_rows(
    tokens: Sequence[Sequence[int]], supervised: Sequence[Sequence[int]], size: np.ndarray, pad: int, limit: int
) -> Encoded:
    """Model inputs of rows of tokens, padded on the right. `supervised` is 1 for tokens that are predicted, `size` the
    bytes that these stand for. UsageError for a row of which nothing is predicted."""
    counts = np.array([sum(flags[1:]) for flags in supervised], np.float64)
    if (counts == 0).any():
        row = int(np.flatnonzero(counts == 0)[0])
        raise UsageError(
            f"row {row}: none of its {len(tokens[row])} tokens is supervised, so nothing can be learned from it: "
            f"raise tuning.max_length ({limit} tokens are read), or leave such rows out"
        )
    masks = [[1] * len(ids) for ids in tokens]
    columns = {"input_ids": tokens, "attention_mask": masks, "supervised": supervised}
    padding = {"input_ids": pad, "attention_mask": 0, "supervised": 0}
    per_row = {"bytes": size, "mean_tokens": np.full(len(tokens), counts.mean())}
    return Encoded(columns, padding, False, limit, per_row)


def start_token(tokenizer: Any) -> list[int]:
    """What stands before the first token, so that it is predicted too: the token for a beginning, else that for an end,
    which separates documents where models were pretrained without the former. Nothing where there is neither."""
    found = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return [] if found is None else [found]


def _takes_positions(net: type) -> bool:
    return "position_ids" in inspect.signature(net.forward).parameters  # type: ignore[attr-defined]
