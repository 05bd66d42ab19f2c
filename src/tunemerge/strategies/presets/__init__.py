"""The strategies that ship with tunemerge, one a file. A file dropped here is found by its decorator."""
