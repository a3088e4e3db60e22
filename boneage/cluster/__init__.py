"""On several machines: the grid and the archive on Ray, one network on several graphics cards, and what it costs."""
