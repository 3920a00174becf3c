"""The rooms of the package: imports go down only, the pure rooms touch no machine, and one module runs programs."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import libironic_disk

PACKAGE = "libironic_disk"
TOP = Path(libironic_disk.__file__).parent
MOST_LINES = 400
# A flat list of small classes, which everybody looks for in one place.
LONGER = {f"{PACKAGE}.errors": 900}

# What may be imported where nothing may touch the machine. A whole module unless it says which of its names.
ALLOWED_IN_PURE: dict[str, frozenset[str]] = {
    name: frozenset()
    for name in (
        "__future__",
        "array",
        "base64",
        "binascii",
        "bisect",
        "bz2",
        "cattrs",
        "cattrs.strategies",
        "cattrs.v",
        "collections",
        "collections.abc",
        "contextlib",
        "dataclasses",
        "deflate",
        "difflib",
        "enum",
        "fractions",
        "functools",
        "hashlib",
        "hmac",
        "ipaddress",
        "isal",
        "isal.igzip_lib",
        "itertools",
        "json",
        "lzma",
        "math",
        "operator",
        "posixpath",
        "re",
        "shlex",
        "stat",
        "string",
        "struct",
        "textwrap",
        "types",
        "typing",
        "urllib.parse",
        "uuid",
        "xml.sax.saxutils",
        "zlib",
        "zstandard",
    )
} | {"pathlib": frozenset({"PurePath", "PurePosixPath"}), "sys": frozenset({"byteorder"})}

# The modules under everything need a clock and a lock: progress is timed, and any thread may cancel.
ALLOWED_AT_THE_BOTTOM = ALLOWED_IN_PURE | {"threading": frozenset(), "time": frozenset()}


def name_of(path: Path) -> str:
    parts = path.relative_to(TOP).with_suffix("").parts
    return ".".join((PACKAGE, *(part for part in parts if part != "__init__")))


@cache
def modules() -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    return {name_of(path): path for path in sorted(TOP.rglob("*.py"))}


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(), filename=str(modules()[name]))


def imports(name: str) -> Iterator[tuple[str, str]]:
    """Every import anywhere in a module, as (module, name taken from it or nothing)."""
    return taken_by(tree_of(name), name)


def imports_at_run_time(name: str) -> Iterator[tuple[str, str]]:
    """Those that Python carries out when it loads the module: a function's own and a type checker's are left out."""
    for statement in tree_of(name).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield from taken_by(statement, name)


def taken_by(tree: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def inside(taken: Iterable[tuple[str, str]]) -> set[str]:
    """The modules of this package among what is imported."""
    return {
        f"{module}.{name}" if f"{module}.{name}" in modules() else module
        for module, name in taken
        if module.split(".")[0] == PACKAGE
    }


def floor_of(name: str) -> int:
    """How high a module lives: it may import what lives as high or lower."""
    _, _, room = name.partition(".")
    if room in {"errors", "events", "units"}:
        return 0
    for floor, folder in ((1, "pure"), (2, "machine")):
        if room == folder or room.startswith(f"{folder}."):
            return floor
    return {"": 5, "deploy": 4}.get(room, 3)


PURE = sorted(name for name in modules() if floor_of(name) <= 1)


def calls(name: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree_of(name)) if isinstance(node, ast.Call))


def functions_called(name: str) -> set[str]:
    return {call.func.id for call in calls(name) if isinstance(call.func, ast.Name)}


def methods_called(name: str) -> set[str]:
    return {call.func.attr for call in calls(name) if isinstance(call.func, ast.Attribute)}


def test_the_rooms_are_found() -> None:
    assert {floor_of(name) for name in modules()} == {0, 1, 2, 3, 4, 5}
    assert inside(imports(f"{PACKAGE}.pure.disks.planner")) >= {f"{PACKAGE}.pure.disks.ids", f"{PACKAGE}.errors"}
    assert "run" in methods_called(f"{PACKAGE}.filesystems")


def test_imports_go_down_only() -> None:
    upwards = {
        (name, other) for name in modules() for other in inside(imports(name)) if floor_of(other) > floor_of(name)
    }
    assert upwards == set()


def everything_below(name: str) -> set[str]:
    """All modules that are loaded for one, whoever asks for them."""
    found, todo = {name}, [name]
    while todo:
        new = inside(imports(todo.pop())) - found
        found |= new
        todo += new
    return found


def test_booting_and_deploying_do_not_know_each_other() -> None:
    booting = {name for name in modules() if f"{name}.".startswith(f"{PACKAGE}.boot.")}
    deploying = {f"{PACKAGE}.{room}" for room in ("deploy", "multiboot", "request", "result")} & set(modules())
    assert f"{PACKAGE}.boot.pxe" in booting
    assert f"{PACKAGE}.deploy" in deploying
    for name in booting:
        assert everything_below(name) & deploying == set(), name
    for name in deploying:
        assert everything_below(name) & booting == set(), name


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: inside(imports_at_run_time(name)) for name in modules()}
    # It raises CycleError, which names the circle.
    assert set(TopologicalSorter(graph).static_order()) == set(graph)


def test_the_pure_rooms_import_nothing_that_touches_the_machine() -> None:
    refused = set()
    for name in PURE:
        allowed = ALLOWED_IN_PURE if floor_of(name) == 1 else ALLOWED_AT_THE_BOTTOM
        for module, taken in imports(name):
            names = allowed.get(module)
            if module.split(".")[0] != PACKAGE and (names is None or (names and taken and taken not in names)):
                refused.add((name, module, taken))
    assert refused == set()


def test_the_pure_rooms_take_only_harmless_names_from_modules_that_have_others() -> None:
    used = {
        (node.value.id, node.attr)
        for name in PURE
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert {pair for pair in used if pair[0] in {"sys", "pathlib"}} <= {("sys", "byteorder")}


def test_the_pure_rooms_open_nothing_and_run_no_text() -> None:
    builtins = {"open", "exec", "eval", "compile", "input", "__import__"}
    assert {name for name in PURE if functions_called(name) & builtins} == set()
    # What unpacks bytes in memory could open files too.
    assert {name for name in PURE if "open" in methods_called(name)} == set()


def test_nothing_is_printed() -> None:
    assert {name for name in modules() if "print" in functions_called(name)} == set()


def test_no_shell_is_asked_for() -> None:
    shells = {
        (name, call.lineno)
        for name in modules()
        for call in calls(name)
        for word in call.keywords
        if word.arg == "shell"
    }
    assert shells == set()


def test_programs_are_run_by_one_module_alone() -> None:
    runners = {"asyncio", "multiprocessing", "oslo_concurrency.processutils", "pty", "subprocess"}
    users = {
        name
        for name in modules()
        for module, taken in imports(name)
        if {module, module.split(".")[0], f"{module}.{taken}"} & runners
    }
    assert users == {f"{PACKAGE}.machine.process"}
    spawning = {"system", "popen", "fork", "forkpty", "execv", "execve", "execvp", "posix_spawn", "posix_spawnp"}
    assert {name for name in modules() if methods_called(name) & spawning} == set()


def test_nobody_asks_what_time_it_is() -> None:
    """Deadlines are of the clock that only goes on: the other one jumps, and is of 1970 where a battery is flat."""
    clocks = {"time", "time_ns", "localtime", "gmtime", "ctime", "asctime", "strftime", "now", "utcnow", "today"}
    asking = {name for name in modules() if (methods_called(name) | functions_called(name)) & clocks}
    assert asking == set()
    assert any("monotonic" in methods_called(name) for name in modules())


def test_no_file_is_too_long_to_be_read() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: length for name, length in lengths.items() if length > LONGER.get(name, MOST_LINES)} == {}
