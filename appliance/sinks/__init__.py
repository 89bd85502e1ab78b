"""Where alerts go: one module for each kind of output, and the dispatcher before them."""
