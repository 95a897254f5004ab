#!/usr/bin/env -S python3 -ISE
"""The launcher of an image: sets the environment that its layers ask for and becomes the process.

This file is what lies at /cnb/lifecycle/launcher in images of koalja-fn; nothing but the standard library is
at hand there, and each import costs cold-start time. Rules: the launcher of the Platform API 0.15 and the
environment of the Buildpack API 0.12.
"""

import os
import sys
import tomllib

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is not imported: it costs a tenth of the start
    from typing import Any, NoReturn

FAILED, NO_PROCESS = 80, 82
PATHS = {"PATH": "bin", "LD_LIBRARY_PATH": "lib"}


def fail(text: str, status: int = FAILED) -> "NoReturn":
    sys.stderr.write(f"launcher: {text}\n")
    sys.exit(status)


def listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def read(path: str) -> str:
    with open(path, "rb") as file:
        return os.fsdecode(file.read())


def apply_files(environ: dict[str, str], folder: str) -> None:
    """The files of one env folder: NAME or NAME.action."""
    names = listed(folder)
    for file in names:
        name, _, action = file.partition(".")
        path = f"{folder}/{file}"
        if action == "delim" or not os.path.isfile(path):
            continue
        text, before = read(path), environ.get(name, "")
        delimiter = read(f"{folder}/{name}.delim") if f"{name}.delim" in names else ""
        if action in ("", "override"):
            environ[name] = text
        elif action == "default":
            environ[name] = before or text
        elif action == "append":
            environ[name] = before + delimiter + text if before else text
        elif action == "prepend":
            environ[name] = text + delimiter + before if before else text


def apply_layers(environ: dict[str, str], layers: list[list[str]], kind: str | None) -> None:
    """All layers of all buildpacks, in the order of the build; later buildpacks' paths come first."""
    for folders in layers:
        for name, child in PATHS.items():
            found = [f"{layer}/{child}" for layer in folders if os.path.isdir(f"{layer}/{child}")]
            if found:
                environ[name] = ":".join(found + ([environ[name]] if environ.get(name) else []))
        for layer in folders:
            apply_files(environ, f"{layer}/env")
            apply_files(environ, f"{layer}/env.launch")
            if kind:
                apply_files(environ, f"{layer}/env.launch/{kind}")


def run_exec_d(environ: dict[str, str], layers: list[list[str]], kind: str | None, app: str) -> None:
    """Programs that tell variables on descriptor 3, as TOML."""
    for deeper in ("", kind):
        if deeper is None:
            continue
        for layer in [layer for folders in layers for layer in folders]:
            folder = f"{layer}/exec.d" + (f"/{deeper}" if deeper else "")
            for name in listed(folder):
                path = f"{folder}/{name}"
                if os.path.isfile(path):
                    environ.update(run_one(path, environ, app))


def run_one(path: str, environ: dict[str, str], app: str) -> dict[str, str]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(writing, 3)
            if reading != 3:
                os.close(reading)
            os.chdir(app)
            os.execve(path, [path], environ)
        except OSError as error:
            sys.stderr.write(f"launcher: {path}: {error}\n")
        os._exit(127)
    os.close(writing)
    with open(reading, "rb") as file:
        told = file.read()
    if os.waitpid(child, 0)[1] != 0:
        fail(f"{path} failed", FAILED + 4)
    try:
        found = tomllib.loads(told.decode())
    except ValueError as error:
        fail(f"{path} told no valid TOML: {error}", FAILED + 4)
    for name, value in found.items():
        if not isinstance(value, str):
            fail(f"{path}: {name} is no string", FAILED + 4)
    return found


def of_old(metadata: "dict[str, Any]", process: "dict[str, Any]") -> bool:
    """Whether a process is of a buildpack with an API before 0.9."""
    for one in metadata.get("buildpacks", []):
        if one["id"] == process.get("buildpack-id"):
            return int(one.get("api", "0.9").partition(".")[2] or 0) < 9 and one["api"].startswith("0.")
    return False


