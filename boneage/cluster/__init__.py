"""On several machines: the grid and the archive on Ray."""
