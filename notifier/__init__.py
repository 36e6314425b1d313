"""A Server-Sent Events service: producers publish over HTTP (or to Redis), each browser listens on one stream.

    producer -> api or bridge -> broker (store + announce, one step) -> hub of each process -> stream -> browser

    event     a published item: id, channel, type, data
    channel   the name that events are published to: user:42, group:staff, all
    message   a durable event for people, with a place in history and a read mark
    task      retained state: the newest value counts
    broker    accepts events, gives ids and order, keeps history and state, carries events between processes
    hub       one per process: knows the open streams and delivers frames to them
    stream    one open GET /v1/stream of one user
    frame     an event as bytes on the wire
    cursor    the last event id that a client has received
    reset     the event that reports a possible gap, with the present state

Imports go one way: cli, app > api > auth > hub > stream > frames > broker > event, task, rules, errors.
"""

__all__: list[str] = []
