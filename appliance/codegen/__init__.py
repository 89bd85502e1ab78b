"""Checked rules to code, as text: predicates and message formatters."""
