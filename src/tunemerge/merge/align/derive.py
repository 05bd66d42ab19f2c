"""The permutation groups of a model, from its tensors' names and shapes and its config.json. No list of architectures.

Only symmetries that hold exactly are derived. What is not understood is left alone, and said; where nothing is
understood, a person can give the groups in a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunemerge.findings import Finding, FindingsError, error, note, warning
from tunemerge.merge.align.attention import attention_sites
from tunemerge.merge.align.config import positions
from tunemerge.merge.align.feedforward import feedforward_sites
from tunemerge.merge.align.groups import Group
from tunemerge.merge.align.layers import NotUnderstoodError
from tunemerge.merge.align.names import Tensors, linears
from tunemerge.merge.align.networks import network_groups
from tunemerge.merge.align.residual import residual_group

REMEDY = """give the groups in a file, `align: {method: weight_matching, groups: groups.yaml}`:
        hidden:                                  # one group: axes that are permuted together
          - {tensor: fc1.weight, axis: 0}
          - {tensor: fc1.bias, axis: 0}
          - {tensor: fc2.weight, axis: 1}        # block: 64 where a unit is 64 neighbours (heads, flattened images)"""


@dataclass(frozen=True)
class Derived:
    """Groups, and what a person should know about them."""

    groups: tuple[Group, ...]
    findings: tuple[Finding, ...]


def derive_groups(tensors: Tensors, config: Mapping[str, Any], label: str) -> Derived:
    """All groups that can be derived. FindingsError, which says how to give a file, where there are none."""
    layers = linears(tensors)
    attention = attention_sites(tensors, layers, config)
    sites = [*attention, *feedforward_sites(tensors, layers, attention)]
    if not sites:
        return _network(tensors, label)
    groups = [site.group for site in sites]
    findings = []
    known = {layer for site in sites for layer in site.names}
    left = [x.path for x in layers.values() if x.scope and x.weight not in known and min(x.n_in, x.n_out) > 1]
    if left:
        text = f"{len(left)} layers within blocks belong to no group (first {left[0]!r}) and keep their order"
        findings.append(note("align-left-out", text, label))
    residual = residual_group(sites, tensors, config, positions(config, list(tensors)), bool(attention))
    if isinstance(residual, str):
        text = f"the hidden dimensions keep their order: {residual}"
        findings.append(note("align-no-residual", text, label))
    else:
        groups.append(residual)
    return Derived(tuple(g for g in groups if g.units > 1 or g.inside), tuple(findings))


def _network(tensors: Tensors, label: str) -> Derived:
    try:
        network = network_groups(tensors)
        problem = "; ".join(network.notes) or "no layer has hidden units"
    except NotUnderstoodError as why:
        network, problem = None, str(why)
    if network is None or not network.groups:
        text = f"no permutation groups can be derived from the names and shapes of {len(tensors)} tensors: {problem}"
        raise FindingsError([error("align-no-groups", text, label, REMEDY)])
    findings = tuple(warning("align-assumed", text, label) for text in network.notes)
    return Derived(tuple(network.groups), findings)
