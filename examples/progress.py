"""A progress bar for deployments, on the console."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from libironic_disk.events import BytesMoved, Event, EventSink, Phase, PhaseFinished, PhaseStarted


@contextmanager
def progress_bar(console: Console) -> Iterator[EventSink]:
    """Show a deployment: a line for each phase that ended, and a bar while an image is copied."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        details: dict[Phase, str] = {}
        tasks: dict[Phase, TaskID] = {}

        def sink(event: Event) -> None:
            match event:
                case PhaseStarted():
                    details[event.phase] = event.detail
                case BytesMoved():
                    if event.phase not in tasks:
                        tasks[event.phase] = progress.add_task(event.phase, total=event.total)
                    progress.update(tasks[event.phase], completed=event.done, total=event.total)
                case PhaseFinished():
                    console.print(f"{event.phase:<13} {event.seconds:6.2f} s  {details[event.phase]}", soft_wrap=True)

        yield sink
