"""What other systems post to hooks, as fields of a message: one module for each form."""
