"""Tasks: their state, their reports to the service, their rows. Imports nothing; see the modules."""
