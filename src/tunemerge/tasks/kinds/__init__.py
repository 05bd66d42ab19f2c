"""The kinds of tasks that ship with tunemerge, one a file. A file dropped here is found by its `TASKS.add`."""
