"""kedge: analytics and alerting for machine-learning inference logs."""

__version__ = "0.1.0"
