"""Networks that ship, one file each; `tunemerge.tasks.made.NETS` finds them by being here."""
