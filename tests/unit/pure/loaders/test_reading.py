"""Configurations as distributions have them: what they say, and what a change makes of them."""

from __future__ import annotations

import difflib
import subprocess

import pytest

from libironic_disk.errors import KernelParametersInvalid, LoaderConfigRefused
from libironic_disk.pure.boot.kernelparams import KernelParameters, ParameterChange
from libironic_disk.pure.loaders.config import LARGEST_CONFIG, MOST_ENTRIES, ConfigKind, KernelLine, Reference
from libironic_disk.pure.loaders.reading import changed_config, read_config
from tests.support import loaderconfigs as configs

GRUB, SYSLINUX, ENTRY = ConfigKind
parse = KernelParameters.parse

ALL = [
    *((GRUB, text) for text in (configs.DEBIAN_LIVE_GRUB, configs.UBUNTU_GRUB, configs.FEDORA_GRUB)),
    *((GRUB, text) for text in (configs.OPENSUSE_GRUB, configs.LOOPED_GRUB)),
    *((SYSLINUX, text) for text in (configs.DEBIAN_SYSLINUX, configs.FEDORA_SYSLINUX, configs.ARCH_SYSLINUX)),
    (SYSLINUX, configs.PXELINUX_IMPLICIT),
    *((ENTRY, text) for text in (configs.ARCH_ENTRY, configs.FEDORA_ENTRY, configs.BARE_ENTRY)),
]


def lines(text: bytes, kind: ConfigKind, prefix: str = "/boot/grub") -> list[tuple[str, str, tuple[str, ...], str]]:
    found = read_config(text, kind, prefix=prefix).lines
    return [(line.title, line.kernel, line.initrds, str(line.parameters)) for line in found]


def references(text: bytes, kind: ConfigKind, prefix: str) -> list[str]:
    found = read_config(text, kind, prefix=prefix).references
    return [reference.path if reference.resolvable else f"? {reference.path}" for reference in found]


def differences(before: bytes, after: bytes) -> list[str]:
    """The lines that are new."""
    return [
        line[1:]
        for line in difflib.ndiff(before.decode().split("\n"), after.decode().split("\n"))
        if line.startswith("+")
    ]


def test_a_live_debian_s_grub() -> None:
    assert lines(configs.DEBIAN_LIVE_GRUB, GRUB) == [
        (
            "Live system (amd64)",
            "/live/vmlinuz-6.1.0-9-amd64",
            ("/live/initrd.img-6.1.0-9-amd64",),
            "boot=live components quiet splash findiso=${iso_path}",
        ),
        (
            "Live system (amd64 fail-safe mode)",
            "/live/vmlinuz-6.1.0-9-amd64",
            ("/live/initrd.img-6.1.0-9-amd64",),
            "boot=live components memtest noapic noapm nodma nomce nosmp nosplash vga=788",
        ),
    ]
    assert references(configs.DEBIAN_LIVE_GRUB, GRUB, "/boot/grub") == [
        "/boot/grub/config.cfg",
        "/boot/grub/install.cfg",
    ]


def test_the_grub_of_ubuntu_and_fedora_and_opensuse() -> None:
    assert lines(configs.UBUNTU_GRUB, GRUB) == [
        ("Try or Install Ubuntu Server", "/casper/vmlinuz", ("/casper/initrd",), "---")
    ]
    stage2 = "inst.stage2=hd:LABEL=Fedora-S-dvd-x86_64-39"
    kernel, initrds = "/images/pxeboot/vmlinuz", ("/images/pxeboot/initrd.img",)
    assert lines(configs.FEDORA_GRUB, GRUB) == [
        ("Install Fedora 39", kernel, initrds, f"{stage2} quiet"),
        ("Rescue a Fedora system", kernel, initrds, f'{stage2} inst.rescue "dyndbg=file x +p"'),
    ]
    loader = "/boot/x86_64/loader"
    assert lines(configs.OPENSUSE_GRUB, GRUB) == [
        ("Installation", f"{loader}/linux", (f"{loader}/initrd",), "splash=silent $extra_cmdline")
    ]


