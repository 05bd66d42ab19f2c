"""`tunemerge ...` as a person types it, in this process: a process of its own takes seconds to import torch."""

from __future__ import annotations

import sys
from contextlib import ExitStack, chdir, nullcontext
from contextvars import copy_context
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from typer.testing import CliRunner

from tunemerge.cli.app import app
from tunemerge.graph.executors.inline import InlineExecutor


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def command(*arguments: object, cwd: Path, **environment: str) -> Done:
    """Run a command in a folder; what it prints is no terminal's. Its steps are computed here, one after the other.

    Raises what the command does not turn into a message.
    """
    words = [str(a) for a in arguments]
    with chdir(cwd), patch.object(sys, "argv", ["tunemerge", *words]), patch("os.fsync"), ExitStack() as stack:
        for place in ("study.study", "study.restore"):
            stack.enter_context(patch(f"tunemerge.{place}.LocalExecutor", lambda: nullcontext(InlineExecutor())))
        runner = CliRunner(env={"COLUMNS": "120", "NO_COLOR": "1", **environment})
        done = copy_context().run(runner.invoke, app, words, prog_name="tunemerge")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)
