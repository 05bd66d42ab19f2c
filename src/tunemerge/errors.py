"""Everything tunemerge raises on purpose, and the exit code that each becomes on the command line."""

from __future__ import annotations


class TunemergeError(Exception):
    """Something failed while working (I/O, a step that crashed). Exit code 1."""

    exit_code = 1


class UsageError(TunemergeError):
    """The input is wrong: a file, a key, a name, a number. Nothing was written. Exit code 2."""

    exit_code = 2


class CheckpointError(UsageError):
    """A model file is missing, truncated, hostile, or not safetensors. Names the file and the tensor."""


class StepFailedError(TunemergeError):
    """A step of the graph raised; carries the step's label and the worker's own message."""


class StoreError(TunemergeError):
    """The store holds something other than what its manifest says."""
