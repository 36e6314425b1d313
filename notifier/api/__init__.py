"""The HTTP API: routes, their pydantic models, and how errors become responses.

Routes take what `app` built from `request.app.state`; nothing here is global. Must not know: how brokers store data.
"""
