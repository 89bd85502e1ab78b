"""The command: one module for each verb, and what they print."""
