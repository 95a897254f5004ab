"""The runtime's wheels: collected at another time or place they make the same image."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from koalja_fn.pack.buildpack import digest_of, read_buildpack
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.swapping import swap
from koalja_fn.pack.wheels import buildpacks_folder, collect


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_wheels_that_are_collected_twice_have_one_digest(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        folder = tmp_path / name
        ignore = shutil.ignore_patterns("wheels", ".lock")
        shutil.copytree(buildpacks_folder(), folder, ignore=ignore)
        try:
            home = collect(folder)
        except PhaseError as error:
            pytest.skip(
                f"needs PyPI, or PIP_FIND_LINKS with what buildpacks/koalja/wheels.txt names: {error.why}"
            )
        digest = digest_of([read_buildpack(folder / "koalja")])
        found.append(((home / "digest").read_text(), digest))
    assert found[0] == found[1]


def test_who_reads_the_wheels_while_they_are_collected_anew_finds_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two packs at once: the one must not take the wheels away from the other."""
    folder = tmp_path / "buildpacks"
    shutil.copytree(
        buildpacks_folder(), folder, ignore=shutil.ignore_patterns("wheels", ".wheels-*", ".lock")
    )
    names = [f"lib{number}-1-py3-none-any.whl" for number in range(20)]

    def download(arguments: Sequence[str]) -> None:
        for name in names:
            made = Path(arguments[arguments.index("-d") + 1]) / name
            Path(shutil.make_archive(str(made), "zip", folder / "node")).rename(made)

    monkeypatch.setattr("koalja_fn.pack.wheels._pip", download)
    home = collect(folder)
    whole = sorted(path.name for path in home.iterdir())
    assert {"digest", "source", *names} < set(whole)
    seen: set[tuple[str, ...]] = set()
    enough = threading.Event()

    def read() -> None:
        while not enough.is_set():
            seen.add(tuple(sorted(path.name for path in home.iterdir())))
            (home / "digest").read_text()

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(3):
        collect(folder)
    enough.set()
    for reader in readers:
        reader.join()
    assert seen == {tuple(whole)}
    assert len(list(folder.glob(".wheels-*"))) == 1


def test_wheels_that_can_t_be_collected_leave_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "buildpacks"
    shutil.copytree(
        buildpacks_folder(), folder, ignore=shutil.ignore_patterns("wheels", ".wheels-*", ".lock")
    )

    def fails(_: Sequence[str]) -> None:
        raise PhaseError("no network", phase="source")

    (folder / "koalja/wheels").mkdir()
    (folder / "koalja/wheels/old.whl").write_text("")
    monkeypatch.setattr("koalja_fn.pack.wheels._pip", fails)
    with pytest.raises(PhaseError):
        collect(folder)
    assert [path.name for path in (folder / "koalja/wheels").iterdir()] == ["old.whl"]
    assert list(folder.glob(".wheels-*")) == []


def test_folders_swap_where_the_system_can_t_exchange_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for able in (True, False):
        one, two = tmp_path / f"one-{able}", tmp_path / f"two-{able}"
        one.mkdir()
        two.mkdir()
        (one / "new").write_text("")
        (two / "old").write_text("")
        if not able:
            monkeypatch.setattr("koalja_fn.pack.swapping._EXCHANGE", 1 << 20)  # EINVAL, as on such systems
        swap(one, two)
        assert [path.name for path in one.iterdir()] == ["old"]
        assert [path.name for path in two.iterdir()] == ["new"]
    assert len(list(tmp_path.iterdir())) == 4
