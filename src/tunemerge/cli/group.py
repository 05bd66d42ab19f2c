"""What every command has in common: our errors and Ctrl-C become one clear message and an exit code."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from tunemerge.errors import TunemergeError

RESUMABLE = ("run", "demo")


class Commands(TyperGroup):
    """The group of all commands."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TunemergeError as e:
            print(e, file=sys.stderr)
            raise typer.Exit(e.exit_code) from None
        except BrokenPipeError:  # whoever reads us has gone: typer ends quietly
            raise
        except OSError as e:
            print(f"{e.filename}: {e.strerror}" if e.filename else f"the system failed: {e}", file=sys.stderr)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            print(_interrupted(), file=sys.stderr)
            raise typer.Exit(130) from None


def _interrupted() -> str:
    if len(sys.argv) > 1 and sys.argv[1] in RESUMABLE:
        again = shlex.join(["tunemerge", *sys.argv[1:]])
        return f"\ninterrupted; every finished step is kept. To go on where it was:\n    {again}"
    return "\ninterrupted; nothing was written"
