"""What every command has in common: our errors and Ctrl-C become one clear message and an exit code."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from tunemerge.cli.arguments import convert_late
from tunemerge.cli.output import FORMAT, as_json, print_json
from tunemerge.errors import TunemergeError

RESUMABLE = ("run", "demo")


class Commands(TyperGroup):
    """The group of all commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        convert_late(self, ctx)
        return super().parse_args(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            convert_late(command, ctx)
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TunemergeError as e:
            _refuse(type(e).__name__, str(e), e.exit_code, findings=getattr(e, "findings", ()))
        except BrokenPipeError:  # whoever reads us has gone: typer ends quietly
            raise
        except OSError as e:
            _refuse("OSError", f"{e.filename}: {e.strerror}" if e.filename else f"the system failed: {e}", 1)
        except KeyboardInterrupt:
            _refuse("KeyboardInterrupt", _interrupted(), 130)
        except Exception as e:
            message = getattr(e, "format_message", None)  # wrong usage, which typer prints for people
            if message is None or not _json_asked():
                raise
            _refuse("UsageError", message(), 2)


def _refuse(kind: str, message: str, exit_code: int, findings: Any = ()) -> None:
    """Say what went wrong, to people on standard error or as a document, and end with the exit code."""
    if _json_asked():
        error = {"kind": kind, "message": message.strip(), "findings": [f.as_dict() for f in findings]}
        print_json({"format": FORMAT, "error": error, "exit_code": exit_code})
    else:
        print(message, file=sys.stderr)
    raise typer.Exit(exit_code) from None


def _json_asked() -> bool:
    """Also where the options could not be read."""
    return as_json() or "--json" in sys.argv[1:]


def _interrupted() -> str:
    if len(sys.argv) > 1 and sys.argv[1] in RESUMABLE:
        again = shlex.join(["tunemerge", *sys.argv[1:]])
        return f"\ninterrupted; every finished step is kept. To go on where it was:\n    {again}"
    return "\ninterrupted; nothing was written"
