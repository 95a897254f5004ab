"""Install Python libraries into a layer from wheels: those that the platform laid ready, else from an index.

koalja-fn's own platform resolves and fetches wheels before the build, so that it needs neither network nor
credentials. Elsewhere pip fetches them; it comes with the build image, or as a wheel beside this script.
"""

import compileall
import glob
import os
import py_compile
import shutil
import subprocess
import sys
import tomllib
import zipfile


def main(asked, layer):
    lib = os.path.join(layer, "python")
    os.makedirs(lib)
    ready = os.path.join(os.environ.get("CNB_PLATFORM_DIR", ""), "wheels")
    if os.path.isdir(ready):
        for name in sorted(os.listdir(ready)):
            unpack(os.path.join(ready, name), layer, lib)
    else:
        fetch(asked, lib)
    compileall.compile_dir(lib, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def unpack(wheel, layer, lib):
    """Take a wheel apart as its specification says: libraries, then data and scripts."""
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            head, _, rest = info.filename.partition("/")
            base, name, executable = lib, info.filename, bool(info.external_attr >> 16 & 0o111)
            if head.endswith(".data"):
                kind, _, name = rest.partition("/")
                base = {"scripts": os.path.join(layer, "bin"), "data": layer}.get(kind, lib)
                executable = executable or kind == "scripts"
            put(archive, info, base, name, executable)


def put(archive, info, base, name, executable):
    path = os.path.normpath(os.path.join(base, name))
    if not path.startswith(base + os.sep):
        sys.exit(f"{archive.filename} has a file outside of itself: {info.filename}")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with archive.open(info) as source, open(path, "wb") as target:
        first = source.read(8)
        target.write(b"#!/usr/bin/env python3" if executable and first == b"#!python" else first)
        shutil.copyfileobj(source, target)
    os.chmod(path, 0o755 if executable else 0o644)


def fetch(asked, lib):
    words = ["-r", asked]
    if asked == "pyproject.toml":
        with open(asked, "rb") as file:
            words = tomllib.load(file).get("project", {}).get("dependencies", [])
        if not words:
            return
    common = ["install", "--only-binary=:all:", "--no-compile", "--no-input", "--target", lib]
    done = subprocess.run([*pip(), *common, *words], check=False)
    if done.returncode != 0:
        sys.exit(f"what {asked} asks for can't be had as wheels for this Python")


def pip():
    beside = glob.glob(os.path.join(os.environ["CNB_BUILDPACK_DIR"], "wheels", "pip-*.whl"))
    if beside:
        return [sys.executable, f"{beside[0]}/pip"]
    return [sys.executable, "-m", "pip"]


if __name__ == "__main__":
    main(*sys.argv[1:])
