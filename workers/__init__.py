"""What turns the crank: Celery worker and beat, and the thread of the embedded mode. All call
`kedge.pipeline.tick`.
"""
