"""Unpack the runtime's wheels into a layer: pure Python, with byte code that no time stamp makes stale.

Layers have time stamps of 1980, so byte code that is checked against them would be compiled again at
each cold start.
"""

import compileall
import os
import py_compile
import shutil
import sys
import zipfile

# Of all services' descriptions only those that the runtime speaks to; else 20 MB more in each image.
SERVICES = ("s3", "sts", "sso", "sso-oidc", "sqs")
# Wheels of what can't do without its compiled part.
COMPILED = ("psycopg_binary-", "obstore-")
# Compiled parts, and what tells with which tools a wheel was made.
UNUSED = (".so", ".dist-info/RECORD", ".dist-info/WHEEL")

SCRIPT = """#!/bin/sh
exec python3 -I {lib}/koalja_runtime/__main__.py "$@"
"""


def main(wheels, layer):
    lib = os.path.join(layer, "python")
    os.makedirs(lib)
    for name in sorted(os.listdir(wheels)):
        if name.endswith(".whl"):
            unpack(os.path.join(wheels, name), lib, name)
    good = compileall.compile_dir(
        lib, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH, workers=1
    )
    if not good:
        sys.exit("the runtime could not be compiled for this Python")
    os.makedirs(os.path.join(layer, "bin"))
    script = os.path.join(layer, "bin", "koalja-runtime")
    with open(script, "w") as file:
        file.write(SCRIPT.format(lib=lib))
    os.chmod(script, 0o755)


def unpack(wheel, lib, name):
    """Take a wheel's files; compiled speed-ups fit one Python only, and most of what we use does without."""
    compiled = name.startswith(COMPILED)
    if compiled and not fits(name):
        return
    unused = UNUSED[1:] if compiled else UNUSED
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            if info.is_dir() or info.filename.endswith(unused) or ".data/" in info.filename:
                continue
            if foreign(info.filename):
                continue
            if info.filename.startswith("koalja_fn-"):
                continue
            path = os.path.normpath(os.path.join(lib, info.filename))
            if not path.startswith(lib + os.sep):
                sys.exit(f"{wheel} has a file outside of itself: {info.filename}")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.open(info) as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target)
            os.chmod(path, 0o644)


def fits(name):
    """Whether a compiled wheel is for this Python on this kind of machine."""
    tag, abi, _ = name.removesuffix(".whl").split("-")[-3:]
    if not name.endswith(f"_{os.uname().machine}.whl"):
        return False
    if abi == "abi3":  # for that version and all later ones
        return tag.startswith("cp3") and int(tag[3:]) <= sys.version_info[1]
    return tag == abi == "cp{}{}".format(*sys.version_info[:2])


def foreign(path):
    """Whether a file describes a service that the runtime does not speak to."""
    parts = path.split("/")
    return parts[:2] == ["botocore", "data"] and len(parts) > 3 and parts[2] not in SERVICES


if __name__ == "__main__":
    main(*sys.argv[1:])
