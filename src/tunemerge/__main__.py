"""`python -m tunemerge`."""

from tunemerge.cli import main

main()
