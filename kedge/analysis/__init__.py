"""Summaries in, metrics out, each with its n and its uncertainty. Pure."""
