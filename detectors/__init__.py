"""Pure statistics: counts in, numbers out."""
