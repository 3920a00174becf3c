"""Any parameters, any files, any layout: what is read back from a patched ISO is what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lab.isolayouts import IsoLayout, make
from libironic_disk import bootiso
from libironic_disk.bootiso import BootIso, KernelParameters, ParameterChange, PatchedIso
from libironic_disk.errors import (
    BootIsoRefused,
    IsoInvalid,
    IsoUnsupported,
    KernelParametersInvalid,
    LoaderConfigRefused,
)
from libironic_disk.pure.boot.loadersyntax import LoaderSyntax, rendered
from libironic_disk.pure.bootisos.discovering import discover
from libironic_disk.pure.iso.image import read_image
from tests.support import bootisos

SYNTAXES = (LoaderSyntax.GRUB, LoaderSyntax.SYSLINUX)
# As a rule what users write, and sometimes whatever a keyboard gives.
names = st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True)
values = st.one_of(
    st.from_regex(r"[A-Za-z0-9_.:/,@-]{0,12}", fullmatch=True),
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters='"'), max_size=8),
)
new_words = st.one_of(names, st.builds("{}={}".format, names, values)).filter(str.isprintable)
parameters = st.builds(lambda words: KernelParameters(words=tuple(words)), st.lists(new_words, max_size=4))
there = st.sampled_from(["quiet", "console", "console=ttyS0", "lab.layout", "lab.layout=other", "nothing"])
changes = st.builds(
    ParameterChange, append=parameters, replace=parameters, delete=st.lists(there | names, max_size=3).map(tuple)
)
parts = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="/"), min_size=1, max_size=9
)
files = st.dictionaries(
    st.lists(parts, min_size=1, max_size=4).map(lambda found: "/" + "/".join(found))
    | st.sampled_from(["/layout.txt", "/boot/vmlinuz", "/boot/grub/linux.cfg", "/EFI/x"]),
    st.binary(max_size=40) | st.integers(0, 9000).map(lambda size: b"#" * size),
    max_size=4,
)

Opener = Callable[[IsoLayout], BootIso]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opener:
    """Open the image of a layout, made once."""
    folder = tmp_path_factory.mktemp("isos")
    isos: dict[IsoLayout, BootIso] = {}

    def get(layout: IsoLayout) -> BootIso:
        if layout not in isos:
            isos[layout] = bootiso.open_iso(make(layout, folder / f"{layout}.iso"))
        return isos[layout]

    return get


def lines_of(patched: PatchedIso) -> dict[str, KernelParameters]:
    found = discover(read_image(patched), patched, name="patched")
    assert found.unresolved == ()
    return {str(config.place): line.parameters for config in found.configs for line in config.lines}


def some_loader_refuses(change: ParameterChange, iso: BootIso) -> bool:
    for config in iso.configs:
        for line in config.lines:
            for syntax in SYNTAXES:
                try:
                    rendered(change.applied(line.parameters), syntax)
                except KernelParametersInvalid:
                    return True
    return False


@given(layout=st.sampled_from(list(IsoLayout)), change=changes)
def test_any_parameters(opened: Opener, layout: IsoLayout, change: ParameterChange) -> None:
    iso = opened(layout)
    before = lines_of(iso.patch())
    try:
        patched = iso.patch(parameters=change)
    except KernelParametersInvalid:
        assert some_loader_refuses(change, iso)
        return
    except LoaderConfigRefused:
        assume(False)
    assert lines_of(patched) == {place: change.applied(line) for place, line in before.items()}


@given(layout=st.sampled_from(list(IsoLayout)), put=files)
def test_any_files(opened: Opener, layout: IsoLayout, put: dict[str, bytes]) -> None:
    iso = opened(layout)
    try:
        patched = iso.patch(files=put)
    except (BootIsoRefused, IsoUnsupported):
        assume(False)
    image = read_image(patched)
    for path, content in put.items():
        rope = image.content(path)
        assert rope.read_at(patched, 0, rope.size) == content
    new = {file.path for file in image.files() if not file.is_dir}
    assert new == {file.path for file in iso.image.files() if not file.is_dir} | set(put)
    for file in iso.image.files():
        if not file.is_dir and file.path not in put and file.path not in {"/boot.catalog", "/isolinux/boot.cat"}:
            rope = image.content(file.path)
            assert rope.size == file.size


@settings(max_examples=15)
@given(layout=st.sampled_from(list(IsoLayout)), put=files, change=changes)
def test_programs_see_what_was_put(
    tmp_path_factory: pytest.TempPathFactory,
    opened: Opener,
    layout: IsoLayout,
    put: dict[str, bytes],
    change: ParameterChange,
) -> None:
    iso = opened(layout)
    try:
        patched = iso.patch(files=put, parameters=change)
    except (BootIsoRefused, IsoUnsupported, KernelParametersInvalid, LoaderConfigRefused):
        assume(False)
    folder = tmp_path_factory.mktemp("patched")
    target = folder / "patched.iso"
    patched.write(target)
    found = bootisos.everything(target, folder)
    configs = {change.place.path for change in patched.report.configs}
    assert {path: found.get(path) for path in put if path not in configs} == {
        path: content for path, content in put.items() if path not in configs
    }
    bootisos.check_medium(target)
    assert bootisos.gpt_problems(target) == bootisos.gpt_problems(iso.path)
    target.unlink()


@settings(max_examples=300)
@given(layout=st.sampled_from([IsoLayout.GRUB, IsoLayout.ISOLINUX_XORRISO]), data=st.data())
def test_any_damage_is_an_error_of_ours_or_none(opened: Opener, layout: IsoLayout, data: st.DataObject) -> None:
    """Some of the bytes that are read are others: whatever comes of it, no other error is raised."""
    iso = opened(layout)
    offsets = st.integers(0, min(iso.size, 400 * 2048) - 4)
    edits = data.draw(st.dictionaries(offsets.map(lambda at: at & ~3), st.binary(min_size=4, max_size=4), max_size=6))
    damaged = _Damaged(iso, edits)
    try:
        image = read_image(damaged)
        found = discover(image, damaged, name="damaged")
    except (IsoInvalid, IsoUnsupported):
        return
    assert len(found.configs) <= 512


class _Damaged:
    def __init__(self, iso: BootIso, edits: dict[int, bytes]) -> None:
        whole = bytearray(Path(iso.path).read_bytes())
        for at, new in edits.items():
            whole[at : at + len(new)] = new
        self._whole = bytes(whole)
        self.size = len(whole)

    def read_at(self, offset: int, size: int) -> bytes:
        return self._whole[offset : offset + size]
