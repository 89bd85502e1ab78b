"""Rules text to checked rules, and all that is wrong with it to diagnostics."""