def test_grub_s_references() -> None:
    text = b"""
        set prefix=($root)/EFI/BOOT
        source $prefix/a.cfg ; configfile ${prefix}/../b.cfg; . "(${root})/c d.cfg"
        configfile $cmdpath/x.cfg
        configfile (hd0,gpt1)/y.cfg
        source /../../z.cfg
        source relative.cfg
        syslinux_configfile -i /isolinux/isolinux.cfg
        blscfg
        blscfg ($root)/more/entries
        source $prefix/a.cfg
    """
    found = read_config(text, GRUB, prefix="/boot/grub").references
    assert references(text, GRUB, "/boot/grub") == [
        *("/EFI/BOOT/a.cfg", "/EFI/b.cfg", "/c d.cfg", "? $cmdpath/x.cfg", "? (hd0,gpt1)/y.cfg", "? /../../z.cfg"),
        *("? relative.cfg", "/isolinux/isolinux.cfg", "/loader/entries", "/more/entries"),
    ]
    assert [reference.kind for reference in found] == [*[GRUB] * 7, SYSLINUX, ENTRY, ENTRY]
    assert references(b"source $prefix/x.cfg", GRUB, "/boot/grub") == ["/boot/grub/x.cfg"]


def test_debian_s_syslinux() -> None:
    assert lines(configs.DEBIAN_SYSLINUX, SYSLINUX) == [
        (
            "Install",
            "/install.amd/vmlinuz",
            ("/install.amd/initrd.gz",),
            "vga=788 initrd=/install.amd/initrd.gz --- quiet",
        )
    ]
    assert references(configs.DEBIAN_SYSLINUX, SYSLINUX, "/isolinux") == [
        *("/isolinux/menu.cfg", "/isolinux/adtxt.cfg", "/isolinux/prompt.cfg")
    ]


def test_the_syslinux_of_fedora_and_arch() -> None:
    [(title, kernel, initrds, parameters)] = lines(configs.FEDORA_SYSLINUX, SYSLINUX)
    assert (title, kernel, initrds) == ("Install Fedora 39", "vmlinuz", ("initrd.img",))
    assert parameters == "initrd=initrd.img inst.stage2=hd:LABEL=Fedora-S-dvd-x86_64-39 quiet"
    images = ("/arch/boot/intel-ucode.img", "/arch/boot/x86_64/initramfs-linux.img")
    arch = 'archisobasedir=arch archisolabel=ARCH_202311 "dyndbg=file x +p"'
    assert lines(configs.ARCH_SYSLINUX, SYSLINUX) == [
        ("Arch Linux install medium (%ARCH%, BIOS)", "/arch/boot/x86_64/vmlinuz-linux", images, arch),
        ("inherits", "/vmlinuz", (), "global=1 quiet"),
        ("inherits-and-says-more", "/vmlinuz", ("/initrd",), "first=1 global=1 quiet"),
        ("nothing", "/vmlinuz", (), ""),
    ]
    assert references(configs.ARCH_SYSLINUX, SYSLINUX, "/isolinux") == ["/syslinux/other.cfg"]


def test_syslinux_without_labels_starts_its_default() -> None:
    expected = [("vmlinuz", "vmlinuz", ("initrd.img",), "initrd=initrd.img ip=dhcp")]
    assert lines(configs.PXELINUX_IMPLICIT, SYSLINUX) == expected
    assert lines(b"default vesamenu.c32\n", SYSLINUX) == []
    assert lines(b"default linux\ninclude labels.cfg\n", SYSLINUX) == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (b"include a.cfg", "/isolinux/a.cfg"),
        (b"MENU INCLUDE /b.cfg Title", "/b.cfg"),
        (b"ui menu.c32 c.cfg", "/isolinux/c.cfg"),
        (b"label x\nkernel vesamenu.c32\nappend d.cfg", "/isolinux/d.cfg"),
        (b"label x\ncom32 menu.c32 e.cfg\nappend ~", "/isolinux/e.cfg"),
        (b"label x\nconfig ../f.cfg", "/f.cfg"),
        (b"include ../../g.cfg", "? ../../g.cfg"),
        (b"include 192.0.2.1::h.cfg", "? 192.0.2.1::h.cfg"),
        (b"include http://192.0.2.1/i.cfg", "? http://192.0.2.1/i.cfg"),
    ],
)
def test_syslinux_s_references(text: bytes, path: str) -> None:
    assert references(text, SYSLINUX, "/isolinux") == [path]


def test_loader_entries() -> None:
    images = ("/arch/boot/intel-ucode.img", "/arch/boot/x86_64/initramfs-linux.img")
    parameters = 'archisobasedir=arch archisolabel=ARCH_202311 quiet "x=a b"'
    title = "Arch Linux install medium (x86_64, UEFI)"
    assert lines(configs.ARCH_ENTRY, ENTRY) == [(title, "/arch/boot/x86_64/vmlinuz-linux", images, parameters)]
    assert lines(configs.BARE_ENTRY, ENTRY) == [("6.1", "/vmlinuz", ("/initrd",), "")]
    assert lines(b"title Shell\nefi /shell.efi\noptions x", ENTRY) == []
    [(_, _, _, fedora)] = lines(configs.FEDORA_ENTRY, ENTRY)
    assert fedora == "root=UUID=0 ro $kernelopts $tuned_params"


