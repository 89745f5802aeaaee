"""The server: a bounded number of connections, each with a deadline for whatever it has to do next, in a thread of its own.

No client holds up another: where all places are taken, the newcomer gets that of whoever has kept us waiting longest. None makes
memory grow: a head has a limit, an answer goes out in pieces, and what many ask for at once is made once.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from enum import IntEnum
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from ctobserve.errors import CtobserveError
from ctobserve.serving.request import END, HEAD_BYTES, Refused, Request, parse
from ctobserve.serving.shared import Shared

CONNECTIONS = 32
HEAD_S = 10.0  # TLS and the whole head of a first request
IDLE_S = 300.0  # until the next one has come
ANSWER_S = 60.0  # to make an answer
SEND_S = 20.0  # to take all of it
LOOK_S = 1.0
PIECE_BYTES = 1 << 16
METRICS = "/metrics"
INDEX = b"<!doctype html><title>ctobserve</title><a href=/metrics>metrics</a>\n"


class Content(Protocol):
    """What is served, of one instant."""

    def of(self, accept: str) -> tuple[str, bytes]:
        """Content type and content for a client that takes these."""
        ...


class Source(NamedTuple):
    """`make` gives the content, `look` is called once a second: by one thread, never at once."""

    make: Callable[[], Content]
    look: Callable[[], object]


class Guard(Protocol):
    """Who may ask."""

    async def admits(self, authorization: str | None) -> bool:
        """Whether this field of a request is of somebody who may."""
        ...


class Doors(NamedTuple):
    """`tls` is None where nothing is encrypted, `guard` where everybody may ask."""

    tls: ssl.SSLContext | None = None
    guard: Guard | None = None


class State(IntEnum):
    """What a connection is waiting for; whoever is first in this order gives its place up first."""

    IDLE = 0
    HEAD = 1
    SENDING = 2
    ANSWER = 3


class _Connection:
    def __init__(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        self.task = task
        self.writer = writer
        self.state = State.HEAD


class Server:
    """`begin` and `end` it; `failure` is what ended it by itself."""

    def __init__(self, listening: socket.socket, source: Source, doors: Doors, say: Callable[[str], object]) -> None:
        """`listening` is bound and becomes ours; `say` is told lines for the operator."""
        self._listening = listening
        self._source = source
        self._doors = doors
        self._say = say
        self._said = ""
        self._connections: list[_Connection] = []
        self._worker = ThreadPoolExecutor(1, "scrape")
        self._thread = threading.Thread(target=self._serve, name="serving", daemon=True)
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self.failure: BaseException | None = None

    def begin(self) -> None:
        """From now on it answers."""
        self._thread.start()
        self._loop.result()

    def end(self) -> None:
        """Connections are cut; nothing of ours runs any more."""
        loop = self._loop.result()
        with suppress(RuntimeError):  # it has ended by itself
            loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._worker.shutdown()

    def _serve(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:
            self.failure = error
            if not self._loop.done():
                self._loop.set_exception(error)

    async def _main(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self._complain)
        self._stop = asyncio.Event()
        self._shared = Shared(lambda: self._by_worker(self._source.make))
        server = await asyncio.start_server(self._connected, sock=self._listening, limit=HEAD_BYTES, backlog=CONNECTIONS)
        self._loop.set_result(asyncio.get_running_loop())
        looking = asyncio.create_task(self._keep_looking())
        stopping = asyncio.create_task(self._stop.wait())
        async with server:
            await asyncio.wait((looking, stopping), return_when=asyncio.FIRST_COMPLETED)
            server.close()
            for one in self._connections:
                one.task.cancel()
            await asyncio.gather(*(one.task for one in self._connections), return_exceptions=True)
        stopping.cancel()
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking

    def _complain(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What asyncio would log; of connections that break, as clients please, nothing."""
        error = context.get("exception")
        if not isinstance(error, OSError):
            self._say_once(f"{context['message']}: {type(error).__name__}: {error}")

    async def _by_worker(self, work: Callable[[], Content]) -> Content:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def _keep_looking(self) -> None:
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(self._worker, self._source.look)
            except (CtobserveError, OSError) as error:
                # What is looked at may be unloaded in that very moment.
                self._say_once(f"{type(error).__name__}: {error}")
            await asyncio.sleep(LOOK_S)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        mine = _Connection(task, writer)
        if not self._has_room():
            writer.transport.abort()
            return
        self._connections.append(mine)
        try:
            await self._converse(reader, mine)
            writer.close()
            async with asyncio.timeout(SEND_S):
                await writer.wait_closed()
        except (asyncio.CancelledError, OSError, EOFError):
            pass  # it went, was too slow, or gave its place up
        finally:
            if mine in self._connections:
                self._connections.remove(mine)
            writer.transport.abort()

    def _has_room(self) -> bool:
        """The oldest of those who keep us waiting goes, where all places are taken; where all are kept waiting by us, nobody."""
        if len(self._connections) < CONNECTIONS:
            return True
        first = min(self._connections, key=lambda one: one.state)
        if first.state == State.ANSWER:
            return False
        self._connections.remove(first)
        first.task.cancel()
        first.writer.transport.abort()
        return True

    async def _converse(self, reader: asyncio.StreamReader, mine: _Connection) -> None:
        wait_s, stays = HEAD_S, True
        async with asyncio.timeout(HEAD_S):
            if self._doors.tls:
                await mine.writer.start_tls(self._doors.tls, ssl_handshake_timeout=HEAD_S)
        while stays:
            try:
                async with asyncio.timeout(wait_s):
                    request = parse(await reader.readuntil(END))
            except asyncio.LimitOverrunError:
                await self._send(mine, _answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
                return
            except Refused as refused:
                await self._send(mine, _answer(refused.status))
                return
            mine.state, stays = State.ANSWER, request.stays
            async with asyncio.timeout(ANSWER_S):
                head, body = await self._answered(request)
            await self._send(mine, head, b"" if request.method == "HEAD" else body)
            mine.state, wait_s = State.IDLE, IDLE_S

    async def _send(self, mine: _Connection, head: bytes, body: bytes = b"") -> None:
        mine.state = State.SENDING
        async with asyncio.timeout(SEND_S):
            mine.writer.write(head + body[:PIECE_BYTES])
            for at in range(PIECE_BYTES, len(body), PIECE_BYTES):
                await mine.writer.drain()
                mine.writer.write(body[at : at + PIECE_BYTES])
            await mine.writer.drain()

    async def _answered(self, request: Request) -> tuple[bytes, bytes]:
        if self._doors.guard and not await self._doors.guard.admits(request.fields.get("authorization")):
            return _answer(HTTPStatus.UNAUTHORIZED, request.stays, 'WWW-Authenticate: Basic realm="ctobserve"'), b""
        if request.method not in ("GET", "HEAD"):
            return _answer(HTTPStatus.METHOD_NOT_ALLOWED, request.stays, "Allow: GET, HEAD"), b""
        if request.path == "/":
            return _headed("text/html; charset=utf-8", INDEX, request.stays)
        if request.path != METRICS:
            return _answer(HTTPStatus.NOT_FOUND, request.stays), b""
        try:
            content = await self._shared.get()
            accept = request.fields.get("accept", "")
            content_type, body = await asyncio.get_running_loop().run_in_executor(self._worker, content.of, accept)
        except Exception as error:
            self._say_once(f"a scrape failed: {type(error).__name__}: {error}")
            return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, request.stays), b""
        return _headed(content_type, body, request.stays)

    def _say_once(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._say(line)


def _headed(content_type: str, body: bytes, stays: bool) -> tuple[bytes, bytes]:
    return _head(HTTPStatus.OK, len(body), stays, f"Content-Type: {content_type}"), body


def _answer(status: HTTPStatus, stays: bool = False, *fields: str) -> bytes:
    return _head(status, 0, stays, *fields)


def _head(status: HTTPStatus, length: int, stays: bool, *fields: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        *fields,
        f"Content-Length: {length}",
        f"Connection: {'keep-alive' if stays else 'close'}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
