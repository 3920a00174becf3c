"""GRUB's environment block: GRUB reads the same variables of it, and of the block that they are written into again."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random

from hypothesis.strategies import dictionaries

from libironic_disk.errors import DiskError, MultibootDamaged
from libironic_disk.pure.boot import grubenv, switching
from tests.fuzz.plain import Plain, drawn, sampled
from tests.unit.pure.boot.test_grubenv import names, values

_ONE_IN = 30
_NAME = "grubenv"


class _Grubenv(Plain):
    refusals = (MultibootDamaged,)
    words = (
        b"\n",
        b"=",
        b"\\",
        b"\\\n",
        b"#",
        b"saved_entry=",
        b"trial_left=9\n",
        b"# GRUB Environment Block\n",
        b"\xff",
        b"\0",
    )

    def seeds(self, random: Random) -> Iterator[bytes]:
        ours = {"menu_generation": "a", "saved_entry": "a", "next_entry": "", "trial_entry": "b", "trial_left": "3"}
        yield grubenv.render(ours, path=_NAME)
        for variables in drawn(dictionaries(names, values, max_size=8), random, 30):
            with suppress(DiskError):
                yield grubenv.render(variables, path=_NAME)

    def examine(self, data: bytes) -> str:
        # Most changes change the size, which GRUB and we insist on.
        block = data[: grubenv.SIZE].ljust(grubenv.SIZE, b"#") if len(data) % 8 else data
        variables = grubenv.parse(block, path=_NAME)
        state = switching.from_variables(variables)
        settled = switching.from_variables(switching.to_variables(state, variables))
        assert settled.boots_next == state.boots_next
        assert switching.from_variables(switching.to_variables(settled, variables)) == settled
        again = grubenv.parse(grubenv.render(variables, path=_NAME), path=_NAME)
        assert _listed(again) == _listed(variables)
        if sampled(data, _ONE_IN):
            self._ask_grub(block, variables)
            self._ask_grub(grubenv.render(variables, path=_NAME), variables)
        return f"{min(len(variables), 3)} variables"

    def _ask_grub(self, block: bytes, variables: dict[str, str]) -> None:
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(block)
            said = subprocess.run(["grub-editenv", file.name, "list"], check=True, capture_output=True).stdout
        expected = _listed(variables)
        # It prints up to a NUL, and a name that is there twice it prints twice.
        if b"\0" not in expected and said.count(b"=") == expected.count(b"="):
            assert said == expected


def _listed(variables: Mapping[str, str]) -> bytes:
    # A character that a backslash parted comes together without it: only its bytes are the same.
    return "".join(f"{name}={value}\n" for name, value in variables.items()).encode(errors="surrogateescape")


TARGET = _Grubenv()
