"""Users, sessions, roles, tokens, the audit log."""
