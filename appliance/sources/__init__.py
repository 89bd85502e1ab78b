"""Where events come from: the kernel, /proc, container engines, and the files that name users."""
