"""Stands between openbell and a server, and does what servers and networks do on bad days.

Arguments: NAME:PROTOCOL:PORT:SERVERPORT ..., all on 127.0.0.1; PROTOCOL is tcp, mongo, kafka, elasticsearch or s3.

Reads orders from standard input, one JSON object a line, and answers each with a line:

    {"name": "mongo", "mode": "cut", "p": 0.2}   ->   {"requests": 57, "faults": 0}

the figures being those of the time before the order. Modes:

    pass      nothing happens
    refuse    nobody listens, and open connections are reset
    delay     every reply comes "from" to "to" seconds late, in its order
    cut       with probability p, half of a request reaches the server and the connection is reset
    swallow   with probability p, a request reaches the server, and the connection is reset when its reply comes
    status    (HTTP) with probability p, a request is answered with "status" and does not reach the server
    items     (elasticsearch) every item of a bulk call is refused with 429 with probability p; the others are written
    conflict  (s3) with probability p, a put is written and answered with 412, as if another writer had been faster

"only" restricts status and swallow to requests whose first line holds this text.

When a server does not listen, this does not listen either, so that its clients are refused as they would be without it.
A Kafka broker names its own address to clients; in its answers this puts its own port in place of the broker's.
"""

import asyncio
import contextlib
import json
import random
import struct
import sys

HOST = "127.0.0.1"


class Reset(Exception):
    """Both sides' connections end now."""


