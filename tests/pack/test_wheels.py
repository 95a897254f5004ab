"""The runtime's wheels: collected at another time or place they make the same image."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from koalja_fn.pack.buildpack import digest_of, read_buildpack
from koalja_fn.pack.errors import PhaseError
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
