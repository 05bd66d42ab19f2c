"""How deep each parameter of a network stands, from its name: embeddings, numbered layers, what comes after them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tunemerge.checkpoint.naming import before_layers, numbers


def depths(names: Iterable[str], head: Collection[str] = ()) -> dict[str, int]:
    """For every name 0 (before the layers), 1 to L (the layers from below), or L + 1 (after them, and all of `head`).

    `names` are in the network's own order. A layer is what the first number of a name counts; where several things
    are counted (stages, an encoder and a decoder), one comes after the other.
    """
    names = list(names)
    layers = {name: numbers(name)[0][:2] for name in names if name not in head and numbers(name)}
    stacks = list(dict.fromkeys(prefix for prefix, _ in layers.values()))
    ordered = sorted(set(layers.values()), key=lambda layer: (stacks.index(layer[0]), layer[1]))
    depth = {layer: i + 1 for i, layer in enumerate(ordered)}
    top = len(ordered) + 1

    def of(name: str) -> int:
        if name in layers:
            return depth[layers[name]]
        return 0 if before_layers(name) and name not in head else top

    return {name: of(name) for name in names}
