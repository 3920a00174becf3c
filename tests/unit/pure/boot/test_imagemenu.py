"""Menus as distributions write them, read as text; the numbers are those of research on Bareon's own reading."""

from __future__ import annotations

import subprocess
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.pure.boot import imagemenu
from libironic_disk.pure.boot.imagemenu import ImageEntry, from_grub_cfg, from_loader_entry, own_parameters
from libironic_disk.units import MIB

DEBIAN = """\
set default="0"
if [ x$feature_menuentry_id = xy ]; then
  menuentry_id_option="--id"
fi
menuentry 'Debian GNU/Linux' --class debian --class gnu-linux $menuentry_id_option 'gnulinux-simple-1' {
\tload_video
\tif [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
\tsearch --no-floppy --fs-uuid --set=root 1111
\techo\t'Loading Linux 6.1.0-9-amd64 ...'
\tlinux\t/boot/vmlinuz-6.1.0-9-amd64 root=UUID=1111 ro  quiet "dyndbg=file foo +p"
\techo\t'Loading initial ramdisk ...'
\tinitrd\t/boot/initrd.img-6.1.0-9-amd64
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-1' {
\tmenuentry 'Debian GNU/Linux, with Linux 6.1.0-9-amd64 (recovery mode)' --class debian {
\t\tlinux\t/boot/vmlinuz-6.1.0-9-amd64 root=UUID=1111 ro single
\t\tinitrd\t/boot/initrd.img-6.1.0-9-amd64
\t}
}
"""


def test_debians_menu() -> None:
    usual, recovery = from_grub_cfg(DEBIAN)
    assert usual == ImageEntry(
        title="Debian GNU/Linux",
        kernel="/boot/vmlinuz-6.1.0-9-amd64",
        initrds=("/boot/initrd.img-6.1.0-9-amd64",),
        parameters=("root=UUID=1111", "ro", "quiet", "dyndbg=file foo +p"),
    )
    assert recovery.parameters[-1] == "single"


def test_an_entry_that_chainloads_takes_nothing_from_the_next() -> None:
    """4.2: the next system's kernel was taken for its own."""
    text = (
        "menuentry 'Windows' {\n chainloader +1\n}\nmenuentry 'Linux' {\n linux /vmlinuz root=a\n initrd /initrd\n}\n"
    )
    (entry,) = from_grub_cfg(text)
    assert (entry.title, entry.kernel) == ("Linux", "/vmlinuz")


def test_an_entry_without_an_initrd_takes_none_from_the_next() -> None:
    """4.3: it got the next one's, which vanished."""
    text = "menuentry 'a' {\n linux /a root=a\n}\nmenuentry 'b' {\n linux /b root=b\n initrd /i\n}\n"
    assert [(entry.kernel, entry.initrds) for entry in from_grub_cfg(text)] == [("/a", ()), ("/b", ("/i",))]


@pytest.mark.parametrize("command", ["linux", "linux16", "linuxefi"])
def test_every_command_that_loads_a_kernel(command: str) -> None:
    """4.4: after linuxefi the kernel was `--class`."""
    (entry,) = from_grub_cfg(f"menuentry 'a' --class x {{\n {command} /vmlinuz quiet\n initrd /i\n}}\n")
    assert entry.kernel == "/vmlinuz"


def test_a_title_with_an_apostrophe() -> None:
    r"""4.5: it was cut short."""
    (entry,) = from_grub_cfg("menuentry 'Bob'\\''s $system' {\n linux /vmlinuz\n}\n")
    assert entry.title == "Bob's $system"


SUSE = """\
set extra="a=b c"
if [ -n "$extra_cmdline" ]; then
  extra_cmdline="security=apparmor"
fi
function load_video {
  true
}
menuentry 'openSUSE Leap 15.6'  --class opensuse ${menuentry_id_option} 'osuse-1' {
\tload_video
\tset root='hd0,gpt2'
\tif [ x$feature_platform_search_hint = xy ]; then
\t  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2  2222
\tfi
\techo\t'Loading Linux 6.4.0-150600 ...' # not a kernel
\tlinux\t/boot/vmlinuz-6.4.0 root=UUID=2222  ${extra_cmdline} splash=silent ${extra} # linux /boot/other
\tinitrd\t/boot/initrd-6.4.0
}
"""


def test_suses_menu_and_its_variables() -> None:
    """A name in curly brackets was taken for a parameter of its own."""
    (entry,) = from_grub_cfg(SUSE)
    assert (entry.kernel, entry.initrds) == ("/boot/vmlinuz-6.4.0", ("/boot/initrd-6.4.0",))
    assert own_parameters(entry.parameters) == ("splash=silent", "a=b", "c")
    (entry,) = from_grub_cfg(SUSE, {"extra_cmdline": "quiet console=ttyS0"})
    assert own_parameters(entry.parameters)[:2] == ("quiet", "console=ttyS0")


