"""One training over many devices and hosts."""
