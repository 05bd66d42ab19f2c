"""The command line. Commands import what they need when they run: `tunemerge --help` stays quick.

Exit codes: 0 done, 1 failed, 2 wrong usage or config, 130 interrupted.
"""

from __future__ import annotations


def main() -> None:
    """The entry point of the command `tunemerge`."""
    from tunemerge.cli.app import app

    app(prog_name="tunemerge")
