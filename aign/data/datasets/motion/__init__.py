"""Motion without pictures."""