class Listener:
    def __init__(self, name, protocol, port, server_port):
        self.name, self.protocol, self.port, self.server_port = name, protocol, port, server_port
        self.mode = {"mode": "pass"}
        self.requests = self.faults = 0
        self.socket = None
        self.open = set()
        self.watching = None

    async def listen(self):
        if self.socket is None:
            self.socket = await asyncio.start_server(self.serve, HOST, self.port, limit=1 << 24)

    async def hush(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        for writer in list(self.open):
            writer.transport.abort()

    async def order(self, order):
        figures = {"requests": self.requests, "faults": self.faults}
        self.requests = self.faults = 0
        before, self.mode = self.mode, order
        if order["mode"] == "refuse":
            await self.hush()
        elif before["mode"] == "refuse":
            await self.listen()
        return figures

    def watch(self):
        """Listens again when the server does."""
        if self.watching is None or self.watching.done():
            self.watching = asyncio.create_task(self.until_back())

    async def until_back(self):
        await self.hush()
        while True:
            await asyncio.sleep(0.05)
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(HOST, self.server_port)
                writer.transport.abort()
                break
        if self.mode["mode"] != "refuse":
            await self.listen()

    def hit(self):
        if random.random() >= self.mode.get("p", 1):
            return False
        self.faults += 1
        return True

    async def serve(self, reader, writer):
        try:
            upstream = await asyncio.open_connection(HOST, self.server_port, limit=1 << 24)
        except OSError:
            writer.transport.abort()
            self.watch()
            return
        self.open.add(writer)
        try:
            if self.protocol in ("elasticsearch", "s3"):
                await self.http(reader, writer, *upstream)
            else:
                await self.stream(reader, writer, *upstream)
        except (Reset, OSError, EOFError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.open.discard(writer)
            writer.transport.abort()
            upstream[1].transport.abort()

    # --- protocols of messages with a length, and plain bytes -------------------------------------------------------------

    async def message(self, reader):
        if self.protocol == "kafka":
            head = await reader.readexactly(4)
            return head + await reader.readexactly(struct.unpack(">i", head)[0])
        if self.protocol == "mongo":
            head = await reader.readexactly(4)
            return head + await reader.readexactly(struct.unpack("<i", head)[0] - 4)
        some = await reader.read(1 << 16)
        if not some:
            raise EOFError
        return some

    async def stream(self, reader, writer, from_server, to_server):
        doomed = asyncio.Event()
        late = asyncio.Queue()

        async def requests():
            while True:
                message = await self.message(reader)
                self.requests += 1
                mode = self.mode["mode"]
                if mode == "cut" and self.hit():
                    to_server.write(message[: len(message) // 2])
                    await to_server.drain()
                    raise Reset
                if mode == "swallow" and self.hit():
                    doomed.set()
                to_server.write(message)
                await to_server.drain()

        async def replies():
            clock = asyncio.get_running_loop().time
            while True:
                message = await self.message(from_server)
                if doomed.is_set():
                    raise Reset
                if self.protocol == "kafka":
                    message = self.own_port(message)
                due = clock()
                if self.mode["mode"] == "delay":
                    due += random.uniform(self.mode["from"], self.mode["to"])
                    self.faults += 1
                late.put_nowait((due, message))

        async def deliver():
            clock = asyncio.get_running_loop().time
            while True:
                due, message = await late.get()
                await asyncio.sleep(max(0, due - clock()))
                writer.write(message)
                await writer.drain()

        tasks = [asyncio.create_task(part()) for part in (requests, replies, deliver)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def own_port(self, message):
        """In answers a host is a text and its port the four bytes after it."""
        host = HOST.encode()
        return message.replace(host + struct.pack(">i", self.server_port), host + struct.pack(">i", self.port))

    # --- HTTP -------------------------------------------------------------------------------------------------------------

    async def http(self, reader, writer, from_server, to_server):
        while True:
            request = await read_http(reader, writer)
            self.requests += 1
            mode = self.mode["mode"]
            aimed = self.mode.get("only", "") in request.first
            if mode == "cut" and self.hit():
                whole = request.bytes()
                to_server.write(whole[: len(whole) // 2])
                await to_server.drain()
                raise Reset
            if mode == "status" and aimed and self.hit():
                writer.write(refusal(self.protocol, self.mode["status"], request.head_only))
                await writer.drain()
                continue
            left_out = None
            if mode == "items" and "_bulk" in request.first:
                left_out = self.leave_out_items(request)
            lost = mode == "swallow" and aimed and self.hit()
            put = mode == "conflict" and request.first.startswith("PUT ") and self.hit()
            if left_out and not request.body:
                answer = bulk_answer({"took": 1, "errors": True, "items": []}, left_out)
            else:
                to_server.write(request.bytes())
                await to_server.drain()
                answer = await read_http(from_server, None, reply_to=request)
                if left_out:
                    answer = bulk_answer(json.loads(answer.plain()), left_out)
                else:
                    answer = answer.bytes()
            if lost:
                raise Reset
            if put:
                answer = refusal("s3", 412, False)
            if mode == "delay":
                self.faults += 1
                await asyncio.sleep(random.uniform(self.mode["from"], self.mode["to"]))
            writer.write(answer)
            await writer.drain()

    def leave_out_items(self, request):
        """Takes items out of a bulk call; gives the answers for all places, None for those that the server answers."""
        lines = request.plain().split(b"\n")
        kept, answers = [], []
        for action, source in zip(lines[0::2], lines[1::2]):
            if not action:
                continue
            if random.random() < self.mode["p"]:
                self.faults += 1
                (kind, about), = json.loads(action).items()
                error = {"type": "es_rejected_execution_exception", "reason": "rejected execution of coordinating operation"}
                answers.append({kind: {"_index": about.get("_index"), "_id": about.get("_id"), "status": 429, "error": error}})
            else:
                kept += [action, source]
                answers.append(None)
        if all(answer is None for answer in answers):
            return None
        request.replace(b"\n".join(kept) + b"\n" if kept else b"")
        return answers


class Message:
    def __init__(self, head, body, chunked):
        self.head, self.body, self.chunked = head, body, chunked
        self.first = head.split(b"\r\n", 1)[0].decode("latin-1")
        self.head_only = self.first.startswith("HEAD ")

    def bytes(self):
        return self.head + self.body

    def plain(self):
        """The body without the marks of its parts."""
        if not self.chunked:
            return self.body
        text, rest = b"", self.body
        while True:
            size, rest = rest.split(b"\r\n", 1)
            size = int(size.split(b";")[0], 16)
            if size == 0:
                return text
            text, rest = text + rest[:size], rest[size + 2 :]

    def replace(self, body):
        lines = [line for line in self.head.split(b"\r\n") if not header_is(line, "content-length", "transfer-encoding", "accept-encoding")]
        lines.insert(1, b"content-length: %d" % len(body))
        self.head, self.body, self.chunked = b"\r\n".join(lines), body, False


def header_is(line, *names):
    return line.split(b":", 1)[0].strip().lower().decode("latin-1") in names


def headers_of(head):
    lines = [line.decode("latin-1") for line in head.split(b"\r\n")[1:] if b":" in line]
    return {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}


async def read_http(reader, writer, reply_to=None):
    head = await reader.readuntil(b"\r\n\r\n")
    headers = headers_of(head)
    status = int(head.split(b" ", 2)[1]) if reply_to else 0
    if reply_to and 100 <= status < 200:
        return await read_http(reader, writer, reply_to)
    if not reply_to and headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = b"\r\n".join(line for line in head.split(b"\r\n") if not header_is(line, "expect"))
    if reply_to and (reply_to.head_only or status in (204, 304)):
        return Message(head, b"", False)
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = b""
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            body += line + await reader.readexactly(size + 2)
            if size == 0:
                return Message(head, body, True)
    if "content-length" in headers:
        return Message(head, await reader.readexactly(int(headers["content-length"])), False)
    return Message(head, await reader.read() if reply_to else b"", False)


S3_CODES = {409: "ConditionalRequestConflict", 412: "PreconditionFailed", 500: "InternalError", 503: "SlowDown"}
REASONS = {409: "Conflict", 412: "Precondition Failed", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


def refusal(protocol, status, head_only):
    if protocol == "s3":
        kind = "application/xml"
        body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{S3_CODES[status]}</Code><Message>refused on demand</Message></Error>'
    else:
        kind = "application/json"
        what = "es_rejected_execution_exception" if status == 429 else "unavailable_shards_exception"
        body = json.dumps({"error": {"type": what, "reason": "refused on demand"}, "status": status})
    return answer_of(status, kind, "" if head_only else body)


def answer_of(status, kind, body):
    body = body.encode()
    head = f"HTTP/1.1 {status} {REASONS.get(status, 'OK')}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def bulk_answer(answer, places):
    if "items" not in answer:
        raise Reset
    written = iter(answer["items"])
    answer["items"] = [place or next(written) for place in places]
    answer["errors"] = True
    return answer_of(200, "application/json", json.dumps(answer))


async def main():
    listeners = {}
    for argument in sys.argv[1:]:
        name, protocol, port, server_port = argument.split(":")
        listeners[name] = Listener(name, protocol, int(port), int(server_port))
    for listener in listeners.values():
        await listener.listen()
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print(json.dumps({"ready": sorted(listeners)}), flush=True)
    while line := await orders.readline():
        order = json.loads(line)
        print(json.dumps(await listeners[order["name"]].order(order)), flush=True)


asyncio.run(main())
