"""Static pages, drawn from the store alone."""
