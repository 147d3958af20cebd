"""The monitoring service: it decides, and talks to the world."""

from monitor import processor

processor.settle()