CHANGE = ParameterChange(append=parse('console=ttyS0 "a=b c"'), replace=parse("vga=1"), delete=("quiet",))


@pytest.mark.parametrize(("kind", "text"), ALL)
def test_a_change_is_made_to_every_line_and_to_nothing_else(kind: ConfigKind, text: bytes) -> None:
    after = changed_config(text, kind, CHANGE)
    before, found = (read_config(data, kind, prefix="/p") for data in (text, after))
    assert before.lines
    assert found.references == before.references
    for old, new in zip(before.lines, found.lines, strict=True):
        assert new.parameters == CHANGE.applied(old.parameters)
        assert (new.title, new.kernel) == (old.title, old.kernel)
        assert set(old.initrds) <= set(new.initrds)
    assert changed_config(after, kind, CHANGE) == after
    assert changed_config(text, kind, ParameterChange()) == text
    assert after.count(b"\r\n") - text.count(b"\r\n") == (after.count(b"\n") - text.count(b"\n")) * (b"\r\n" in text)
    if kind is GRUB:
        subprocess.run(["grub-script-check"], input=after, check=True)


def test_what_a_change_writes_for_grub() -> None:
    after = changed_config(configs.DEBIAN_LIVE_GRUB, GRUB, CHANGE)
    assert differences(configs.DEBIAN_LIVE_GRUB, after) == [
        " \tlinux\t/live/vmlinuz-6.1.0-9-amd64 boot=live components splash findiso=${iso_path} "
        "'vga=1' 'console=ttyS0' 'a=b c'",
        " \t\tnomce nosmp nosplash 'vga=1' 'console=ttyS0' 'a=b c'",
    ]
    # A variable that the file sets, once, is written out where something has to be taken out of it.
    looped = changed_config(configs.LOOPED_GRUB, GRUB, ParameterChange(append=parse("x"), delete=("quiet",)))
    assert differences(configs.LOOPED_GRUB, looped) == [
        "     linux (loop)/casper/vmlinuz iso-scan/filename=${isofile} 'splash' 'x' ---"
    ]


def test_what_a_change_writes_for_syslinux() -> None:
    after = changed_config(configs.ARCH_SYSLINUX, SYSLINUX, CHANGE)
    assert differences(configs.ARCH_SYSLINUX, after) == [
        ' APPEND archisobasedir=arch archisolabel=ARCH_202311 "dyndbg=file x +p" vga=1 console=ttyS0 "a=b c"',
        '   append global=1 vga=1 console=ttyS0 "a=b c"',
        '   append global=1 vga=1 console=ttyS0 "a=b c"',
        ' APPEND vga=1 console=ttyS0 "a=b c"',
    ]
    emptied = changed_config(configs.ARCH_SYSLINUX, SYSLINUX, ParameterChange(delete=("global", "quiet")))
    assert differences(configs.ARCH_SYSLINUX, emptied) == ["   append -", "   append -"]


def test_what_a_change_writes_for_loader_entries() -> None:
    after = changed_config(configs.ARCH_ENTRY, ENTRY, CHANGE)
    assert differences(configs.ARCH_ENTRY, after) == [' options "x=a b" vga=1 console=ttyS0 "a=b c"']
    bare = changed_config(configs.BARE_ENTRY, ENTRY, CHANGE)
    assert bare == configs.BARE_ENTRY.replace(
        b"linux /vmlinuz\r\n", b'linux /vmlinuz\r\noptions vga=1 console=ttyS0 "a=b c"\r\n'
    )


WITHOUT_QUIET = ParameterChange(delete=("quiet",))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'set k="quiet a"\nset k="quiet b"\nmenuentry x { linux /k $k', r"\$k stands for"),
        (b'set k=x\nif x; then set k="quiet a"; fi\nlinux /k $k', r"\$k stands for"),
        (b'for k in "quiet a"; do set k="quiet a"; linux /k $k', r"\$k stands for"),
        (b'set k="quiet a"\nregexp --set=1:k x y; linux /k $k', r"\$k stands for"),
        (b'set k="quiet a"\nlinux /k $k$l', r"\$l stands for"),
        (b'set k="/k quiet"\nlinux $k', "same variable as the kernel's name"),
        (b'set k="quiet \xff"\nlinux /k $k', "a character in it"),
    ],
)
def test_what_grub_s_variables_hide_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(LoaderConfigRefused, match=reason) as caught:
        changed_config(text, GRUB, WITHOUT_QUIET)
    assert caught.value.kind == "grub"
    # What doesn't touch them is no difficulty.
    assert changed_config(text, GRUB, ParameterChange(append=parse("x"))) == text + b" 'x'"


