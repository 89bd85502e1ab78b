"""Outputs: cursors over the journal, each with a client that speaks to one service."""
