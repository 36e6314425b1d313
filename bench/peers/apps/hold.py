"""The origin behind Pushpin: answers every request with "hold this open as a stream on the channel of its path".

python hold.py PORT
"""

from __future__ import annotations

import asyncio
import sys


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while head := await reader.readuntil(b"\r\n\r\n"):
        channel = head.split(b" ", 2)[1][1:]
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nGrip-Hold: stream\r\nGrip-Channel: "
            + channel
            + b"\r\nContent-Length: 0\r\n\r\n"
        )


async def main(port: int) -> None:
    async with await asyncio.start_server(answer, "127.0.0.1", port, backlog=4096) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
