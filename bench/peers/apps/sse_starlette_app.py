"""sse-starlette as its documentation shows it: a generator for each stream, fed by a queue."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from sse_starlette.sse import EventSourceResponse

app = FastAPI()
queues: dict[str, set[asyncio.Queue[str]]] = defaultdict(set)


@app.get("/events/{channel}")
async def events(channel: str) -> EventSourceResponse:
    async def stream() -> AsyncIterator[dict[str, str]]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        queues[channel].add(queue)
        try:
            while True:
                yield {"event": "bench", "data": await queue.get()}
        finally:
            queues[channel].discard(queue)

    return EventSourceResponse(stream())


@app.post("/publish")
async def publish(request: Request) -> dict[str, bool]:
    body = await request.json()
    for queue in queues[body["channel"]]:
        queue.put_nowait(body["text"])
    return {"ok": True}
