"""What searches ask: one interface, an engine each."""
