"""What a machine is to boot over the network: whatever a task says, its loader gets that and no command more.

Parameters, names and URLs are those of whoever asks for the boot. What a loader's own language would take for something
else is refused.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from random import Random

from libironic_disk.boot.network import checked_url
from libironic_disk.errors import InvalidParameterValue, KernelParametersInvalid
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.netboot import grubnet, ipxescript, pxelinux
from libironic_disk.pure.netboot.addresses import MacAddress
from libironic_disk.pure.netboot.choices import IsoBoot, KernelBoot, with_interface
from libironic_disk.pure.netboot.task import BootTask, NetworkRoot, as_parameters
from libironic_disk.pure.roles import Architecture, Firmware
from tests.fuzz.json_inputs import Json
from tests.fuzz.mutations import words_of
from tests.fuzz.plain import sampled

_ONE_IN = 60
_URL = "http://192.0.2.1/a.iso"
_QUIET = KernelParameters.parse("quiet")
_LOADERS: Mapping[str, Callable[[KernelBoot, MacAddress], str]] = {
    "PXELINUX": pxelinux.render,
    "GRUB": lambda boot, mac: grubnet.render(boot, mac, Architecture.X86_64),
    "iPXE": lambda boot, mac: ipxescript.render(boot, mac, Firmware.UEFI, disk_loader=_URL),
}
_PARAMETERS = (
    *("console=ttyS0,115200", "quiet", "ipa-api-url=http://192.0.2.1:6385", "a.b=c", "systemd.x", "nomodeset"),
)
_URLS = (_URL, "https://a.example:8080/x/y%20z.iso", "tftp://[2001:db8::1]/a")
_UUID = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123"


def _boot(parameters: KernelParameters) -> KernelBoot:
    return KernelBoot(kernel="nodes/a/kernel", ramdisk="nodes/a/ramdisk", parameters=parameters)


def _ramdisk_params(value: object) -> dict[str, str | None]:
    """Return those that are of the types which callers may give."""
    if not isinstance(value, dict):
        return {}
    return {name: given for name, given in value.items() if given is None or isinstance(given, str)}


class _NetBoots(Json):
    refusals = (InvalidParameterValue, KernelParametersInvalid)
    words = (
        *Json.words,
        *words_of(
            b"console=ttyS0|BOOTIF=|ipa-api-url=http://192.0.2.1|${net0/mac}|$|`|;|&&|\\\\|'|--|#|initrd=|%20|@|\\n"
        ),
        *(b"|", b"52-54-00-AA-BB-01", b"http://[fe80::1%25eth0]/", b"tftp://", b"://", b"{{"),
    )

    def seeds(self, random: Random) -> Iterator[bytes]:
        while True:
            words = (word.partition("=") for word in random.sample(_PARAMETERS, 3))
            document = {
                "node": random.choice(["node-1", _UUID]),
                "mac": random.choice(["52:54:00:aa:bb:01", "525400AABB01", "52-54-00-aa-bb-01"]),
                "params": {name: value or None for name, _, value in words},
                "line": " ".join(random.sample(_PARAMETERS, 2)),
                "uuid": _UUID,
                "url": random.choice(_URLS),
            }
            yield json.dumps(document).encode()

    def examine(self, data: bytes) -> str:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return "no JSON"
        if not isinstance(document, dict):
            return "no task"
        texts = {name: value for name, value in document.items() if isinstance(value, str)}
        mac = MacAddress(texts.get("mac", "52:54:00:aa:bb:01"))
        node = BootTask(node=texts.get("node", "a"), macs=(mac,)).node
        assert not set(node) & set("/\0\n ")
        assert len(str(mac)) == 17
        parameters = as_parameters(_ramdisk_params(document.get("params")))
        parameters += KernelParameters.parse(texts.get("line", ""))
        root = NetworkRoot(kernel="k", ramdisk="r", root_uuid=texts.get("uuid", "a"), parameters=parameters)
        self._check_url(texts.get("url", _URL), mac)
        return self._check_kernel(data, root.kernel_parameters, mac)

    def _check_url(self, url: str, mac: MacAddress) -> None:
        try:
            checked = checked_url(url)
        except InvalidParameterValue as error:
            assert str(error).isprintable()
            return
        assert not set(checked) & set(" \t\n\r${}'\"\\;&|#")
        sound, text = (
            ipxescript.render(IsoBoot(url=each), mac, Firmware.UEFI, disk_loader=_URL) for each in (_URL, checked)
        )
        assert text == sound.replace(_URL, checked)

    def _check_kernel(self, data: bytes, parameters: KernelParameters, mac: MacAddress) -> str:
        taken = []
        for name, render in _LOADERS.items():
            try:
                text = render(_boot(parameters), mac)
            except KernelParametersInvalid as error:
                assert str(error).isprintable()
                continue
            # One more line would be a command of somebody else's.
            assert text.count("\n") == render(_boot(_QUIET), mac).count("\n"), text
            assert text.replace("\n", "").isprintable(), text
            taken.append(name)
            if name == "PXELINUX":
                append = next(line for line in text.splitlines() if "APPEND" in line)
                assert KernelParameters.parse(append.partition("APPEND ")[2]) == with_interface(parameters, mac)
            if name == "GRUB" and sampled(data, _ONE_IN):
                subprocess.run(["grub-script-check"], input=text.encode(), check=True, capture_output=True)
        return f"for {', '.join(taken)}" if taken else "for none"


TARGET = _NetBoots()
