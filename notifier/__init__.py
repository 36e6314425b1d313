"""A Server-Sent Events service: producers publish over HTTP (or to Redis), browsers hear it over one stream each.

    producer -> api or bridge -> broker (store + announce, one step) -> hub of each process -> stream -> browser

    event     one published thing: id, channel, type, data
    channel   what events are published to: user:42, group:staff, all
    message   a durable event for people, with a place in history and a read mark
    task      retained state: the newest value counts
    broker    accepts events, gives ids and order, keeps history and state, carries events between processes
    hub       one per process: knows the open streams and hands them frames
    stream    one open GET /v1/stream of one user
    frame     an event as bytes on the wire
    cursor    the last event id that a client has
    reset     "you may have missed something; here is the present state"

Imports go one way: cli, app > api > auth > hub > stream > frames > broker > event, task, rules, errors.
"""

__all__: list[str] = []
