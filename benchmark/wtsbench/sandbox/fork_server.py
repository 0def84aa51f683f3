"""The client of a fork server: the preloaded parent process that forks a child for every trial.

It is a process beside this one, reached through pipes, or the first process of a container, reached through FIFOs
(`contained`); this module serves both. The fork server ends when its client dies, in whatever way: the kernel then
closes the requests, and it reads their end.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from wtsbench.contract.messages import Answer, Gone, Kill, Start
from wtsbench.sandbox.environment import process_environment


class Channel(Protocol):
    """The process of a fork server, and both directions of the protocol (`wtsbench.worker.fork_server`)."""

    def send(self, line: bytes) -> None:
        """Hand over a request. Raises OSError or ValueError where the fork server has ended."""

    def answers(self) -> Iterator[bytes]:
        """Its answers, line by line, until it ends."""

    @property
    def running(self) -> bool:
        """Whether it has not ended yet, as far as can be told at once."""

    def farewell(self) -> Gone:
        """How it ended, to be called after the last answer: `gone`, with a `reason` and its last output (`said`)."""

    def kill(self) -> None:
        """End it at once; its children end with it."""

    def close(self) -> None:
        """Have it end, wait for that, and remove what it needed."""


AnyChannel = TypeVar("AnyChannel", bound=Channel, covariant=True)


class ForkServer(Generic[AnyChannel]):
    """One fork server. Safe to use from several threads; children are told apart by an id."""

    def __init__(self, channel: AnyChannel) -> None:
        self.channel = channel
        self.ready = threading.Event()
        """Set once it has loaded its libraries, or has ended."""
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._farewell: Gone | None = None
        self._answers: dict[str, queue.SimpleQueue[Answer]] = {}
        self._reader = threading.Thread(target=self._read, name="fork server answers", daemon=True)
        self._reader.start()
        atexit.register(self.close)

    @property
    def alive(self) -> bool:
        """Whether it can still run trials."""
        return self._farewell is None and self.channel.running

    def start(self, request: Start) -> queue.SimpleQueue[Answer]:
        """Ask for a child; all answers about it come through the queue.

        The last answer is `ended` or `refused`, or `gone` where the fork server has ended.
        """
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        with self._lock:
            self._answers[request["id"]] = answers
            if self._farewell is not None:
                answers.put(self._farewell)
        self._send(request)
        return answers

    def signal(self, job: str, number: signal.Signals) -> None:
        """Send a signal to a child's process group."""
        self._send({"id": job, "signal": int(number)})

    def forget(self, job: str) -> None:
        """No more answers are wanted for a job."""
        with self._lock:
            self._answers.pop(job, None)

    def kill(self) -> None:
        """End the fork server at once; its children end with it."""
        self.channel.kill()

    def close(self) -> None:
        """End the fork server and with it its children. Does nothing in a process that only inherited it."""
        if os.getpid() != self._owner:
            return
        self.channel.close()
        self._reader.join(timeout=5)
        atexit.unregister(self.close)

    def _send(self, message: Start | Kill) -> None:
        with contextlib.suppress(OSError, ValueError), self._lock:  # it has died: `_read` then sends `gone` to all
            self.channel.send(json.dumps(message).encode() + b"\n")

    def _read(self) -> None:
        try:
            for line in self.channel.answers():
                answer: Answer = json.loads(line)
                if answer["event"] == "ready":
                    self.ready.set()
                with self._lock:
                    waiting = self._answers.get(str(answer.get("id")))
                if waiting is not None:
                    waiting.put(answer)
        except (ValueError, KeyError, TypeError):  # what sends such answers does not work as a fork server any more
            self.channel.kill()
        farewell = self.channel.farewell()
        with self._lock:
            self._farewell = farewell
            for waiting in self._answers.values():
                waiting.put(farewell)
        self.ready.set()


class ProcessChannel:
    """A fork server as a child process of this one, with pipes as its standard input and output."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- open as long as the fork server
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "wtsbench.worker.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=dict(environment),
            cwd="/",
            start_new_session=True,  # a terminal's Ctrl-C reaches the supervisor only, which then stops the trials
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    @property
    def pid(self) -> int:
        """Process id of the fork server itself."""
        return self._process.pid

    def send(self, line: bytes) -> None:
        """Hand over a request."""
        self._requests.write(line)
        self._requests.flush()

    def answers(self) -> Iterator[bytes]:
        """Its answers."""
        yield from self._answers

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def farewell(self) -> Gone:
        """Its exit code, and the end of what it wrote to standard error."""
        self._answers.close()
        self._process.wait()
        with self._errors:
            self._errors.seek(0, os.SEEK_END)
            self._errors.seek(max(0, self._errors.tell() - 2_000))
            output = self._errors.read().decode(errors="replace").strip()
        return {"event": "gone", "reason": f"exit code {self._process.returncode}", "said": output}

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def close(self) -> None:
        """End its standard input, and wait."""
        with contextlib.suppress(OSError, ValueError):
            self._requests.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


_fork_servers: dict[tuple[int, int], ForkServer[ProcessChannel]] = {}
"""By process id, as a forked process needs its own, and number of threads, which libraries read when loaded."""
_fork_servers_lock = threading.Lock()


def fork_server_for(threads: int) -> ForkServer[ProcessChannel]:
    """The fork server beside this process; a new one if there is none or the last one has died."""
    key = (os.getpid(), threads)
    with _fork_servers_lock:
        server = _fork_servers.get(key)
        if server is None or not server.alive:
            server = _fork_servers[key] = ForkServer(ProcessChannel(process_environment(threads)))
        return server
