"""From system calls to raw events: the kernel's half of the appliance and the decoder of what it writes."""
