"""Plans the output's vocabulary from the models' tokenizers and the recipe's request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.model import inside, read_json
from tunemerge.errors import CheckpointError
from tunemerge.findings import Finding, error, note, refuse_errors, warning
from tunemerge.merge.vocabulary.chat import commonest_template
from tunemerge.merge.vocabulary.plan_rows import plan_rows
from tunemerge.merge.vocabulary.request import ModelToken, TokenizerRequest
from tunemerge.merge.vocabulary.tensors import config_size, is_tied
from tunemerge.merge.vocabulary.tokenizer import Tokenizer, read_tokenizer
from tunemerge.merge.vocabulary.union import differences, union
from tunemerge.merge.vocabulary.vocabulary import Vocabulary
from tunemerge.registry import nearest

_SAVE = "copy the tokenizer's files into the model's folder"


def plan_vocabulary(
    models: Mapping[str, Path],
    base: str | None,
    request: TokenizerRequest,
    others: Mapping[str, Path] | None = None,
) -> Vocabulary:
    """Read every tokenizer and plan the output's.

    `models` are the folders by name, in order, the base among them; `others` the folders of models that the request
    names and that are not merged (they can give the tokenizer, no rows). Raises FindingsError with everything that is
    wrong: a tokenizer that can't be read, kinds that can't be united, tokens or models that don't exist.
    """
    folders = {**models, **(others or {})}
    if base is not None and base not in models:
        raise ValueError(f"the base {base!r} is none of the models {list(models)}")
    found: list[Finding] = []
    first = base or next(iter(models))
    donor = first if request.source in (None, "union", "base") else str(request.source)
    configs = {name: _config(folder) for name, folder in folders.items()}
    sizes = {name: config_size(config) for name, config in configs.items()}
    tokenizers: dict[str, Tokenizer] = {}
    tokenizer, rows = None, None
    if request.source is not None:
        tokenizers = _read_all(folders, found)
        _check_donor(donor, folders, tokenizers, found)
        refuse_errors(found)
        _assume(models, tokenizers, donor, sizes, found)
        _check_rules(request, models, tokenizers, sizes, found)
        tokenizer = _output(request, models, tokenizers, donor, found)
        refuse_errors(found)
        rows = plan_rows(request, list(models), tokenizers, sizes, tokenizer, found)
        refuse_errors(found)
    return Vocabulary(
        models=tuple(models),
        base=base,
        folders=folders,
        tokenizers=tokenizers,
        sizes=tuple(sizes[name] for name in models),
        tied=tuple(is_tied(configs[name]) for name in models),
        donor=donor,
        tokenizer=tokenizer,
        rows=rows,
        template=_template(request, models, found),
        findings=tuple(found),
    )


def _template(request: TokenizerRequest, models: Mapping[str, Path], found: list[Finding]) -> str | None:
    if request.chat_template != "auto":
        return request.chat_template
    template = commonest_template(models.values())
    if template is None:
        found.append(note("chat-template", "no model has a chat template: the output has none", "chat_template"))
    return template


def _read_all(folders: Mapping[str, Path], found: list[Finding]) -> dict[str, Tokenizer]:
    out: dict[str, Tokenizer] = {}
    known: dict[str, Tokenizer] = {}
    for name, folder in folders.items():
        try:
            tokenizer = read_tokenizer(folder, known)
        except CheckpointError as problem:
            found.append(error("tokenizer-unreadable", str(problem), name))
            continue
        if tokenizer is not None:
            out[name] = tokenizer
    return out


def _config(folder: Path) -> dict[str, Any]:
    return read_json(inside(folder, "config.json")) if (folder / "config.json").is_file() else {}


def _check_donor(
    donor: str, folders: Mapping[str, Path], tokenizers: Mapping[str, Tokenizer], found: list[Finding]
) -> None:
    if donor not in folders:
        text = f"the tokenizer's source {donor!r} is no model of the recipe{nearest(donor, list(folders))}"
        found.append(error("tokenizer-source", text, "tokenizer", "name a model, or union, or base"))
    elif donor not in tokenizers and not any(finding.where == donor for finding in found):
        text = "no tokenizer files, and the recipe takes the tokenizer from it"
        found.append(error("tokenizer-missing", text, donor, _SAVE))


def _assume(
    models: Mapping[str, Path],
    tokenizers: dict[str, Tokenizer],
    donor: str,
    sizes: Mapping[str, int | None],
    found: list[Finding],
) -> None:
    """A model without a tokenizer is taken to have the donor's, if its vocabulary has the same size."""
    for name in models:
        if name in tokenizers:
            continue
        if sizes[name] == sizes[donor]:
            found.append(
                warning("tokenizer-assumed", f"no tokenizer files; taken to have that of {donor}", name, _SAVE)
            )
            tokenizers[name] = tokenizers[donor]
        else:
            text = f"no tokenizer files, and another size of vocabulary ({sizes[name]}) than {donor} ({sizes[donor]})"
            found.append(error("tokenizer-missing", text, name, _SAVE))


