from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libironic_disk.pure.boot.kernels import Kernel, find_kernels, version_key

# No letters that could spell a pre-release: there the order is GRUB's, not dpkg's.
VERSIONS = st.from_regex(r"[0-9]{1,3}[0-9a-oA-Z.+~]{0,8}", fullmatch=True)


def test_debian_and_fedora_and_suse_pairs_newest_first() -> None:
    names = [
        "config-6.1.0-9-amd64",
        "initrd.img-6.1.0-9-amd64",
        "initrd.img-6.1.0-10-amd64",
        "vmlinuz-6.1.0-9-amd64",
        "vmlinuz-6.1.0-10-amd64",
        "vmlinuz-5.14.0-503.el9.x86_64",
        "initramfs-5.14.0-503.el9.x86_64.img",
        "initramfs-5.14.0-503.el9.x86_64kdump.img",
        "vmlinuz-0-rescue-0f3c",
        "initramfs-0-rescue-0f3c.img",
        "Image-6.4.0-default",
        "initrd-6.4.0-default",
        "System.map-6.1.0-9-amd64",
        "grub",
    ]
    assert find_kernels(names) == (
        Kernel(version="6.4.0-default", name="Image-6.4.0-default", initrd="initrd-6.4.0-default"),
        Kernel(version="6.1.0-10-amd64", name="vmlinuz-6.1.0-10-amd64", initrd="initrd.img-6.1.0-10-amd64"),
        Kernel(version="6.1.0-9-amd64", name="vmlinuz-6.1.0-9-amd64", initrd="initrd.img-6.1.0-9-amd64"),
        Kernel(
            version="5.14.0-503.el9.x86_64",
            name="vmlinuz-5.14.0-503.el9.x86_64",
            initrd="initramfs-5.14.0-503.el9.x86_64.img",
        ),
        Kernel(version="0-rescue-0f3c", name="vmlinuz-0-rescue-0f3c", initrd="initramfs-0-rescue-0f3c.img"),
    )


def test_a_kernel_without_initrd_and_names_that_are_none() -> None:
    hostile = [
        "vmlinuz-1'; halt",
        "vmlinuz-$(x)",
        "vmlinuz-a\nb",
        "vmlinuz-",
        "vmlinuz",
        "vmlinuz-6.1.old",
        "vmlinuz--1",
    ]
    assert find_kernels([*hostile, "vmlinuz-virt"]) == (Kernel(version="virt", name="vmlinuz-virt", initrd=""),)


def test_a_release_candidate_comes_before_its_release() -> None:
    ordered = ["6.8", "6.9-rc1", "6.9-rc2", "6.9", "6.9.1-rc1", "6.9.1", "6.10", "6.10-arch1"]
    assert sorted(reversed(ordered), key=version_key) == ordered


@pytest.mark.parametrize("version", ["6.1.0-56-cloud-amd64-rescue.x", "0-rescue-1"])
def test_rescue_kernels_come_last(version: str) -> None:
    assert [kernel.version for kernel in find_kernels([f"vmlinuz-{version}", "vmlinuz-1"])] == ["1", version]


@settings(max_examples=60, deadline=None)
@given(VERSIONS, VERSIONS)
def test_orders_as_dpkg_does(one: str, other: str) -> None:
    less = subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=False).returncode == 0
    assert (version_key(one) < version_key(other)) == less


@pytest.mark.parametrize("name", ["vmlinux-5.14-default.gz", "vmlinux-6.4.xz", "vmlinuz-6.4.zst"])
def test_what_is_packed_for_debuggers_is_no_kernel(name: str) -> None:
    assert [kernel.name for kernel in find_kernels([name, "vmlinuz-5.14-default"])] == ["vmlinuz-5.14-default"]


def test_an_image_with_thousands_of_kernels_has_a_menu_that_can_be_read() -> None:
    found = find_kernels(f"vmlinuz-{number}" for number in range(10_000))
    assert [kernel.version for kernel in found] == [str(number) for number in range(9999, 9935, -1)]
