"""Networks for tables (rtdl_revisiting_models; Gorishniy et al. 2021, 2106.11959), as many columns wide as was fitted.

Where the paper's ResNet has batch normalisation, this one normalises layers: the running statistics of a merged model
would be those of no model (Jordan et al. 2022, 2211.08403).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

from tunemerge.errors import UsageError
from tunemerge.tasks.made_network import NETS
from tunemerge.tasks.table_fit import shape_of

PACKAGE = "rtdl_revisiting_models"


def table_mlp(outputs: int, fitted: Any, blocks: int = 2, width: int = 64, dropout: float = 0.1) -> Any:
    """A multilayer perceptron for tables."""
    numbers, slots = _columns(fitted)
    sizes = {"d_in": numbers + sum(slots), "d_out": outputs, "n_blocks": blocks, "d_block": width}
    return _module()(_rtdl().MLP(dropout=dropout, **sizes), slots, tokens=False)


def table_resnet(outputs: int, fitted: Any, blocks: int = 2, width: int = 64, dropout: float = 0.1) -> Any:
    """A residual network for tables, its hidden layers twice as wide as its blocks."""
    from torch import nn

    numbers, slots = _columns(fitted)
    sizes = {"d_in": numbers + sum(slots), "d_out": outputs, "n_blocks": blocks, "d_block": width}
    net = _rtdl().ResNet(d_hidden_multiplier=2.0, dropout1=dropout, dropout2=0.0, **sizes)
    for part in (*net.blocks, net.output):
        part.normalization = nn.LayerNorm(width)
    return _module()(net, slots, tokens=False)


def ft_transformer(
    outputs: int, fitted: Any, blocks: int = 2, width: int = 32, heads: int = 4, dropout: float = 0.1
) -> Any:
    """A transformer over the columns of a table, a token each."""
    if width % heads:
        raise ValueError(f"width {width} is no multiple of heads {heads}")
    numbers, slots = _columns(fitted)
    net = _rtdl().FTTransformer(
        n_cont_features=numbers,
        cat_cardinalities=slots,
        d_out=outputs,
        n_blocks=blocks,
        d_block=width,
        attention_n_heads=heads,
        attention_dropout=dropout,
        ffn_d_hidden_multiplier=4 / 3,
        ffn_dropout=dropout,
        residual_dropout=0.0,
    )
    return _module()(net, slots, tokens=True)


def _columns(fitted: Any) -> tuple[int, list[int]]:
    """How many numbers are read, and the slots of every category."""
    if not isinstance(fitted, Mapping) or "columns" not in fitted:
        raise UsageError("a network for tables, for tasks of the kinds table-classification and table-regression")
    return shape_of(fitted["columns"])


def _rtdl() -> Any:
    if find_spec(PACKAGE) is None:
        raise UsageError(f"needs the package {PACKAGE!r}, which is not installed: pip install 'tunemerge[tables]'")
    import rtdl_revisiting_models

    return rtdl_revisiting_models


@cache
def _module() -> Any:
    """The class around all three; made when it is first needed, for torch takes seconds to import."""
    import torch
    from torch import nn

    class TableNetwork(nn.Module):
        """`numbers` (batch, k) float32 and `categories` (batch, m) int64 to (batch, outputs). Slot 0 of a category, of
        values that training has not seen, starts at 0."""

        def __init__(self, network: Any, slots: Sequence[int], tokens: bool) -> None:
            super().__init__()
            self.slots, self.tokens = list(slots), tokens
            inner = network.backbone if tokens else network
            self.head, inner.output = inner.output, None
            self.body = network
            self._silence_unknown()

        def _silence_unknown(self) -> None:
            with torch.no_grad():
                if self.tokens:
                    for table in self.body.cat_embeddings.embeddings if self.slots else ():
                        table.weight[0] = 0
                    return
                first = getattr(self.body, "input_projection", None)
                first = self.body.blocks[0].linear if first is None else first
                at = first.in_features - sum(self.slots)
                for count in self.slots:
                    first.weight[:, at] = 0
                    at += count

        def forward(self, numbers: Any, categories: Any) -> Any:
            # bfloat16 has three digits, too few for measurements; these networks are small enough without it.
            with torch.autocast(numbers.device.type, enabled=False):
                if self.tokens:
                    some = numbers if numbers.shape[1] else None
                    return self.head(self.body(some, categories if self.slots else None))
                pairs = enumerate(self.slots)
                hot = [nn.functional.one_hot(categories[:, i], count).to(numbers.dtype) for i, count in pairs]
                return self.head(self.body(torch.cat([numbers, *hot], dim=1)))

    return TableNetwork


for _make in (table_mlp, table_resnet, ft_transformer):
    NETS.add(_make.__name__, _make)
