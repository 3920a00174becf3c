"""Somebody else's call from its start to its end, while the walked one waits at one of its steps."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from unittest import mock

from libironic_disk.errors import BootTaskBusy
from libironic_disk.events import Cancellation, EventSink
from tests.support.faults.fault import Counted, Counter, Put, counted
from tests.support.faults.listening import Call
from tests.support.faults.systemcalls import PLACES, WRITES
from tests.support.faults.work import Scene
from tests.support.faults.worker import Held, Work

_STEPS = WRITES | PLACES | {"openat", "openat2", "flock", "fsync"}
_IN_PYTHON = ("open", "mkdir", "rename", "link", "unlink", "rmdir", "fsync", "ftruncate")

Rival = Callable[[Scene], None]
"""Makes the other call in a scene, and whatever else leaves the scene as it would be without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnotherProcess:
    """Another process makes the other call."""

    name: str
    rival: Rival
    kills: bool = False
    stays: bool = False

    def put(self, scene: Scene, step: int) -> Put:
        """Put it in."""
        counter = Counter()

        def decide(call: Call, held: Held) -> int:
            target = call.target()
            if target is not None and scene.in_folders(target) and counter.here(step):
                _in_a_process(lambda: self.rival(scene))
            return 0

        return Put(held=Held(_STEPS, decide), count=lambda _: counter.seen)

    def is_right(self, error: BaseException) -> bool:
        """Only that somebody else was there first is one."""
        return isinstance(error, BootTaskBusy)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnotherThread:
    """Another thread of the same process makes the other call."""

    name: str
    rival: Rival
    kills: bool = False
    stays: bool = False

    def put(self, scene: Scene, step: int) -> Put:
        """Put it in."""

        def inside(work: Work, sink: EventSink, switch: Cancellation) -> object:
            counter = Counter()
            ours = threading.get_ident()
            failed: list[BaseException] = []

            def waiting(real: Callable[..., object]) -> Callable[..., object]:
                def call(*arguments: object, **more: object) -> object:
                    if threading.get_ident() == ours and counter.here(step):
                        _in_a_thread(lambda: self.rival(scene), failed)
                    return real(*arguments, **more)

                return call

            with ExitStack() as stack:
                for name in _IN_PYTHON:
                    stack.enter_context(mock.patch.object(os, name, waiting(getattr(os, name))))
                value = work(sink, switch)
            if failed:
                raise failed[0]
            return Counted(value=value, seen=counter.seen)

        return Put(inside=inside, count=counted)

    def is_right(self, error: BaseException) -> bool:
        """Only that somebody else was there first is one."""
        return isinstance(error, BootTaskBusy)


def _in_a_process(call: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            call()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status == 0, "the other call went wrong; its traceback is above"


def _in_a_thread(call: Callable[[], None], failed: list[BaseException]) -> None:
    def run() -> None:
        try:
            call()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="rival")
    thread.start()
    thread.join()
