"""config.json follows the layers: how many there are, and every list that has an entry a layer.

No list of architectures: what counts layers is a number under a fitting key that equals how many the model had; what
has an entry a layer is a list (or a pattern of letters) of that length beside it; what names layers is a list of
numbers under a key that says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_COUNT = re.compile(r"(^|_)(layers?|depth|blocks?)\Z")
_NOT_COUNT = re.compile(r"nextn|mtp|per_|interval|shared|dense|frozen")
_INDICES = re.compile(r"(layers|layers_idx|idxs?|indices|indexes|layer_ids?)\Z")
_NOT_A_LAYER_EACH = re.compile(r"token|architectures|section|factor|kernel|stride|dilation|image_|pooling|languages")
_SIDES = ("vis", "audio", "encoder", "decoder")
"""Words that tell sub-models apart: `vision_config.depth` counts no layers of `model.layers`."""

Keys = tuple[str, ...]
Origins = Sequence[tuple[Mapping[str, Any], int]]
"""For every layer of the output: the config of the model that it comes from, and its number there."""


def follow_layers(
    config: Mapping[str, Any], stack: str, old: int, origins: Origins
) -> tuple[dict[str, Any], list[str]]:
    """(a copy of `config` for the layers `origins` of the stack with this prefix, the keys that changed).

    `old` is how many layers the model of `config` has. No keys: nothing in it counts these layers.
    """
    counts = _ours([keys for keys, value in _walk(config) if value == old and _is_count(keys)], stack)
    if not counts:
        lists = [keys for keys, value in _walk(config) if _one_each(keys, value, old) and "layer" in keys[-1]]
        counts = _ours(lists, stack)
    homes = list(dict.fromkeys(keys[:-1] for keys in counts))
    changed: list[str] = []
    out = _copy(config)
    for home in homes:
        for key, value in _at(config, home).items():
            keys = (*home, key)
            new = value
            if keys in counts and type(value) is int:
                new = len(origins)
            elif _is_indices(key, value, old):
                new = [i for i, origin in enumerate(origins) if _listed(origin, keys, value)]
            elif _one_each(keys, value, old):
                picked = [_entry(origin, keys, value) for origin in origins]
                new = "".join(picked) if isinstance(value, str) else picked
            if new != value:
                _at(out, home)[key] = new
                changed.append(".".join(keys))
    return out, changed or [".".join(keys) for keys in counts]


def _is_count(keys: Keys) -> bool:
    return _COUNT.search(keys[-1]) is not None and _NOT_COUNT.search(keys[-1]) is None


def _one_each(keys: Keys, value: Any, old: int) -> bool:
    if isinstance(value, str):
        return "pattern" in keys[-1] and len(value) == old
    return isinstance(value, list) and len(value) == old and _NOT_A_LAYER_EACH.search(keys[-1]) is None


def _is_indices(key: str, value: Any, old: int) -> bool:
    """A list of layers' numbers; one of as many numbers as layers is that only where it names each layer once."""
    if not isinstance(value, list) or not value or not _INDICES.search(key):
        return False
    numbers = all(type(n) is int and 0 <= n < old for n in value) and len(set(value)) == len(value)
    return numbers and (len(value) != old or old > 2)


def _listed(origin: tuple[Mapping[str, Any], int], keys: Keys, value: list[int]) -> bool:
    config, layer = origin
    theirs = _get(config, keys)
    return layer in (theirs if isinstance(theirs, list) else value)


def _entry(origin: tuple[Mapping[str, Any], int], keys: Keys, value: Sequence[Any]) -> Any:
    """The entry of one layer in its own model's list, or in that of the model that gives the config."""
    config, layer = origin
    theirs = _get(config, keys)
    same = isinstance(theirs, type(value)) and layer < len(theirs)
    return theirs[layer] if same else value[min(layer, len(value) - 1)]


def _ours(found: list[Keys], stack: str) -> list[Keys]:
    """Those that belong to the stack: what speaks of another side is dropped, what speaks of its own is preferred."""
    sides = [[side for side in _SIDES if side in ".".join(keys)] for keys in found]
    fitting = [(keys, own) for keys, own in zip(found, sides, strict=True) if all(side in stack for side in own)]
    named = [keys for keys, own in fitting if own]
    return named or [keys for keys, _ in fitting]


def _walk(config: Mapping[str, Any], above: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    for key, value in config.items():
        yield (*above, str(key)), value
        if isinstance(value, Mapping):
            yield from _walk(value, (*above, str(key)))


def _get(config: Mapping[str, Any], keys: Keys) -> Any:
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _at(config: Any, keys: Keys) -> Any:
    for key in keys:
        config = config[key]
    return config


def _copy(value: Any) -> Any:
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, Mapping) else value
