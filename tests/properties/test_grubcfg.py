from __future__ import annotations

import shlex
import subprocess

from hypothesis import given, settings
from hypothesis import strategies as st

from libironic_disk.pure.boot import grubcfg
from libironic_disk.pure.boot.grubcfg import Menu, MenuEntry
from libironic_disk.pure.boot.kernelparams import KernelParameters

UUID = "b7a9b1a4-6c45-4a94-a2b6-1f4c1e0d9d3f"
SPECIAL = st.sampled_from([*"'\"$\\{}()<>|&;#*?!`= \t\n\0", "'\\''", "${x}", "$(x)", "\u2028", "é", "🙂"])
TITLES = st.lists(SPECIAL | st.text(max_size=4), max_size=12).map("".join)
WORDS = (
    st.lists(SPECIAL | st.text(st.characters(codec="utf-8"), max_size=4), min_size=1, max_size=8)
    .map("".join)
    .map(lambda text: "".join(c for c in text if c.isprintable() and c not in "\"'\\"))
    # Where the kernel would split a word and GRUB puts no quotes, it is refused.
    .filter(lambda word: bool(word.strip()) and (" " in word or b"\xa0" not in word.encode()))
)


@settings(max_examples=150, deadline=None)
@given(TITLES, st.lists(WORDS, max_size=4))
def test_any_text_becomes_a_script_with_that_text(title: str, words: list[str]) -> None:
    parameters = KernelParameters(words=tuple(words))
    entry = MenuEntry(id="a", title=title, root_uuid=UUID, kernel="/boot/k", initrd="/boot/i", parameters=parameters)
    text = grubcfg.render(Menu(entries=(entry,), default="a"))

    subprocess.run(["grub-script-check"], input=text.encode(), check=True)
    # Inside single quotes GRUB's language is the POSIX shell's, and shlex reads that.
    lines = [shlex.split(line) for line in text.splitlines() if line]
    assert ["menuentry", grubcfg.title(title), "--id", "a", "{"] in lines
    assert ["linux", "/boot/k", *words] in lines
    assert len(lines) == 8
