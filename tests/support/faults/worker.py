"""A call of the library in a process of its own, which may be killed, and whose system calls may be held."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import pickle
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from libironic_disk.events import Cancellation, EventSink, ignore
from tests.support.faults import holdings
from tests.support.faults.listening import Call, Listener, listen
from tests.support.inside import patience

DEADLINE: Final = patience(100.0)
"""Seconds after which a call counts as hanging; a quiet machine needs two, an emulated one 50 to count all faults."""

_PR_SET_CHILD_SUBREAPER: Final = 36
_CLONE_NEWNS: Final = 0x00020000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 0x40000

Work = Callable[[EventSink, Cancellation], object]
Inside = Callable[[Work, EventSink, Cancellation], object]
"""Makes the call in the worker, with whatever a fault puts around it there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a call ended: with a value, with an error, or by a signal; what it still held then."""

    value: object = None
    error: BaseException | None = None
    trace: str = ""
    signal: int = 0
    leaked: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    """Programs that outlived the worker."""


def plainly(work: Work, sink: EventSink, switch: Cancellation) -> object:
    """Make the call, with nothing around it."""
    return work(sink, switch)


class Held:
    """Who decides on a worker's system calls, and what it can do to the worker."""

    def __init__(self, calls: frozenset[str], decide: Callable[[Call, Held], int]) -> None:
        self.calls = calls
        self.worker = 0
        self.decide = decide
        self._line: socket.socket | None = None

    def kill(self) -> None:
        """Kill the worker: no clean-up of its own runs."""
        os.kill(self.worker, signal.SIGKILL)

    def cancel(self) -> None:
        """Let the worker throw the switch that its call was given."""
        assert self._line is not None
        self._line.send(b"c")

    def serve(self, listener: int, worker: int, line: socket.socket) -> Listener:
        self.worker, self._line = worker, line
        return Listener(listener, lambda call: self.decide(call, self))


def run(
    work: Work,
    *,
    inside: Inside = plainly,
    held: Held | None = None,
    sees_mounts: bool = False,
) -> Ended:
    """Make a call in a forked process and return how it ended.

    It has a view of the machine's mounts for itself, in which those that others make and dissolve meanwhile are not its
    own; with ``sees_mounts`` it shares the machine's, in which a process that is killed leaves what it mounted.

    Raises:
        TimeoutError: it was killed because it did not end.
    """
    # What a program leaves behind becomes our child, so that it is seen.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    known = set(holdings.children())
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _work(theirs, work, inside, held.calls if held else frozenset(), sees_mounts=sees_mounts)
    theirs.close()
    listener = None
    try:
        if held is not None:
            _, (descriptor,), _, _ = socket.recv_fds(ours, 1, 1)
            listener = held.serve(descriptor, pid, ours)
            ours.send(b"g")
        said = _everything(ours, pid)
    finally:
        ours.close()
        _, status = os.waitpid(pid, 0)
        orphans = _buried(known)
        # Else what other tests leave to the system would become ours from here on.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0)
        if listener is not None:
            listener.join()
    if os.WIFSIGNALED(status):
        return Ended(signal=os.WTERMSIG(status), orphans=orphans)
    ended = pickle.loads(said)  # noqa: S301 (our own child wrote it)
    assert isinstance(ended, Ended)
    return Ended(value=ended.value, error=ended.error, trace=ended.trace, leaked=ended.leaked, orphans=orphans)


def _everything(line: socket.socket, pid: int) -> bytes:
    line.settimeout(DEADLINE)
    pieces = []
    try:
        while piece := line.recv(1 << 20):
            pieces.append(piece)
    except ConnectionResetError:
        return b""
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        raise TimeoutError(f"it did not end within {DEADLINE:g} s") from None
    return b"".join(pieces)


def _work(line: socket.socket, work: Work, inside: Inside, calls: frozenset[str], *, sees_mounts: bool) -> None:
    """Be the worker, and never return."""
    status = 1
    try:
        # What the parent had is not looked through for leaks of ours: that would take most of a try's time.
        gc.freeze()
        # The alarm of pytest's plugin is the parent's, and so are its handlers.
        signal.setitimer(signal.ITIMER_REAL, 0)
        # It keeps what is logged, with errors and all that was at work in them.
        logging.disable()
        for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        if not sees_mounts:
            _keep_mounts_apart()
        switch = Cancellation()
        if calls:
            socket.send_fds(line, [b"l"], [descriptor := listen(calls)])
            os.close(descriptor)
            line.recv(1)
            threading.Thread(target=_obey, args=(line, switch), name="switch", daemon=True).start()
        before = holdings.held()
        value, failed, trace = None, None, ""
        try:
            value = inside(work, ignore, switch)
        except BaseException as error:
            failed, trace = error, traceback.format_exc()
            # Its frames hold whatever was at work, and nothing of that is a leak once they are gone.
            _forget(error)
        leaked = holdings.leaked_since(before)
        line.sendall(pickle.dumps(Ended(value=value, error=failed, trace=trace, leaked=leaked)))
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _keep_mounts_apart() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "a namespace of mounts")


def _forget(error: BaseException | None) -> None:
    while error is not None:
        error.__traceback__ = None
        _forget(error.__context__ if error.__context__ is not error.__cause__ else None)
        error = error.__cause__


def _obey(line: socket.socket, switch: Cancellation) -> None:
    try:
        if line.recv(1) == b"c":
            switch.cancel()
    except OSError:
        return


def _buried(known: set[int]) -> tuple[str, ...]:
    """Kill and reap what the worker left behind, and return the names of those that still ran."""
    running = []
    for pid in holdings.children():
        if pid in known:
            continue
        ended, _ = os.waitpid(pid, os.WNOHANG)
        if not ended:
            running.append(pid)
    # With the worker gone, the kernel is killing them (PR_SET_PDEATHSIG); who is still there after that is left behind.
    names = []
    for pid in running:
        if not _ends(pid):
            names.append(holdings.children().get(pid, str(pid)))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return tuple(names)


def _ends(pid: int) -> bool:
    for _ in range(40):
        ended, _ = os.waitpid(pid, os.WNOHANG)
        if ended:
            return True
        threading.Event().wait(0.05)
    return False
