"""APIs of other libraries, so that a project migrates by changing its imports; see docs/migrating.md."""
