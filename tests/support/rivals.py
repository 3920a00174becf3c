"""A deployment in a process of its own, beside others of the same disk: started, held up, killed.

``python -m tests.support.rivals KIND DEVICE IMAGE`` plans, says "planned", begins when a line comes, says "phase PHASE"
as each begins and "begun" when it begins to wait for the lock, and at the end, in JSON, how that was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from libironic_disk.errors import DeviceError, DiskError
from libironic_disk.events import Event, PhaseStarted
from tests.support import deployments
from tests.support.deployments import Deployment, Kind

DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a deployment ended: ``done``, or the name of an error's class and what it says."""

    name: str
    disk: str = ""
    device: str = ""
    text: str = ""


def outcome_of(work: Callable[[], object]) -> Outcome:
    """Do something and say how it ended; only errors of the library's are an outcome."""
    try:
        work()
    except DiskError as error:
        device = error.device if isinstance(error, DeviceError) else ""
        return Outcome(name=type(error).__name__, disk=str(error.disk), device=device, text=str(error))
    return Outcome(name=DONE)


class Rival:
    """Such a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def wait_for(self, said: str) -> None:
        """Wait until it says so."""
        for line in self._lines():
            if line == said:
                return
        raise AssertionError(f"it ended with {self.process.wait()} and never said {said!r}")

    def go(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """Send it SIGKILL, and wait for its end."""
        self.process.kill()
        self.process.wait()

    def outcome(self) -> Outcome:
        """Wait for its end, and return how that was."""
        *_, last = self._lines()
        assert self.process.wait() == 0
        return Outcome(**json.loads(last))

    def _lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        return (line.rstrip("\n") for line in self.process.stdout)


@contextmanager
def rival(deployment: Deployment, *, lock_timeout: float, pause_at: str = "") -> Iterator[Rival]:
    """Start a process that deploys, and wait until it has planned; it is killed at the end if it still runs."""
    argv = [sys.executable, "-m", "tests.support.rivals", deployment.kind, deployment.device, str(deployment.image)]
    argv += ["--seed", deployment.seed, "--lock-timeout", str(lock_timeout), "--pause-at", pause_at]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        started = Rival(process)
        try:
            started.wait_for("planned")
            yield started
        finally:
            if process.poll() is None:
                process.kill()


def main(arguments: list[str]) -> int:
    """Be the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", type=Kind)
    parser.add_argument("device")
    parser.add_argument("image", type=Path)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--lock-timeout", type=float, required=True)
    parser.add_argument("--pause-at", default="", help="the phase that begins only when a line comes")
    options = parser.parse_args(arguments)
    deployment = Deployment(kind=options.kind, device=options.device, image=options.image, seed=options.seed)
    wanted = deployment.plan()
    print("planned", flush=True)
    sys.stdin.readline()

    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted):
            print("phase", event.phase, flush=True)
            if event.phase == options.pause_at:
                sys.stdin.readline()

    print("begun", flush=True)
    ended = outcome_of(lambda: deployments.apply(wanted, sink=sink, lock_timeout=options.lock_timeout))
    print(json.dumps(asdict(ended)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
