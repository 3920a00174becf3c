"""DHCP options as values, and as dnsmasq's configuration, which dnsmasq itself reads."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from libironic_disk.boot import Client, DhcpOption, IpVersion, OptionName
from libironic_disk.errors import InvalidParameterValue
from libironic_disk.pure.netboot import dnsmasq
from libironic_disk.pure.netboot.dhcp import pxe_options, url_options
from tests.support.netboot import MAC, OTHER_MAC


def numbers(options: tuple[DhcpOption, ...]) -> list[tuple[int | None, str]]:
    return [(option.code, option.value) for option in options]


def test_a_server_by_its_address() -> None:
    options = pxe_options("192.0.2.1", "pxelinux.0", architectures=(0,))
    assert numbers(options) == [
        (67, "pxelinux.0"),
        (66, "192.0.2.1"),
        (150, "192.0.2.1"),
        (None, "192.0.2.1"),
    ]
    assert {option.architectures for option in options} == {(0,)}


def test_a_server_by_its_name_serves_both_protocols() -> None:
    options = pxe_options("tftp.example", "grub.efi")
    assert numbers(options) == [(67, "grub.efi"), (66, "tftp.example"), (59, "tftp://tftp.example/grub.efi")]
    assert [option.version for option in options] == [IpVersion.V4, IpVersion.V4, IpVersion.V6]


def test_a_server_with_an_address_of_version_6() -> None:
    assert numbers(pxe_options("2001:db8::1", "grub.efi")) == [(59, "tftp://[2001:db8::1]/grub.efi")]


def test_a_firmware_that_boots_from_http_is_told_that_it_is_meant() -> None:
    options = url_options("http://h/x.efi", client=Client.FIRMWARE, architectures=(16,))
    assert numbers(options) == [(67, "http://h/x.efi"), (59, "http://h/x.efi"), (60, "HTTPClient")]
    assert numbers(url_options("http://h/boot.ipxe", client=Client.IPXE)) == [
        (67, "http://h/boot.ipxe"),
        (59, "http://h/boot.ipxe"),
    ]


@pytest.mark.parametrize(
    ("value", "words"), [("", "is empty"), ("x" * 256, "256 octets"), ("a\nb", "printable"), ("ä", "ASCII")]
)
def test_values_that_no_option_can_have(value: str, words: str) -> None:
    with pytest.raises(InvalidParameterValue, match=words):
        DhcpOption(name=OptionName.BOOT_FILE, value=value)
    DhcpOption(name=OptionName.BOOT_FILE, value="x" * 255)


def test_dnsmasq_reads_what_is_rendered(tmp_path: Path) -> None:
    ipxe = pxe_options("192.0.2.1", "undionly.kpxe", client=Client.FIRMWARE, architectures=(0,)) + url_options(
        "http://192.0.2.1:8080/boot.ipxe", client=Client.IPXE
    )
    http = url_options("http://192.0.2.1/grub.efi", client=Client.ANY, architectures=(16,))
    name = pxe_options("tftp.example", "grub-x64.efi", architectures=(7, 9))
    text = dnsmasq.render("node-1", (MAC,), ipxe)
    text += dnsmasq.render("node.2", (OTHER_MAC,), http) + dnsmasq.render("n3", (MAC, OTHER_MAC), name)
    config = tmp_path / "dnsmasq.conf"
    config.write_text(text)
    done = subprocess.run(["dnsmasq", "--test", f"--conf-file={config}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "syntax check OK" in done.stderr
    lines = text.splitlines()
    assert "dhcp-boot=tag:boot-node-1,tag:!ipxe,tag:client-0,undionly.kpxe,,192.0.2.1" in lines
    assert "dhcp-boot=tag:boot-node-1,tag:ipxe,http://192.0.2.1:8080/boot.ipxe" in lines
    assert "dhcp-option-force=tag:boot-node.2,tag:client-16,60,HTTPClient" in lines
    assert "dhcp-option=tag:boot-n3,tag:client-7,option6:bootfile-url,tftp://tftp.example/grub-x64.efi" in lines


@pytest.mark.parametrize("value", ["a,b", "a b", 'a"b', "a#b", "a\\b"])
def test_what_dnsmasq_would_read_otherwise_is_refused(value: str) -> None:
    option = DhcpOption(name=OptionName.BOOT_FILE, value=value)
    with pytest.raises(InvalidParameterValue, match="dnsmasq"):
        dnsmasq.render("node-1", (MAC,), (option,))
    with pytest.raises(InvalidParameterValue, match="tag"):
        dnsmasq.render("a,b", (MAC,), ())
