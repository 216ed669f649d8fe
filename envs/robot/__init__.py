"""Robots with a lidar and a drifting odometry, in floor plans, one at a time or many at once."""
