"""`fastapi.sse` as its documentation shows it: an endpoint that yields events, fed by a queue."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterable

from fastapi import FastAPI, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()
queues: dict[str, set[asyncio.Queue[str]]] = defaultdict(set)


@app.get("/events/{channel}", response_class=EventSourceResponse)
async def events(channel: str) -> AsyncIterable[ServerSentEvent]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues[channel].add(queue)
    try:
        while True:
            yield ServerSentEvent(event="bench", data=await queue.get())
    finally:
        queues[channel].discard(queue)


@app.post("/publish")
async def publish(request: Request) -> dict[str, bool]:
    body = await request.json()
    for queue in queues[body["channel"]]:
        queue.put_nowait(body["text"])
    return {"ok": True}