def chosen(
    metadata: "dict[str, Any]", argv: list[str], app: str, exec_env: str
) -> tuple[str | None, list[str], str, bool]:
    """The process to start: its type (None for a command of the user's own), words, place, and how."""
    kind = os.path.basename(argv[0])
    of_type = [one for one in metadata.get("processes", []) if one["type"] == kind]
    if of_type:
        fit = [one for one in of_type if {exec_env, "*"} & set(one.get("exec-env") or ["*"])]
        if not fit:
            fail(f"the process '{kind}' is not for the execution environment '{exec_env}'", NO_PROCESS)
        one = fit[-1]
        command = one["command"] if isinstance(one["command"], list) else [one["command"]]
        args = one.get("args", [])
        if argv[1:]:  # before API 0.9 a user's words came after the buildpack's, since then in their place
            args = args + argv[1:] if of_old(metadata, one) and len(command) == 1 else argv[1:]
        return kind, command + args, one.get("working-dir") or app, one.get("direct", True)
    if len(argv) < 2:
        types = ", ".join(one["type"] for one in metadata.get("processes", [])) or "none"
        fail(f"what shall be started? The image has the process types: {types}", NO_PROCESS)
    if argv[1] == "--":
        if len(argv) < 3:
            fail("there is no command after '--'", NO_PROCESS)
        return None, argv[2:], app, True
    return None, argv[1:], app, False


def through_shell(
    words: list[str], layers: list[list[str]], kind: str | None, app: str, place: str
) -> list[str]:
    """The words that start a command by a shell in the application's folder, which reads the profiles first.

    A single word is a script; of several the shell replaces the variables in each, which stays one word.
    """
    profiles = []
    for deeper in ("", kind):
        if deeper is not None:
            for layer in [layer for folders in layers for layer in folders]:
                folder = f"{layer}/profile.d" + (f"/{deeper}" if deeper else "")
                profiles += [
                    f"{folder}/{name}" for name in listed(folder) if os.path.isfile(f"{folder}/{name}")
                ]
    if os.path.isfile(f"{app}/.profile"):
        profiles.append(f"{app}/.profile")
    shell = next((s for s in ("/bin/bash", "/usr/bin/bash") if os.path.exists(s)), "/bin/sh")
    quoted = ["'" + path.replace("'", "'\\''") + "'" for path in (*profiles, place)]
    script = "".join(f". {path}\n" for path in quoted[:-1]) + f"cd {quoted[-1]} || exit {FAILED + 5}\n"
    if len(words) == 1:
        return [shell, "-c", f'{script}exec {shell} -c "$0"', words[0]]
    each = " ".join(f'"$(eval "printf %s \\"${{{number}}}\\"")"' for number in range(len(words)))
    return [shell, "-c", f"{script}exec {each}", *words]


def program(name: str, environ: dict[str, str], folder: str) -> str:
    if "/" in name:
        return os.path.join(folder, name)
    for part in environ.get("PATH", os.defpath).split(":"):
        path = os.path.join(part or ".", name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return name


def main(argv: list[str]) -> None:
    environ = dict(os.environ)
    root = environ.pop("CNB_LAYERS_DIR", "/layers")
    app = environ.pop("CNB_APP_DIR", "/workspace")
    exec_env = environ.get("CNB_EXEC_ENV", "production")
    for name in ("CNB_PROCESS_TYPE", "CNB_PLATFORM_API", "CNB_DEPRECATION_MODE", "CNB_NO_COLOR"):
        environ.pop(name, None)
    parts = [p for p in environ.get("PATH", "").split(":") if p not in ("/cnb/process", "/cnb/lifecycle")]
    environ["PATH"] = ":".join(parts)
    try:
        with open(f"{root}/config/metadata.toml", "rb") as file:
            metadata = tomllib.load(file)
    except (OSError, ValueError) as error:
        fail(f"the image's metadata can't be read: {error}", FAILED + 1)
    kind, words, folder, direct = chosen(metadata, argv, app, exec_env)
    layers = []
    for one in metadata.get("buildpacks", []):
        own = f"{root}/{one['id'].replace('/', '_')}"
        layers.append([f"{own}/{name}" for name in listed(own) if os.path.isdir(f"{own}/{name}")])
    apply_layers(environ, layers, kind)
    run_exec_d(environ, layers, kind, app)
    if not direct:
        words, folder = through_shell(words, layers, kind, app, folder), app
    try:
        os.chdir(folder)
        os.execve(program(words[0], environ, folder), words, environ)
    except OSError as error:
        fail(f"{words[0]} can't be started: {error}", FAILED + 5)


if __name__ == "__main__":
    main(sys.argv)
