"""Runs side by side: grouped by what differs, seeds folded, with intervals."""
