"""Assembly: the room that knows all the wings and joins them."""