def _check_rules(
    request: TokenizerRequest,
    models: Mapping[str, Path],
    tokenizers: Mapping[str, Tokenizer],
    sizes: Mapping[str, int | None],
    found: list[Finding],
) -> None:
    for token, rule in request.tokens.items():
        source, where = rule.source, f"tokenizer.tokens.{token}"
        if not isinstance(source, ModelToken):
            continue
        if source.model not in models:
            near = nearest(source.model, list(models))
            text = f"its source {source.model!r} is none of the models that are merged{near}"
            found.append(error("token-source", text, where))
            continue
        tokenizer, wanted = tokenizers.get(source.model), source.token or token
        if tokenizer is None:
            continue
        number = tokenizer.ids.get(wanted) if source.token_id is None else source.token_id
        size = sizes[source.model]
        if number is None:
            text = f"{source.model} has no token {wanted!r}"
            found.append(error("token-source", text, where, "name another model, or a token_id"))
        elif size is not None and number >= size:
            text = f"{source.model} has {size:,} rows, none with the number {number:,}"
            found.append(error("token-source", text, where))


def _output(
    request: TokenizerRequest,
    models: Mapping[str, Path],
    tokenizers: Mapping[str, Tokenizer],
    donor: str,
    found: list[Finding],
) -> Tokenizer:
    first, others = tokenizers[donor], dict[str, Tokenizer]()
    for name in models if request.source == "union" else ():
        other = tokenizers.get(name, first)
        if other.data is first.data or any(other.data is seen.data for seen in others.values()):
            continue
        if other.kind != first.kind:
            text = f"its tokenizer is a {other.kind} tokenizer, that of {donor} {first.kind}: they can't be united"
            remedy = "take one of them: `tokenizer_source: base`, or a model's name"
            found.append(error("tokenizer-kinds", text, name, remedy))
            continue
        parts = differences(first, other)
        if parts:
            text = f"splits text in another way than {donor} ({', '.join(parts)}); the output splits it as {donor} does"
            found.append(warning("tokenizer-splitting", text, name, "tokens that only it has may never be used"))
        others[name] = other
    more = {token: _flags(token, request, tokenizers) for token in request.tokens}
    try:
        return union(first, list(others.values()), more)
    except CheckpointError as problem:
        found.append(error("tokenizer-union", str(problem), donor, "take one: `tokenizer_source: base`"))
        return first


def _flags(token: str, request: TokenizerRequest, tokenizers: Mapping[str, Tokenizer]) -> Mapping[str, Any]:
    """How a token that is added behaves: as in the model that gives its row, else as in the first that has it added."""
    source = request.tokens[token].source
    names = ([source.model] if isinstance(source, ModelToken) else []) + list(tokenizers)
    for name in names:
        for entry in tokenizers[name].added if name in tokenizers else ():
            if entry["content"] == token:
                return entry
    return {}
