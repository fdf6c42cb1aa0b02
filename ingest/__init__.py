"""Logs in: decode, validate, enrich, spool and write in bulk."""
