"""Calls of other libraries, so that a project moves by changing its imports; docs/migrating.md shows them."""
