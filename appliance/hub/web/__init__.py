"""Pages, API, live streams."""
