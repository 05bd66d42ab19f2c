"""What a person chooses about a merge beside the recipe."""

from __future__ import annotations

from dataclasses import dataclass

from tunemerge.checkpoint.writer import SHARD_BYTES


@dataclass(frozen=True)
class Options:
    """`shard_bytes` is the most that one weight file holds; `threads` None: as many as there are cores.

    `allow_crimes` turns the errors that `prepare.WAIVED` lists into warnings. `device` is where methods
    of whole matrices compute: see `spectral.find_device`.
    """

    seed: int = 0
    threads: int | None = None
    shard_bytes: int = SHARD_BYTES
    copy_tokenizer: bool = True
    allow_crimes: bool = False
    device: str = "auto"
