"""What the buildings share at the rim: sd_notify, and what else speaks to the machine."""
