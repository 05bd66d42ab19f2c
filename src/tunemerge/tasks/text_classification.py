"""Text classification: one label set, one text a row, a Hugging Face encoder or decoder with a classification head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.errors import CheckpointError, UsageError
from tunemerge.registry import nearest
from tunemerge.tasks import hub
from tunemerge.tasks.batching import Encoded
from tunemerge.tasks.rows import Rows, read_rows
from tunemerge.tasks.task import TASKS

# Families whose position table begins after the padding index: that many positions fewer than the config says.
_OFFSET_POSITIONS = ("roberta", "camembert", "mpnet", "longformer", "data2vec-text", "xmod", "luke", "ibert")


class TextClassification:
    """Rows have a `text` column; a prediction is one logit a label."""

    name = "text-classification"
    head_names: tuple[str, ...] = ("classifier.", "score.", "classification_head.")

    def read(self, paths: Sequence[Path], labels: Sequence[str]) -> Rows:
        rows = read_rows(paths, labels, "text")
        empty = [row for row, text in enumerate(rows.features) if not isinstance(text, str)]
        if empty:
            raise UsageError(f"{', '.join(map(str, paths))}: row {empty[0]}: no text; leave such rows out")
        return rows

    def initialise(
        self, folder: Path, out: Path, labels: Sequence[str], seed: int, dropout: float | None = None
    ) -> None:
        """A base without a classification head gets a fresh one, drawn from `seed`; its own tensors stay as they are.

        A checkpoint with a head keeps it, its outputs put into the order of `labels` by name: UsageError if one of
        the labels is not among the head's own.
        """
        import torch
        from transformers import AutoModelForSequenceClassification as Auto
        from transformers import set_seed

        config = hub.read_config(folder)
        hub.set_dropout(config, dropout, folder)
        names = hub.label_names(config)
        has_head = any(str(a).endswith("ForSequenceClassification") for a in config.architectures or ())
        if not has_head:
            _set_labels(config, labels)
        if config.pad_token_id is None:
            config.pad_token_id = hub.tokenizer_of(folder).pad_token_id
        with hub.quiet():
            set_seed(seed)
            model = _load(folder, config, complete=has_head)
            if has_head:
                picked = _pick(names, labels, folder)
                state = model.state_dict()
                for name in _outputs(config):
                    state[name] = state[name][picked].clone()
                _set_labels(config, labels)
                with torch.device("meta"):
                    model = Auto.from_config(config)  # type: ignore[no-untyped-call]
                model.load_state_dict(state, assign=True)
        self.save(model, folder, out)

    def load(self, folder: Path, labels: Sequence[str], dropout: float | None = None) -> Any:
        config = hub.read_config(folder)
        hub.same_labels(hub.label_names(config), labels, folder)
        hub.set_dropout(config, dropout, folder)
        with hub.quiet():
            model = _load(folder, config, complete=True)
        return model.eval()

    def save(self, model: Any, source: Path, out: Path) -> None:
        with hub.quiet():
            model.save_pretrained(out, max_shard_size="1000GB")
        hub.copy_tokenizer(source, out)

    def encode(self, folder: Path, model: Any, rows: Rows, max_length: int) -> Encoded:
        tokenizer, config = hub.tokenizer_of(folder), model.config
        limit = min(max_length, int(min(tokenizer.model_max_length, 10**9)), _positions(config))
        encoding = tokenizer(rows.features, truncation=True, max_length=limit, return_attention_mask=True)
        padding = {
            "input_ids": tokenizer.pad_token_id,
            "attention_mask": 0,
            "token_type_ids": tokenizer.pad_token_type_id,
        }
        columns = {name: encoding[name] for name in encoding if name in padding}
        return Encoded(columns, padding, tokenizer.padding_side == "left", limit)

    def body(self, model: Any) -> Any:
        return model.base_model

    def head(self, model: Any) -> list[Any]:
        below = {id(p) for p in model.base_model.parameters()}
        return [p for p in model.parameters() if id(p) not in below]


def _load(folder: Path, config: Any, complete: bool = False) -> Any:
    """The model in float32. `complete`: refused when the checkpoint lacks a tensor of it."""
    import torch
    from transformers import AutoModelForSequenceClassification

    open_checkpoint(folder)  # refuses what is truncated, pickled or leads out of the folder
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as fault:
        raise CheckpointError(f"{folder}: transformers cannot load it: {fault}") from fault
    if complete and report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise CheckpointError(
            f"{folder}: tensor {missing[0]} is missing (and {len(missing) - 1} more): config.json describes a "
            "classifier, but the file holds only part of one"
        )
    return model


def _set_labels(config: Any, labels: Sequence[str]) -> None:
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.problem_type = "single_label_classification"


def _pick(found: list[str], labels: Sequence[str], folder: Path) -> list[int]:
    """Where each of `labels` stands among the labels of the checkpoint."""
    for label in labels:
        if label not in found:
            raise UsageError(
                f"{folder / 'config.json'}: id2label has no {label!r}{nearest(label, found)}. Its head predicts "
                f"{', '.join(found)}; if these are the study's labels, write their names into id2label"
            )
    return [found.index(label) for label in labels]


def _outputs(config: Any) -> list[str]:
    """Names of the tensors with one row a label: those whose shape follows the number of labels."""
    import copy

    import torch
    from transformers import AutoModelForSequenceClassification

    shapes = []
    for extra in (0, 1):
        other = copy.deepcopy(config)
        other.num_labels = config.num_labels + extra
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(other)  # type: ignore[no-untyped-call]
        shapes.append({name: tensor.shape for name, tensor in model.state_dict().items()})
    return [name for name, shape in shapes[0].items() if shape != shapes[1][name]]


def _positions(config: Any) -> int:
    """Longest sequence that the position embeddings allow."""
    positions = getattr(config, "max_position_embeddings", None) or 10**9
    if any(family in config.model_type for family in _OFFSET_POSITIONS):
        positions -= (config.pad_token_id or 0) + 1
    return int(positions)


TASKS.add(TextClassification.name, TextClassification())
