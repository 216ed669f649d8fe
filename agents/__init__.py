"""Complete agents, one readable file each."""
