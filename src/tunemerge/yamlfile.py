"""YAML read as data, with the line of every key, so that an error about a key can say where it stands.

Scalars follow YAML 1.2's core schema: `2e-5` is a number and `no` is the text "no" (a label, perhaps), which
YAML 1.1 reads the other way round. Tags that build objects, duplicate keys, files over a megabyte and
documents whose aliases would unfold into something huge are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml

from tunemerge.findings import Finding, FindingsError, error

KeyPath = tuple[Any, ...]
Lines = dict[KeyPath, int]

MAX_BYTES = 1_000_000
MAX_ALIASES = 100
MAX_VALUES = 100_000
MAX_DEPTH = 40

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the core schema's scalars instead of YAML 1.1's. Resolvers are tried in this order."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}  # type: ignore[misc]


_Loader.add_implicit_resolver(_TAG + "bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"))
_Loader.add_implicit_resolver(_TAG + "int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+.0123456789"))
_Loader.add_implicit_resolver(_TAG + "null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_TAG + "merge", re.compile(r"<<\Z"), ["<"])


def load_yaml(path: Path) -> tuple[Any, Lines]:
    """The single document in `path` and the 1-based line of every key path in it.

    A key path is the tuple of keys and list positions that leads to a value, `("models", 0, "weight")`; `()`
    is the document. Raises FindingsError, with all duplicate keys at once, where the file can't be used.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, name: str) -> tuple[Any, Lines]:
    """As load_yaml for text that is already there; `name` is what errors call it."""
    root, builder = _compose(text, name, yaml.compose), _Builder(name)
    data = builder.build(root, (), 0) if root is not None else None
    if builder.findings:
        raise FindingsError(builder.findings)
    builder.lines.setdefault((), 1)
    return data, builder.lines


def parse_documents(text: str, name: str) -> list[tuple[Any, Lines]]:
    """As parse_yaml for a text of several documents (`---`); lines are counted from the top of the text."""
    roots = _compose(text, name, _compose_all)
    builders = [_Builder(name) for _ in roots]
    documents = [builder.build(root, (), 0) for root, builder in zip(roots, builders, strict=True)]
    if any(builder.findings for builder in builders):
        raise FindingsError([finding for builder in builders for finding in builder.findings])
    return [(data, builder.lines) for data, builder in zip(documents, builders, strict=True)]


def _compose_all(text: str, Loader: type[yaml.SafeLoader]) -> list[yaml.Node]:
    return list(yaml.compose_all(text, Loader=Loader))


def _compose(text: str, name: str, compose: Callable[..., Any]) -> Any:
    try:
        aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader))
        if aliases > MAX_ALIASES:
            raise _refused("yaml-aliases", f"{aliases} aliases, more than {MAX_ALIASES}", name, "write the values out")
        return compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise _refused("yaml-syntax", f"not valid YAML: {problem.problem or problem.context}", where) from None
    except yaml.YAMLError as problem:
        raise _refused("yaml-syntax", f"not valid YAML: {' '.join(str(problem).split())}", name) from None
    except RecursionError:
        raise _refused("yaml-depth", f"nested deeper than {MAX_DEPTH} levels", name) from None


def read_text(path: Path) -> str:
    """The text of a YAML file; FindingsError where it is no file, too large or not UTF-8."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as problem:
        raise _refused("file-unreadable", problem.strerror or str(problem), str(path)) from None
    if len(raw) > MAX_BYTES:
        raise _refused("yaml-size", f"larger than {MAX_BYTES:,} bytes", str(path), "is this the right file?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise _refused("yaml-encoding", f"not UTF-8 at byte {problem.start}", str(path), "save it as UTF-8") from None


def _refused(code: str, message: str, where: str, remedy: str = "") -> FindingsError:
    return FindingsError([error(code, message, where, remedy)])


class _Builder:
    """Turns composed nodes into plain data, notes lines, and collects duplicate keys and foreign tags."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: Lines = {}
        self.findings: list[Finding] = []
        self._values = 0

    def build(self, node: yaml.Node, path: KeyPath, depth: int) -> Any:
        self._count(node, depth)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(child, (*path, i), depth + 1) for i, child in enumerate(node.value)]
        return self._scalar(node)

    def _count(self, node: yaml.Node, depth: int) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise _refused("yaml-size", f"more than {MAX_VALUES:,} values once aliases are unfolded", self.name)
        if depth > MAX_DEPTH:
            raise _refused("yaml-depth", f"nested deeper than {MAX_DEPTH} levels", self._place(node))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> dict[Any, Any]:
        out: dict[Any, Any] = {}
        inherited: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                inherited.append(value_node)
                continue
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key_node, yaml.ScalarNode):
                self.findings.append(error("yaml-key", "a key must be a plain value", self._place(key_node)))
            elif key in out:
                self.findings.append(
                    error(
                        "yaml-duplicate-key",
                        f"{key!r} is given twice; first in line {self.lines[*path, key]}",
                        self._place(key_node),
                        "keep one of them",
                    )
                )
            else:
                self.lines.setdefault((*path, key), key_node.start_mark.line + 1)
                out[key] = self.build(value_node, (*path, key), depth + 1)
        for mapping in self._inherited(inherited):
            self._count(mapping, depth + 1)
            out = {**self._mapping(mapping, path, depth + 1), **out}
        return out

    def _inherited(self, nodes: list[yaml.Node]) -> Iterator[yaml.MappingNode]:
        """The mappings that `<<` names, the ones that win first."""
        for node in nodes:
            for mapping in node.value if isinstance(node, yaml.SequenceNode) else [node]:
                if isinstance(mapping, yaml.MappingNode):
                    yield mapping
                else:
                    self.findings.append(error("yaml-merge", "'<<' takes mappings", self._place(node)))

    def _scalar(self, node: yaml.Node) -> Any:
        value, tag = node.value, node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.ScalarNode):
            if tag == "str":
                return value
            if tag == "null":
                return None
            if tag == "bool" and value.lower() in ("true", "false"):
                return value.lower() == "true"
            if tag == "int" and _INT.match(value) and len(value) < 1000:
                return int(value)
            if tag == "float" and _FLOAT.match(value):
                return float(value.replace(".", "") if value[-1] in "fFnN" else value)
        self.findings.append(
            error("yaml-tag", f"the tag {node.tag!r} does not fit here", self._place(node), "remove the tag")
        )
        return None

    def _place(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"
