"""A chat service whose sessions live in files, and that survives `kill -9`.

    python examples/chat_service.py serve --state DIRECTORY [--port PORT]
    python examples/chat_service.py demo

The service speaks JSON lines over TCP: {"session": id or null, "text": "..."} asks, and the answer streams back as
{"session": id}, {"delta": "..."} …, {"done": message id}. {"session": id, "history": true} gives the conversation.

`demo` starts the service, talks to it, kills it in the middle of an answer, starts it again, and shows that nothing
that was acknowledged is gone: the question is there, and the half answer too, marked as interrupted.
"""

import argparse
import asyncio
import json
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import fsstate


async def answer(text: str) -> AsyncIterator[str]:
    """Stands in for a language model: says the question back, a word at a time."""
    for word in f"You said: {text}".split():
        await asyncio.sleep(0.05)
        yield word + " "


class ChatService:
    """One store, any number of connections."""

    def __init__(self, store: fsstate.AsyncStore) -> None:
        self.store = store

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            try:
                async for reply in self.reply(json.loads(line)):
                    writer.write(json.dumps(reply).encode() + b"\n")
                    await writer.drain()
            except (fsstate.FsStateError, ValueError) as error:
                writer.write(json.dumps({"error": str(error)}).encode() + b"\n")
        writer.close()

    async def reply(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        if request.get("history"):
            conversation = await self.store.session(request["session"]).messages.list()
            yield {"history": [[message.role, message.status, message.text] for message in conversation]}
            return
        session_id = request.get("session") or (await self.store.sessions.create()).id
        yield {"session": session_id}
        messages = self.store.session(session_id).messages
        await messages.append("user", request["text"])  # on disk before the model is asked
        async with messages.stream("assistant", model="echo") as reply:
            async for delta in answer(request["text"]):
                await reply.write(delta)  # on disk before the client sees it
                yield {"delta": delta}
        yield {"done": reply.id}


async def serve(directory: str, port: int) -> None:
    async with fsstate.AsyncStore(directory) as store:
        server = await asyncio.start_server(ChatService(store).connected, "127.0.0.1", port)
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await server.serve_forever()


class Client:
    """A service in a process of its own, and a connection to it."""

    def __init__(self, directory: str) -> None:
        command = [sys.executable, __file__, "serve", "--state", directory]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.connection = socket.create_connection(("127.0.0.1", json.loads(self.process.stdout.readline())["port"]))
        self.lines = self.connection.makefile("rw")

    def send(self, **request: object) -> None:
        self.lines.write(json.dumps(request) + "\n")
        self.lines.flush()

    def receive(self) -> dict[str, Any]:
        return dict(json.loads(self.lines.readline()))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.lines.close()
        self.connection.close()
        assert self.process.stdout is not None
        self.process.stdout.close()


def demo() -> None:
    with tempfile.TemporaryDirectory() as directory:
        client = Client(directory)
        client.send(text="remember the milk")
        session = client.receive()["session"]
        while "done" not in client.receive():
            pass
        client.send(session=session, text="and the bread, and the butter, and the jam")
        client.receive()
        heard = [client.receive()["delta"] for _ in range(4)]
        client.kill()
        print("killed after hearing:", "".join(heard))

        client = Client(directory)
        client.send(session=session, history=True)
        history = client.receive()["history"]
        client.kill()
        for role, status, text in history:
            print(f"{role} ({status}): {text}")
        assert history[-1][1] == "interrupted"
        assert history[-1][2].startswith("".join(heard)), "what the client heard must be there"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["serve", "demo"])
    parser.add_argument("--state", default="chat-state", help="the state directory")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    options = parser.parse_args()
    if options.command == "demo":
        demo()
    else:
        asyncio.run(serve(options.state, options.port))
