"""What the documentation shows is so: its sessions run, its samples and its figure are those that the library makes."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import libironic_disk
from examples import plan_disk
from lab.isolayouts import IsoLayout, make
from lab.systemdisk import FILES
from libironic_disk import (
    DeployRequest,
    DiskError,
    Role,
    bootiso,
    errors,
    layout_from_json,
    plan_from_json,
    plan_to_json,
)
from libironic_disk.pure import roles
from libironic_disk.units import GIB
from tests.conftest import Bench
from tests.support import oracles

TREE = Path(__file__).parent.parent.parent
DOCS = TREE / "docs"
README = (TREE / "README.md").read_text()
PAGES = sorted(DOCS.glob("*.rst"))
SESSIONS = [page for page in PAGES if ">>> " in page.read_text()]


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A partition image with the files of a system, as qcow2."""
    folder = tmp_path_factory.mktemp("debian")
    for name, content in FILES.items():
        path = folder / "tree" / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    raw, image = folder / "debian.raw", folder / "debian.qcow2"
    oracles.output("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", str(folder / "tree"), str(raw), "64M")
    oracles.output("qemu-img", "convert", "-O", "qcow2", str(raw), str(image))
    return image


@pytest.fixture
def desk(tmp_path: Path, debian: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with what the documentation's sessions find: an image, two blank disks, an ISO and the samples."""
    (tmp_path / "debian.qcow2").symlink_to(debian)
    for name in ("disk.img", "other.img"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(20 * GIB)
    for sample in ("layout.json", "plan.json"):
        (tmp_path / sample).symlink_to(DOCS / sample)
    make(IsoLayout.GRUB, tmp_path / "live.iso")
    for part in ("vmlinuz", "initrd.img"):
        (tmp_path / part).write_bytes(b"a placeholder")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.stem)
def test_the_sessions_of_a_page_end_as_it_says(page: Path) -> None:
    said: list[str] = []
    session = doctest.DocTestParser().get_doctest(page.read_text(), {}, page.name, str(page), 0)
    results = doctest.DocTestRunner(verbose=False).run(session, out=said.append)
    assert results.attempted > 0
    assert results.failed == 0, "".join(said)


def test_the_samples_are_what_the_example_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plan_disk.main()
    printed = capsys.readouterr().out
    made = {path.name: path.read_text() for path in tmp_path.iterdir()} | {"plan.txt": printed}
    assert set(made) == {"layout.json", "plan.json", "plan.svg", "plan.txt"}
    for name, text in made.items():
        assert _without_inode(text) == _without_inode((DOCS / name).read_text()), f"docs/{name}: see docs/testing.rst"


def test_the_samples_read_back_equal() -> None:
    assert layout_from_json((DOCS / "layout.json").read_text()) == plan_disk.LAYOUT
    text = (DOCS / "plan.json").read_text()
    assert plan_to_json(plan_from_json(text)) + "\n" == text


def _without_inode(text: str) -> str:
    """Drop what tells one file from another, the only thing in a plan that nobody can foresee."""
    return re.sub(r'"serial": "\d+:\d+"', '"serial": ""', text)


def _fenced(language: str, number: int = 0) -> str:
    """Return a block of the README in a language."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return str(blocks[number])


@pytest.mark.usefixtures("desk")
def test_the_readme_shows_the_plan_of_its_example(capsys: pytest.CaptureFixture[str]) -> None:
    planning, apply, _ = _fenced("python").partition("result = ")
    assert apply
    exec(compile(planning, "README.md", "exec"), {})  # noqa: S102 - the README's own example
    assert capsys.readouterr().out == _fenced("text")


@pytest.mark.loopdevice
@pytest.mark.usefixtures("desk")
def test_the_readme_deploys(debian: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(_fenced("python"), "README.md", "exec"), {})  # noqa: S102 - the README's own example
    plan, uuid = capsys.readouterr().out.removesuffix("\n").rsplit("\n", 1)
    assert f"{plan}\n" == _fenced("text")
    oracles.output("qemu-img", "convert", "-O", "raw", str(debian), "root.raw")
    assert uuid == oracles.blkid("root.raw")["UUID"]
    assert {row.name for row in oracles.sfdisk("disk.img").rows} >= {"esp", "swap", "root"}


@pytest.mark.usefixtures("desk")
def test_the_readme_patches_an_iso() -> None:
    make(IsoLayout.GRUB, Path("installer.iso"))
    exec(compile(_fenced("python", 1), "README.md", "exec"), {})  # noqa: S102 - the README's own example
    with bootiso.open_iso("for-machine-12.iso") as patched:
        lines = [line for config in patched.configs for line in config.lines]
    assert lines
    assert all("ipa-api-url=http://10.0.0.1:6385" in line.parameters.words for line in lines)


@pytest.mark.loopdevice
def test_the_program_that_deploys(bench: Bench, debian: Path) -> None:
    disk = bench.disk(2 * GIB, 512)
    argv = [sys.executable, "-m", "examples.deploy_image", str(debian), disk.node, "--swap-mb", "64"]
    done = subprocess.run(argv, cwd=TREE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in ("No  Name", "image ", "commit took ", '"efi system partition uuid": "'):
        assert line in done.stdout
    oracles.check_gpt(disk.node)
    refused = subprocess.run([*argv[:-1], "4096"], cwd=TREE, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("LayoutDoesNotFit: ")


def test_every_field_of_a_request_is_documented() -> None:
    page = (DOCS / "deploy.rst").read_text()
    for field in fields(DeployRequest):
        assert f"   * - ``{field.name}``\n" in page


def test_every_error_is_documented_with_its_remedy() -> None:
    page = (DOCS / "errors.rst").read_text()
    public = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, DiskError)}
    assert len(public) > 20
    for name in public - {"DiskError"}:
        assert f"``{name}``" in page


def test_every_public_name_is_in_the_reference() -> None:
    page = (DOCS / "reference.rst").read_text()
    modules = {"bootinfo", "configdrive", "deploy", "filesystems", "grub", "images", "multiboot", "partitioner"}
    modules |= {"bootiso", "switching", "volumes", "wholedisk"}
    for name in set(libironic_disk.__all__) - modules - {"DiskError", "DiskState"}:
        assert re.search(rf"^\.\. auto\w+:: libironic_disk\.(\w+\.)*{name}$", page, re.MULTILINE), name
    for name in modules | {"errors", "events"}:
        assert f".. automodule:: libironic_disk.{name}\n" in page


def test_every_type_and_attribute_is_in_the_layout_page() -> None:
    page = (DOCS / "layout.rst").read_text().splitlines()

    def row(first: str) -> str:
        (found,) = (line for line in page if line.startswith(f"   ``{first}``,"))
        return found

    for role in Role:
        if role not in {Role.ROOT, Role.DATA}:
            assert str(roles.gpt_type(role, roles.Architecture.X86_64, None)) in row(role)
        assert row(role).endswith("none" if role is Role.BIOS_BOOT else f"{roles.mbr_type(role):#04x}")
    for architecture in roles.Architecture:
        assert row(architecture).endswith(str(roles.gpt_type(Role.ROOT, architecture, None)))
    for mount_point in ("/home", "/srv", "/tmp"):
        assert row(mount_point).endswith(str(roles.gpt_type(Role.DATA, roles.Architecture.X86_64, mount_point)))
    for attribute, bit in roles.ATTRIBUTE_BITS.items():
        assert row(attribute).startswith(f"   ``{attribute}``, {bit}, ")


def test_commands_and_places_that_are_named_exist() -> None:
    text = "\n".join([README, *(page.read_text() for page in PAGES)])
    targets = set(re.findall(r"^([a-z-]+):", (TREE / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:\$ |`|^)make ([a-z-]+)", text, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets
    places = set(re.findall(r"`((?:docs|examples|lab|libironic_disk|tests|tools)/[\w./]*)`", text))
    assert len(places) > 5
    assert [place for place in places if "_build" not in place and not (TREE / place).exists()] == []