def test_entries_on_one_line_and_commands_on_several() -> None:
    text = (
        "menuentry 'a' { linux /a one; initrd /ia /ib; }\n"
        "menuentry b {\n linux /b \\\n two \\\n  three\n initrd /i\n}\n"
    )
    assert [(entry.kernel, entry.initrds, entry.parameters) for entry in from_grub_cfg(text)] == [
        ("/a", ("/ia", "/ib"), ("one",)),
        ("/b", ("/i",), ("two", "three")),
    ]


@pytest.mark.parametrize("text", [DEBIAN, SUSE])
def test_grub_takes_these_menus_for_menus(text: str) -> None:
    assert subprocess.run(["grub-script-check"], input=text, text=True, check=False).returncode == 0


def test_a_loader_entry_with_tabs_and_no_title() -> None:
    entry = from_loader_entry("version\t6.5\nlinux\t/v\ninitrd /a /b\ninitrd\t \t/c $tuned_initrd\noptions \t a=b\n")
    assert entry == ImageEntry(title="6.5", kernel="/v", initrds=("/a", "/b", "/c"), parameters=("a=b",))


def test_a_loader_entry_of_fedora() -> None:
    text = (
        "title Fedora Linux (6.5) 39\nversion 6.5\nlinux /vmlinuz-6.5\n"
        "initrd /initramfs-6.5.img $tuned_initrd\noptions $kernelopts $tuned_params\n# end\n"
    )
    entry = from_loader_entry(text, {"kernelopts": "root=/dev/mapper/x ro rd.lvm.lv=x/root", "tuned_params": ""})
    assert entry is not None
    assert (entry.title, entry.kernel) == ("Fedora Linux (6.5) 39", "/vmlinuz-6.5")
    assert own_parameters(entry.parameters) == ("rd.lvm.lv=x/root",)
    assert from_loader_entry("title EFI\nefi /x.efi\n") is None


def test_the_defaults_of_the_next_menu() -> None:
    comment, usual = '# GRUB_CMDLINE_LINUX="no"', 'GRUB_CMDLINE_LINUX_DEFAULT="quiet splash"'
    text = f"{comment}\n{usual}\nGRUB_CMDLINE_LINUX='console=ttyS0 a=\"b c\"'\n"
    assert imagemenu.kernel_parameters_of(text) == ("console=ttyS0", "a=b c", "quiet", "splash")


def test_defaults_that_are_put_together() -> None:
    """As the fragments of cloud images do."""
    text = (
        "GRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`\n"
        'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX net.ifnames=0"\nGRUB_CMDLINE_LINUX+=" ${unknown} b"\n'
        'export GRUB_CMDLINE_LINUX_DEFAULT="quiet"; GRUB_CMDLINE_LINUX="${GRUB_CMDLINE_LINUX} \\\n  c"\n'
    )
    assert own_parameters(imagemenu.kernel_parameters_of(text)) == ("net.ifnames=0", "b", "c", "quiet")


def test_what_belongs_to_the_old_disk_is_left_out() -> None:
    words = (
        "BOOT_IMAGE=/v",
        "root=UUID=1",
        "ro",
        "rootflags=subvol=@",
        "resume=UUID=2",
        "quiet",
        "$vt_handoff",
        "--",
        "a\\b",
    )
    assert own_parameters(words) == ("rootflags=subvol=@", "quiet")


@given(st.text(max_size=400) | st.text(st.sampled_from("menuentry linux initrd set{}'\"\\$ \n=/ab"), max_size=400))
def test_any_text_is_some_menu(text: str) -> None:
    for entry in from_grub_cfg(text):
        assert entry.kernel
    from_loader_entry(text)
    own_parameters(imagemenu.kernel_parameters_of(text))


def test_variables_that_double_with_each_line_stay_small() -> None:
    """Forty such lines would take more memory than any machine has."""
    text = "set x=aaaaaaaaaaaaaaaa\n" + 'set x="${x}${x}"\n' * 40 + "menuentry x {\nlinux /v $x\n}\n"
    (entry,) = from_grub_cfg(text)
    assert sum(map(len, entry.parameters)) <= 1024


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "'" * 200_000,
        '"' + "\\" * 200_000,
        "{" * 200_000,
        "a'b" * 100_000,
        "\\\n" * 100_000,
        "\ninitrd a" * 60_000,
        "$a" * 100_000,
        "\nset a=$a$a" * 60,
        'GRUB_CMDLINE_LINUX+="a"\n' * 30_000,
        "\nGRUB_CMDLINE_LINUX=" + "a" * 1_000_000,
    ],
)
def test_a_text_made_to_be_slow_or_large_is_not(text: str) -> None:
    """The values of variables double with each line, say."""
    tracemalloc.start()
    try:
        from_grub_cfg(f"set a=aaaaaaaa\nmenuentry x {{\nlinux /v {text}\n", {"b": "b" * 1000})
        imagemenu.kernel_parameters_of(text)
        from_loader_entry(f"linux /v\noptions {text}\n", {"a": "a" * 1000})
        assert tracemalloc.get_traced_memory()[1] < 256 * MIB
    finally:
        tracemalloc.stop()
