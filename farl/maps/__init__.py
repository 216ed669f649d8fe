"""Local maps: what FARMap remembers, and how it plans with it."""
