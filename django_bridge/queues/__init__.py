"""Jobs of queues that report themselves: an adapter for each queue, beside `tasks_backend` for Django's Tasks."""
