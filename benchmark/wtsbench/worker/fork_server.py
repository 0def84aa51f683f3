"""The fork server: one process that loads torch and transformers once, then forks a child for every trial.

Loading the libraries takes longer than a small trial; a fork of a process that has them takes milliseconds. Nothing
else is shared: a child is a process group of its own and computes bit for bit what `python -m wtsbench.trial` does.

    python -m wtsbench.worker.fork_server            beside its supervisor: requests on standard input, answers on
                                                     standard output
    python -m wtsbench.worker.fork_server FOLDER     the first process of a container: the FIFOs FOLDER/requests and
                                                     FOLDER/answers, and the lease FOLDER/lease

Requests and answers are those of `contract.messages`. At the end of the requests every child is killed, and the server
exits with 0 once they are gone. The same happens, with `ExitCode.NO_RESULT`, when the lease is not renewed any more:
the server watches it independently of what its trials compute.

A child that is killed leaves the server and its siblings alone; a server that is killed takes its children with it
(`PR_SET_PDEATHSIG`, and their leases). Standard error of the server is for people. In a container it runs a single
trial, and before it answers `ended` it kills every other process there (`init`).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import selectors
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NoReturn

from wtsbench.contract.folder import LEASE, ExitCode, FolderLayout
from wtsbench.contract.messages import Answer, Kill, Start
from wtsbench.trial import environment
from wtsbench.worker import init
from wtsbench.worker.lease import Lease, watch

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Serve until the requests end."""
    if arguments:
        folder = Path(arguments[0])
        init.close_to_children()
        requests, answers, early = init.open_fifos(folder)
        if early is None:
            return 0
        server = ForkServer(requests, answers, lease=Lease(folder / LEASE), contained=True, pending=early)
        with init.ending_with(requests):
            preload()
    else:
        server = ForkServer(sys.stdin.buffer, _claim_standard_output())
        preload()
    return server.serve()


def preload() -> None:
    """Import what every trial needs. Computes nothing: no thread pool and no CUDA context may exist before a fork."""
    environment.prepare()
    from wtsbench.trial import models, run

    models.preload()
    run.preload()
    # Arrow imports pandas, where it is installed, with its first value: 0.2 s of CPU, else in every trial.
    import pyarrow as pa

    pa.scalar(0)


def _claim_standard_output() -> BinaryIO:
    """A private handle for answers; what libraries print then goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return answers


@dataclass
class ForkServer:
    """The running children, and the two ends of the protocol."""

    requests: BinaryIO
    answers: BinaryIO
    lease: Lease | None = None
    contained: bool = False
    """Whether this is the first process of a container."""
    pending: bytes = b""
    """Bytes of requests that were read and not served yet."""
    children: dict[int, str] = field(default_factory=dict)
    """Process id to the id of the request."""

    def serve(self) -> int:
        """Start trials as requested and answer how they end."""
        gc.collect()
        gc.freeze()  # a collection in a child would touch, and so copy, every inherited object
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the supervisor decides
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._answer({"event": "ready"})
        source = self.requests.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(source, selectors.EVENT_READ)
            selector.register(wake_read, selectors.EVENT_READ)
            ready = {source} if self.contained else set()  # requests that were read before have to be served
            while True:
                if source in ready:
                    chunk = _read(source)
                    if chunk == b"":
                        break
                    *lines, self.pending = (self.pending + (chunk or b"")).split(b"\n")
                    for line in lines:
                        self._serve_line(line, private=(wake_read, wake_write))
                ready = {key.fd for key, _ in selector.select(self.lease.pause if self.lease is not None else None)}
                if wake_read in ready:
                    _drain(wake_read)
                self._reap()
                if self.lease is not None and self.lease.expired():
                    self._close()
                    return ExitCode.NO_RESULT
        return self._close()

    def _serve_line(self, line: bytes, private: tuple[int, ...]) -> None:
        if not line.strip():
            return
        identity: str | None = None
        try:
            request: Start | Kill = json.loads(line)
            identity = str(request["id"])
            if "signal" in request:
                self._signal(identity, int(request["signal"]))
                return
            if identity in self.children.values() or (self.contained and self.children):
                raise ValueError(f"{identity if not self.contained else 'a trial'} is running already")
            self._start(identity, Path(request["folder"]), request, private)
        except (ValueError, KeyError, TypeError, OSError) as error:
            self._answer({"id": identity, "event": "refused", "reason": f"{type(error).__name__}: {error}"})

    def _start(self, identity: str, folder: Path, request: Start, private: tuple[int, ...]) -> None:
        if not FolderLayout(folder).spec.is_file():
            raise FileNotFoundError(f"{folder} is not a trial folder")
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        parent = os.getpid()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            if self.contained:
                init.open_child()
                private = (*private, self.requests.fileno())
            _run_child(folder, log, request, parent, (*private, self.answers.fileno()))
        os.close(log)
        with contextlib.suppress(PermissionError, ProcessLookupError):  # the child did it first, or has ended
            os.setpgid(child, child)  # in both processes, so that the group exists before either goes on
        self.children[child] = identity
        self._answer({"id": identity, "event": "started", "pid": child})

    def _signal(self, identity: str, number: int) -> None:
        for pid, running in self.children.items():
            if running == identity:
                _kill_group(pid, number)

    def _reap(self, *, wait: bool = False) -> None:
        for pid, identity in list(self.children.items()):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | (0 if wait else os.WNOHANG)) is None:
                continue
            _kill_group(pid, signal.SIGKILL)  # processes the trial started; its id is not reused before waitpid
            _, status = os.waitpid(pid, 0)
            del self.children[pid]
            if self.contained:
                init.end_all_others()
            killed = os.WIFSIGNALED(status)
            self._answer(
                {
                    "id": identity,
                    "event": "ended",
                    "exit_code": None if killed else os.waitstatus_to_exitcode(status),
                    "signal": os.WTERMSIG(status) if killed else None,
                    "memory_kills": init.memory_kills() if self.contained else 0,
                }
            )
        if self.contained and not wait:
            init.reap_strangers(set(self.children))

    def _close(self) -> int:
        for pid in self.children:
            _kill_group(pid, signal.SIGKILL)
        self._reap(wait=True)
        return 0

    def _answer(self, answer: Answer) -> None:
        with contextlib.suppress(BrokenPipeError):  # the supervisor is gone; the end of the requests follows
            self.answers.write(json.dumps(answer).encode() + b"\n")


def _run_child(folder: Path, log: int, request: Start, parent: int, private: tuple[int, ...]) -> NoReturn:
    """The child, from fork to exit. Never returns, so that nothing of the fork server's own code runs twice."""
    code: int = ExitCode.NO_RESULT
    try:
        os.setpgid(0, 0)
        die_with_parent(parent)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for handle in (null, log, *private):
            os.close(handle)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        limit = request["file_bytes"] if hard == resource.RLIM_INFINITY else min(request["file_bytes"], hard)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        os.environ.update(request["environment"])
        from wtsbench.trial.run import run_folder

        watch(FolderLayout(folder).lease)
        code = run_folder(folder)
    except BaseException:  # noqa: BLE001  # reported, and this process ends either way
        import traceback

        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before the call
        os._exit(ExitCode.NO_RESULT)


def _kill_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing of the group is left
        os.killpg(pid, number)


def _read(source: int) -> bytes | None:
    """What can be read now: None if there is nothing for now, empty at the end."""
    try:
        return os.read(source, 1 << 16)
    except BlockingIOError:
        return None


def _drain(handle: int) -> None:
    try:
        while os.read(handle, 4096):
            pass
    except BlockingIOError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
