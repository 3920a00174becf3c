"""A few seeds of the soak, and that it would notice; many of them: make soak."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak import making
from tests.soak.choosing import Kind, case_of
from tests.soak.images import Images
from tests.support import deployments
from tests.support.webserver import serving

pytestmark = pytest.mark.loopdevice


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The images of all seeds here."""
    return Images(tmp_path_factory.mktemp("soak"))


@pytest.mark.parametrize("seed", range(1, 7))
def test_a_seed_leaves_what_it_should(images: Images, seed: int) -> None:
    with serving() as server:
        assert "done" in making.make(case_of(seed), images, server)


def seeds() -> Iterator[int]:
    for kind in Kind:
        yield next(seed for seed in range(1, 200) if case_of(seed).first.kind is kind and not case_of(seed).fault)


@pytest.mark.parametrize("seed", [*seeds()])
def test_a_deployment_that_does_nothing_is_noticed(images: Images, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments, "apply", lambda *wanted, **options: None)
    with serving() as server, pytest.raises(AssertionError):
        making.make(case_of(seed), images, server)


def test_a_seed_decides_everything(tmp_path: Path) -> None:
    assert [str(case_of(seed)) for seed in range(50)] == [str(case_of(seed)) for seed in range(50)]
    chosen = [case_of(seed) for seed in range(200)]
    assert {case.first.kind for case in chosen} == set(Kind)
    assert {type(case.fault.fault).__name__ for case in chosen if case.fault} == {
        "CancelledAtEvent",
        "ProgramFault",
        "SystemCallFault",
    }
