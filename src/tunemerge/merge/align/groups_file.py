"""Permutation groups from a person's YAML file, checked against the tensors of a model.

hidden:                                    # group: axes that are permuted together
  - {tensor: fc1.weight, axis: 0}
  - {tensor: fc2.weight, axis: 1, block: 49}
"heads.{}":                                # one group for every number that fits
  - {tensor: "layers.{}.q.weight", axis: 0, block: 64}
  - {tensor: "layers.{}.qkv.weight", axis: 0, block: 64, start: 512, units: 8}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.header import TensorInfo
from tunemerge.findings import Finding, FindingsError, error, refuse_errors
from tunemerge.merge.align.groups import Axis, Group, check_groups
from tunemerge.registry import nearest
from tunemerge.yamlfile import load_yaml

_KEYS = {"tensor": None, "axis": None, "block": 1, "start": 0, "units": None}
_NUMBER = "{}"

Entry = dict[str, Any]


def load_groups(path: Path, tensors: Mapping[str, TensorInfo]) -> tuple[Group, ...]:
    """The groups in a file. FindingsError with everything that is wrong in it, each with its line."""
    data, lines = load_yaml(path)
    if not isinstance(data, dict) or not data:
        raise FindingsError([error("align-file", "a mapping of group names to lists of axes is expected", str(path))])
    findings: list[Finding] = []
    groups: list[Group] = []
    places: dict[tuple[str, int], str] = {}
    for name, listed in data.items():
        if not isinstance(listed, list) or not listed:
            text = f"group {name!r} must be a list of `- {{tensor: NAME, axis: 0}}`"
            findings.append(error("align-file", text, f"{path}:{lines[name,]}"))
            continue
        where = [f"{path}:{lines[name, i]}" for i in range(len(listed))]
        problems = [(i, text) for i, entry in enumerate(listed) for text in _wrong(entry)]
        findings += [error("align-file", text, where[i]) for i, text in problems]
        if problems:
            continue
        entries = [{**_KEYS, **entry} for entry in listed]
        for group_name, concrete in _expand(str(name), entries, tensors):
            places |= {(group_name, i): place for i, place in enumerate(where)}
            group, wrong = _group(group_name, concrete, tensors, where)
            findings += wrong
            groups.append(group)
    # A group whose units differ is checked with those of its first axis; its other axes then say more than is wrong.
    findings += check_groups([g for g in groups if g.units], tensors, places)
    refuse_errors(findings)
    return tuple(groups)


def _wrong(entry: Any) -> list[str]:
    """What is wrong with one axis as written."""
    if not isinstance(entry, dict):
        return [f"an axis is written {{tensor: NAME, axis: 0}}, not {entry!r}"]
    out = [f"unknown key {key!r}{nearest(str(key), list(_KEYS))}" for key in entry if key not in _KEYS]
    out += [f"{key} is missing" for key in ("tensor", "axis") if key not in entry]
    if "tensor" in entry and not isinstance(entry["tensor"], str):
        out.append(f"tensor must be a tensor's name, not {entry['tensor']!r}")
    for key, least in (("axis", 0), ("block", 1), ("start", 0), ("units", 1)):
        value = entry.get(key, least)
        if type(value) is not int or value < least:
            out.append(f"{key} must be a whole number of at least {least}, not {value!r}")
    return out


def _expand(name: str, entries: list[Entry], tensors: Mapping[str, TensorInfo]) -> list[tuple[str, list[Entry]]]:
    """A group with {} in its name, once for each number for which one of its tensors is there."""
    if _NUMBER not in name:
        return [(name, entries)]
    numbers: set[int] = set()
    for entry in entries:
        first, *rest = map(re.escape, entry["tensor"].split(_NUMBER))
        pattern = re.compile(first + "".join((r"(\d+)" if i == 0 else r"\1") + part for i, part in enumerate(rest)))
        numbers |= {int(m[1]) for tensor in tensors if rest and (m := pattern.fullmatch(tensor))}
    return [
        (name.replace(_NUMBER, str(n)), [{**e, "tensor": e["tensor"].replace(_NUMBER, str(n))} for e in entries])
        for n in sorted(numbers)
    ] or [(name, entries)]


def _group(
    name: str, entries: list[Entry], tensors: Mapping[str, TensorInfo], where: list[str]
) -> tuple[Group, list[Finding]]:
    """The group, with as many units as its first known axis has; a finding for every axis with another number."""
    units: int | None = None
    said = ""
    findings = []
    for entry, place in zip(entries, where, strict=True):
        info, axis = tensors.get(entry["tensor"]), entry["axis"]
        if info is None or axis >= len(info.shape):
            continue
        rest = info.shape[axis] - entry["start"]
        count = entry["units"] or rest // entry["block"]
        text = f"axis {axis} of {entry['tensor']!r} has {count} units of {entry['block']}"
        if not entry["units"] and (rest <= 0 or rest % entry["block"]):
            text = (
                f"axis {axis} of {entry['tensor']!r}: {rest} elements are no whole number of units of {entry['block']}"
            )
            findings.append(error("align-units", text, place, "give `units` where only a part of the axis belongs"))
        elif units is None:
            units, said = count, text
        elif count != units:
            findings.append(
                error("align-units", f"{text}, but {said}", place, f"all axes of group {name!r} need as many")
            )
    axes = tuple(Axis(e["tensor"], e["axis"], e["start"], e["block"]) for e in entries)
    return Group(name, 0 if findings else units or 1, axes), findings
