"""The metrics that ship: a file for each kind of prediction, which says what outputs are."""