def test_words_that_grub_makes_one_for_the_kernel_go_together() -> None:
    # GRUB puts a backslash before the quote, and the kernel takes what is between two quotes for one word.
    text = b'linux /k a \\"b c\\" "d\te" f\n'
    [line] = read_config(text, GRUB, prefix="/").lines
    assert line.parameters.words == ("a", "\\b c\\", "d", "e", "f")
    assert changed_config(text, GRUB, ParameterChange(delete=("\\b c\\",))) == b'linux /k a "d\te" f\n'
    assert changed_config(text, GRUB, ParameterChange(delete=("d",))) == b"linux /k a \\\"b c\\\" 'e' f\n"


def test_where_commands_follow_one_another_the_last_value_counts() -> None:
    text = b'set k="quiet a"\nset k="quiet b"\nlinux /k $k'
    assert changed_config(text, GRUB, WITHOUT_QUIET) == text.replace(b"/k $k", b"/k 'b'")


def test_an_entry_s_own_variable_is_certain_in_it() -> None:
    text = b"menuentry a { set k='quiet a'; linux /a $k\n}\nmenuentry b { set k='quiet b'; linux /b $k\n}\n"
    after = changed_config(text, GRUB, WITHOUT_QUIET)
    assert after == text.replace(b"/a $k", b"/a 'a'").replace(b"/b $k", b"/b 'b'")


@pytest.mark.parametrize(
    ("kind", "text", "word"),
    [(GRUB, b"linux /k", "it's"), (SYSLINUX, b"label x", "rd.initrd=x"), (ENTRY, b"linux /k", "$x")],
)
def test_a_parameter_that_the_loader_can_not_hand_on_is_refused(kind: ConfigKind, text: bytes, word: str) -> None:
    for change in (
        ParameterChange(append=KernelParameters(words=(word,))),
        ParameterChange(replace=KernelParameters(words=(word,))),
    ):
        with pytest.raises(KernelParametersInvalid) as caught:
            changed_config(text, kind, change)
        assert caught.value.parameter == word


def test_more_than_the_kernel_keeps_is_refused() -> None:
    change = ParameterChange(append=KernelParameters(words=("x" * 1000,)))
    assert changed_config(b"linux /k " + b"y" * 1000, GRUB, change)
    with pytest.raises(KernelParametersInvalid, match="2301 bytes"):
        changed_config(b"linux /k " + b"y" * 1300, GRUB, change)


@pytest.mark.parametrize("kind", ConfigKind)
def test_what_is_too_large_is_refused(kind: ConfigKind) -> None:
    with pytest.raises(LoaderConfigRefused, match="bytes"):
        read_config(b"\n" * (LARGEST_CONFIG + 1), kind, prefix="/")


@pytest.mark.parametrize(("kind", "entry"), [(GRUB, b"linux /k\n"), (SYSLINUX, b"label k\n")])
def test_more_entries_than_any_menu_has_are_refused(kind: ConfigKind, entry: bytes) -> None:
    assert len(read_config(entry * MOST_ENTRIES, kind, prefix="/").lines) == MOST_ENTRIES
    with pytest.raises(LoaderConfigRefused, match=str(MOST_ENTRIES)):
        read_config(entry * (MOST_ENTRIES + 1), kind, prefix="/")


def test_bytes_that_are_no_text_stay_as_they_are() -> None:
    text = b"# \xff\xfe\nmenuentry '\xe9' { linux /k a=\xe9 b \x00 }\n"
    after = changed_config(text, GRUB, ParameterChange(append=parse("x"), delete=("b",)))
    assert after == b"# \xff\xfe\nmenuentry '\xe9' { linux /k a=\xe9 \x00 'x' }\n"
    [line] = read_config(text, GRUB, prefix="/").lines
    assert line.parameters.words == ("a=\ufffd", "b", "\ufffd")
    assert line.title == "\ufffd"


def test_a_line_is_a_value() -> None:
    [line] = read_config(b"linux /k a", GRUB, prefix="/").lines
    assert line == KernelLine(title="", kernel="/k", initrds=(), parameters=parse("a"))
    assert Reference(kind=GRUB, path="/x", resolvable=True) in read_config(b". /x", GRUB, prefix="/").references
