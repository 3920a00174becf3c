"""Layouts and plans as JSON documents: what was written reads back equal, and what is unknown is refused."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Final, TypeVar, get_args, get_origin

import cattrs
from cattrs.strategies import configure_tagged_union
from cattrs.v import format_exception

from libironic_disk.errors import DocumentInvalid
from libironic_disk.pure.disks.encoding import problems_of
from libironic_disk.pure.disks.layout import Layout
from libironic_disk.pure.disks.planning import Plan
from libironic_disk.pure.disks.sizes import Exact, Percent, Remaining, Size
from libironic_disk.pure.ranges import ByteRange

PLAN_VERSION: Final = 1
LAYOUT_VERSION: Final = 1

_Document = TypeVar("_Document", Layout, Plan)


def layout_to_json(layout: Layout) -> str:
    """Return a layout as a JSON document."""
    return _dump(layout, "layout", LAYOUT_VERSION)


def layout_from_json(text: str) -> Layout:
    """Read a layout back.

    Raises:
        DocumentInvalid: it isn't one; every defect with its path.
    """
    return _load(text, "layout", LAYOUT_VERSION, Layout)


def plan_to_json(plan: Plan) -> str:
    """Return a plan as a JSON document."""
    return _dump(plan, "plan", PLAN_VERSION)


def plan_from_json(text: str) -> Plan:
    """Read a plan back, to be applied as if it had just been made.

    Raises:
        DocumentInvalid: it isn't one; every defect with its path. Or there is no table that it could become.
    """
    plan = _load(text, "plan", PLAN_VERSION, Plan)
    if problems := tuple(problems_of(plan)):
        raise DocumentInvalid(kind="plan", problems=problems)
    return plan


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(
        forbid_extra_keys=True,
        omit_if_default=True,
        prefer_attrib_converters=False,
        unstruct_collection_overrides={frozenset: sorted},
    )
    converter.register_unstructure_hook(bytes, bytes.hex)
    converter.register_structure_hook(bytes, lambda text, _: bytes.fromhex(text))
    converter.register_unstructure_hook(ByteRange, list)
    converter.register_structure_hook(ByteRange, lambda pair, _: ByteRange(*converter.structure(pair, tuple[int, int])))
    # cattrs would call int("7"), str(None) and tuple("ab"): a document with the wrong type is a defect, no near miss.
    for scalar in (int, str, bool):
        converter.register_structure_hook(scalar, _scalar)
    converter.register_structure_hook(float, lambda value, _: value if type(value) is int else _exactly(value, float))
    converter.register_structure_hook_func(_is_collection, lambda value, kind: _collection(converter, value, kind))
    # The hooks of the union's members are looked up here, once and for all.
    names = {Exact: "exact", Percent: "percent", Remaining: "remaining"}
    configure_tagged_union(Size, converter, tag_generator=names.__getitem__, tag_name="kind")
    return converter


def _exactly(value: object, wanted: type) -> object:
    if type(value) is not wanted:
        raise TypeError(f"{type(value).__name__} where {wanted.__name__} is wanted")
    return value


def _scalar(value: object, wanted: type) -> object:
    # cattrs comes here with every class derived from str as well.
    return wanted(str(_exactly(value, str))) if issubclass(wanted, StrEnum) else _exactly(value, wanted)


def _is_collection(wanted: type) -> bool:
    return get_origin(wanted) in (tuple, frozenset)


def _collection(converter: cattrs.Converter, value: object, wanted: type) -> object:
    of, *more = get_args(wanted)
    items = converter.structure(_exactly(value, list), list[of])  # type: ignore[valid-type]
    if more and more[-1] is not Ellipsis and len(items) != 1 + len(more):
        raise ValueError(f"{len(items)} values where {1 + len(more)} are wanted")
    return (get_origin(wanted) or tuple)(items)


def _dump(document: Layout | Plan, kind: str, version: int) -> str:
    content = _converter().unstructure(document)
    return json.dumps({"document": f"libironic_disk/{kind}", "version": version, kind: content}, indent=2)


def _load(text: str, kind: str, version: int, wanted: type[_Document]) -> _Document:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentInvalid(kind=kind, problems=(f"not JSON: {error}",)) from error
    if not isinstance(document, dict) or set(document) != {"document", "version", kind}:
        raise DocumentInvalid(kind=kind, problems=(f"not an object with document, version and {kind} alone",))
    if (document["document"], document["version"]) != (f"libironic_disk/{kind}", version):
        problem = f"{document['document']} of version {document['version']}, not {kind} of version {version}"
        raise DocumentInvalid(kind=kind, problems=(problem,))
    try:
        return _converter().structure(_exactly(document[kind], dict), wanted)
    except cattrs.BaseValidationError as error:
        problems = tuple(cattrs.transform_error(error, format_exception=_in_words))
        raise DocumentInvalid(kind=kind, problems=problems) from error
    except TypeError as error:
        raise DocumentInvalid(kind=kind, problems=(f"{error} @ $",)) from error


def _in_words(error: BaseException, wanted: type | None) -> str:
    # What isn't an object is found out by cattrs only when it calls the methods of one.
    return "not an object" if isinstance(error, AttributeError) else format_exception(error, wanted)
