"""Web processes to be killed, each forked in a moment from one that has read the code.

`python -m tests.chatbackend.mortal 3` tells three ports; then each line that it reads, a number from 0 to 2, makes one
more process for that port, whose id it tells. What is listened at stays open while none lives, so that whoever connects
meanwhile waits for the next.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

import uvicorn

from tests.chatbackend import web_process  # isort: skip  sets Django up

from channels.routing import ProtocolTypeRouter

from chatbackend.live import live
from chatbackend.recovery import keep_settling


async def lifespan(scope, receive, send):
    """As a real one's, without the scorer's process."""
    await receive()
    await live.start()
    settling = asyncio.create_task(keep_settling())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    settling.cancel()
    await live.stop()
    await send({"type": "lifespan.shutdown.complete"})


def main(ports: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    application = ProtocolTypeRouter({"websocket": web_process.sockets, "lifespan": lifespan})
    config = uvicorn.Config(application, ws="websockets-sansio", log_level="error", ws_per_message_deflate=False)
    config.load()
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(ports)]
    print(*(listener.getsockname()[1] for listener in listeners), flush=True)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            uvicorn.Server(config).run(sockets=[listeners[int(line)]])
            os._exit(0)
        print(process, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
