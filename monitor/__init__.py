"""The monitoring service: it decides, and talks to the world."""
