"""Roots that were made to do harm, under a tracer: what is followed, started, written, left, and said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import hostile_roots, oracles
from tests.support.disks import attach
from tests.support.hostile_roots import HARD, HOSTILITIES, SOFT, innermost, outermost
from tests.support.hostile_trace import Bench, secrets_on

pytestmark = pytest.mark.loopdevice

READING = ("read", "set_up", "set_up_walking")
# Of those that differ for it; --all-hostile has the others.
INSTALLED = ("absolute link", "fifo", "hole of a TiB")
TOO_LARGE = ("hole of a TiB", "claims GiB")
Layer = Callable[[Iterable[str]], tuple[str, ...]]


def worked(
    hostile: Bench, tmp_path: Path, places: tuple[str, ...], hostility: str, works: Iterable[str]
) -> Mapping[str, Any]:
    folder = hostile_roots.tree(tmp_path / "tree", hostile.outside, places, hostility)
    image = hostile_roots.image(tmp_path / "image", folder)
    with attach(image, 512) as disk:
        answer = hostile.work(disk.node, {each: {} for each in works})
        oracles.check_filesystem("ext4", disk.node)
    assert not secrets_on(image)
    return answer


@pytest.mark.parametrize("hostility", HOSTILITIES)
@pytest.mark.parametrize("layer", [outermost, innermost], ids=["directories", "files"])
def test_what_a_system_can_do_without_is_passed_over(
    hostile: Bench, tmp_path: Path, layer: Layer, hostility: str, request: pytest.FixtureRequest
) -> None:
    """All places at once: none of them ends the work, so none hides another."""
    is_whole = request.config.getoption("--all-hostile", default=False)
    more = ("probe", "install_grub", "check") if is_whole or (layer is innermost and hostility in INSTALLED) else ()
    answer = worked(hostile, tmp_path, layer(SOFT), hostility, (*READING, *more))
    said = {name: each["said"] for name, each in answer.items() if each["error"]}
    if hostility in TOO_LARGE:
        # A UUID that has to be replaced, and can't be, is no small matter.
        assert {said.pop(name).rpartition(": ")[2] for name in READING[1:]} == {"it has more than 4194304 bytes"}
    else:
        assert answer["set_up"]["value"]["dropped"] == [f"UUID={hostile_roots.UUID} / ext4 defaults 0 1"]
    assert said == {}
    assert answer["read"]["value"]["kernels"] == ["/boot/vmlinuz-2", "/boot/vmlinuz-1"]
    if more:
        assert answer["install_grub"]["value"]["entries"] == ["/boot/vmlinuz-2", "/boot/vmlinuz-1"]
        assert answer["check"]["value"] == []
        problems = answer["probe"]["value"]["problems"]
        # The probes are programs of the shell, which wait for whoever writes; they are not waited for.
        assert all("was killed after 10" in each for each in problems) if hostility == "fifo" else problems == []


@pytest.mark.parametrize("hostility", HOSTILITIES)
@pytest.mark.parametrize("place", HARD)
def test_what_a_system_needs_is_read_inside_or_refused(
    hostile: Bench, tmp_path: Path, place: str, hostility: str, request: pytest.FixtureRequest
) -> None:
    is_whole = request.config.getoption("--all-hostile", default=False)
    is_installed = is_whole or (place.startswith("boot") and hostility in INSTALLED)
    answer = worked(hostile, tmp_path, (place,), hostility, (*READING, *(("install_grub",) if is_installed else ())))
    said = {name: each["said"] for name, each in answer.items() if each["error"]}
    assert {answer[name]["error"] for name in said} <= {"PathFailed", "BootImpossible"}, said
    for each in said.values():
        assert each.startswith((f"/{place} ", f"/{place}/")) or "no /boot/vmlinuz-VERSION" in each
    assert said.get("set_up", "") == said.get("set_up_walking", "")
    if is_installed and not said:
        assert answer["install_grub"]["value"]["entries"]
