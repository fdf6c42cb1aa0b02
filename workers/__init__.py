"""The crank: the Celery application, its beat and its tasks, thin shells over `kedge.pipeline`."""
