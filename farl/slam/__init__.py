"""Maps by a robot that drifts: occupancy by log odds, scan matching, and a graph of poses."""
