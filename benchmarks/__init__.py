"""How fast, in how much memory, and next to whom: `make bench`."""
