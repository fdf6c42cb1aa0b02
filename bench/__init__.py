"""Measurements of kedge, on real servers and real processes: `make bench`."""
