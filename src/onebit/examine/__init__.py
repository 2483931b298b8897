"""Packed models looked at: what they hold, what they answer, how well, and every integer on the way. No torch."""
