"""The tables. An event type is a row of `events`, a field a row of `fields`; all other rooms read these rows."""
