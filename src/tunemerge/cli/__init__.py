"""The command line. Commands import what they need when they run: `tunemerge --help` stays quick.

Exit codes: 0 done, 1 failed, 2 wrong usage or config, 130 interrupted.
"""

from __future__ import annotations


def main() -> None:
    """The entry point of the command `tunemerge`."""
    from tunemerge.cli.app import app

    try:
        app(prog_name="tunemerge")
    except SystemExit as end:
        _leave(end.code)
        raise


def _leave(code: object) -> None:
    """End without looking for garbage in all that is loaded, which takes Python a tenth of a second.

    End at once where a decomposition that nobody waits for any more still runs in a thread, which can't be stopped:
    Python would wait for it.
    """
    import gc
    import os
    import sys
    import threading

    gc.freeze()
    if any(thread.name.startswith("merge_") for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)
