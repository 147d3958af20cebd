"""Where results live: SQLite or PostgreSQL."""
