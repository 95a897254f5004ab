"""Puts the buildpacks into the wheel: they are no package, but an installed `koalja-fn pack` needs them."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithBuildpacks(build_py):
    """Copies `buildpacks/` to `koalja_fn/_shipped`, without wheels: those are collected where it is used."""

    def run(self) -> None:
        """Build as ever, then copy; an editable installation has the folder itself."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "koalja_fn" / "_shipped"
            shutil.rmtree(target, ignore_errors=True)
            left_out = shutil.ignore_patterns("wheels", ".wheels-*", "__pycache__", ".lock", ".gitignore")
            shutil.copytree(Path(__file__).parent / "buildpacks", target, ignore=left_out)


setup(cmdclass={"build_py": WithBuildpacks})
