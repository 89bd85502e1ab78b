"""From raw events to alerts: what we know about an event, and which rules it fires."""
