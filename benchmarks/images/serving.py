"""An HTTP server for a directory of images: nginx, because it must not be what is measured."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_HOST: Final = "127.0.0.1"
_START_TIMEOUT: Final = 10
_END_TIMEOUT: Final = 10


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve the files of a directory to this machine; give the URL that their names are appended to.

    Raises:
        SystemExit: the server doesn't start.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="libironic_disk-bench-") as name:
        home = Path(name)
        (home / "nginx.conf").write_text(configuration(directory.absolute(), home, port))
        errors = home / "error.log"
        # Killed with us, whatever happens to us.
        argv = ["setpriv", "--pdeathsig", "KILL", "nginx", "-p", name, "-c", "nginx.conf", "-e", str(errors)]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                _wait_until_it_listens(process, port, errors)
                yield f"http://{_HOST}:{port}/"
                process.terminate()
                process.wait(_END_TIMEOUT)
            finally:
                process.kill()


def configuration(directory: Path, home: Path, port: int) -> str:
    """Return what nginx is told: one process, which ends when it is told to, and sendfile."""
    return f"""
daemon off;
master_process off;
pid {home}/pid;
events {{}}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    server {{
        listen {_HOST}:{port};
        root "{directory}";
    }}
}}
"""


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, errors: Path) -> None:
    until = time.monotonic() + _START_TIMEOUT
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection((_HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    said = errors.read_text(errors="replace") if errors.exists() else ""
    raise SystemExit(f"nginx doesn't start:\n{said[-4000:]}")
