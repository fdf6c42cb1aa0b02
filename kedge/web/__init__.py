"""The JSON API of kedge: what the command line and the dashboard speak to."""
