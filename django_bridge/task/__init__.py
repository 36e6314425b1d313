"""Tasks: the producer's API, reports to the service, rows, Celery. Imports nothing, so that each module loads alone."""
