"""The command line. Commands import what they need when they run: `tunemerge --help` stays quick."""

from __future__ import annotations

import shlex
import sys

RESUMABLE = ("run", "demo")


def main() -> None:
    """Run the command; exit codes: 0 done, 1 failed, 2 wrong usage or config, 130 interrupted."""
    import click

    from tunemerge.cli.app import app
    from tunemerge.errors import TunemergeError

    try:
        code = app(standalone_mode=False)
    except click.ClickException as e:
        e.show()
        code = e.exit_code
    except TunemergeError as e:
        print(e, file=sys.stderr)
        code = e.exit_code
    except (KeyboardInterrupt, click.exceptions.Abort):
        print(_interrupted(), file=sys.stderr)
        code = 130
    except BrokenPipeError:
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def _interrupted() -> str:
    if len(sys.argv) > 1 and sys.argv[1] in RESUMABLE:
        again = shlex.join(["tunemerge", *sys.argv[1:]])
        return f"\ninterrupted; every finished step is kept. To go on where it was:\n    {again}"
    return "\ninterrupted; nothing was written"
