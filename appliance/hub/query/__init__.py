"""A search or filter: text -> one tree -> a predicate, or a query of an engine."""
