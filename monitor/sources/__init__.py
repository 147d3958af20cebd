"""Where logged data is read from."""
