"""The journal: the truth that everything else of the hub is derived from."""
