"""Layouts and plans as JSON documents: what was written reads back equal, and what is unknown is refused."""

from __future__ import annotations

import json
from typing import Final, TypeVar
from uuid import UUID

import cattrs
from cattrs.strategies import configure_tagged_union

from libironic_disk.errors import DocumentInvalid
from libironic_disk.pure.layout import Layout
from libironic_disk.pure.planning import Plan
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.sizes import Exact, Percent, Remaining, Size

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
        DocumentInvalid: it isn't one; every defect with its path.
    """
    return _load(text, "plan", PLAN_VERSION, Plan)


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, omit_if_default=True, prefer_attrib_converters=False)
    names = {Exact: "exact", Percent: "percent", Remaining: "remaining"}
    configure_tagged_union(Size, converter, tag_generator=names.__getitem__, tag_name="kind")
    converter.register_unstructure_hook(bytes, bytes.hex)
    converter.register_structure_hook(bytes, lambda text, _: bytes.fromhex(text))
    converter.register_unstructure_hook(UUID, str)
    converter.register_structure_hook(UUID, lambda text, _: UUID(text))
    converter.register_unstructure_hook(ByteRange, list)
    converter.register_structure_hook(ByteRange, lambda pair, _: ByteRange(int(pair[0]), int(pair[1])))
    # cattrs would call int("7") and str(None): a document with the wrong type is a defect, not a near miss.
    converter.register_structure_hook_func(lambda kind: kind in {int, str, bool}, _exactly)
    return converter


def _exactly(value: object, wanted: type) -> object:
    if type(value) is not wanted:
        raise TypeError(f"{type(value).__name__} where {wanted.__name__} is wanted")
    return value


def _dump(document: Layout | Plan, kind: str, version: int) -> str:
    content = _converter().unstructure(document)
    return json.dumps({"document": f"libironic_disk/{kind}", "version": version, kind: content}, indent=2)


def _load(text: str, kind: str, version: int, wanted: type[_Document]) -> _Document:
    try:
        document = json.loads(text)
        if document["document"] != f"libironic_disk/{kind}" or document["version"] != version:
            raise ValueError(f"not a {kind} of version {version}")
        return _converter().structure(document[kind], wanted)
    except cattrs.BaseValidationError as error:
        raise DocumentInvalid(kind=kind, problems=tuple(cattrs.transform_error(error))) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DocumentInvalid(kind=kind, problems=(f"not a {kind} document: {error}",)) from error
