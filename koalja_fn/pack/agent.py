"""The process that runs buildpacks, in a sandbox or not: a script of its own that imports nothing of ours.

It is started with an empty environment, gives up its rights, enters the sandbox once and then takes one
request after the other: a JSON line on standard input, an exit status on standard output. Everything that
a buildpack leaves running is ended before the next request.

In the sandbox the root is the base image's root file system with a private layer on top; `/workspace`,
`/layers`, `/platform` and the buildpacks are mounted at their canonical places. The buildpack is an ordinary
user there, in a process name space of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any, NoReturn

NEWNS, NEWUSER, NEWPID = 0x00020000, 0x10000000, 0x20000000
BIND, REC, PRIVATE, RDONLY, REMOUNT = 4096, 16384, 1 << 18, 1, 32
NOSUID, NODEV, NOEXEC, NOATIME, NODIRATIME = 2, 4, 8, 1024, 2048
PIVOT_ROOT = {
    "x86_64": 155,
    "aarch64": 41,
    "riscv64": 41,
    "ppc64le": 203,
    "s390x": 217,
    "armv7l": 218,
    "i686": 217,
}
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER = 1, 4, 38, 36
USER = 1000
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

_libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    first, second, third, last = (
        None if text is None else os.fsencode(text) for text in (source, target, kind, data)
    )
    done = _libc.mount(first, second, third, ctypes.c_ulong(flags), last)
    check(done, f"mount {target}")


def unshare(flags: int, what: str) -> None:
    check(_libc.unshare(flags), what)


def map_ids(inside: int, uid: int, gid: int) -> None:
    """Be `inside` in the new user name space; for a process of one user nothing else can be mapped."""
    with suppress(FileNotFoundError):
        write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{inside} {uid} 1")
    write("/proc/self/gid_map", f"{inside} {gid} 1")


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def drop(uid: int, gid: int) -> None:
    """Be an ordinary user for good."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # /proc/self would stay root's
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def prepare_upper(setup: dict[str, Any], upper: str) -> None:
    """Mount points and the few files of ours, in the private layer before it is mounted."""
    for path in [*setup["mounts"], "/proc", "/dev", "/tmp", "/etc", "/home/cnb"]:
        os.makedirs(upper + path, exist_ok=True)
    os.chmod(upper + "/tmp", 0o1777)
    for name in DEVICES:
        write(f"{upper}/dev/{name}", "")
    os.makedirs(upper + "/dev/shm", exist_ok=True)
    for name, link in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ):
        os.symlink(link, f"{upper}/dev/{name}")
    for name, text in setup["files"].items():
        os.makedirs(os.path.dirname(upper + name), exist_ok=True)
        write(upper + name, text)


def enter(setup: dict[str, Any]) -> str:
    """Go into the sandbox; what does not work is an OSError, and the caller says so."""
    uid, gid = setup["uid"], setup["gid"]
    if os.getuid() == 0:
        reachable(setup)
    drop(uid, gid)
    unshare(NEWUSER | NEWNS | NEWPID, "unshare")
    map_ids(0, uid, gid)
    mount(None, "/", None, REC | PRIVATE)
    root = f"{setup['room']}/root"
    os.mkdir(root)
    try:
        lay_over(setup, setup["room"], root)
    except OSError:  # the file system of the room can't carry an upper layer, but memory can
        memory = setup["room"] + "/memory"
        os.mkdir(memory)
        mount("tmpfs", memory, "tmpfs", NODEV | NOSUID)
        lay_over(setup, memory, root)
    for at, (path, writable) in setup["mounts"].items():
        mount(path, root + at, None, BIND | REC)
        if not writable:
            read_only(root + at)
    for name in DEVICES:
        mount(f"/dev/{name}", f"{root}/dev/{name}", None, BIND)
    return root


def reachable(setup: dict[str, Any]) -> None:
    """While we are root: bring folders to where an ordinary user may go; root's own are closed to others."""
    unshare(NEWNS, "unshare")
    mount(None, "/", None, REC | PRIVATE)
    paths = {"lower": setup["rootfs"]}
    paths |= {f"mount{index}": path for index, (path, _) in enumerate(setup["mounts"].values())}
    for name, path in paths.items():
        os.mkdir(f"{setup['room']}/{name}")
        mount(path, f"{setup['room']}/{name}", None, BIND | REC)
    setup["rootfs"] = f"{setup['room']}/lower"
    for index, (at, (_, writable)) in enumerate(list(setup["mounts"].items())):
        setup["mounts"][at] = (f"{setup['room']}/mount{index}", writable)


def lay_over(setup: dict[str, Any], room: str, root: str) -> None:
    for name in ("upper", "work"):
        os.mkdir(f"{room}/{name}")
    prepare_upper(setup, f"{room}/upper")
    data = f"lowerdir={setup['rootfs']},upperdir={room}/upper,workdir={room}/work,userxattr"
    mount("overlay", root, "overlay", NODEV, data)


def read_only(path: str) -> None:
    """Some flags of the mount below are locked and must be told again."""
    kept = os.statvfs(path).f_flag & (NOSUID | NODEV | NOEXEC | NOATIME | NODIRATIME)
    mount(None, path, None, REMOUNT | BIND | RDONLY | kept)


def turn_root(root: str) -> None:
    """In the first process of the process name space: its own /proc, and the sandbox as the root."""
    mount("proc", root + "/proc", "proc", NOSUID | NODEV | NOEXEC)
    os.chdir(root)
    number = PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(38, "pivot_root is not known for this processor")
    check(_libc.syscall(ctypes.c_long(number), b".", b"."), "pivot_root")
    check(_libc.umount2(b".", 2), "umount")
    os.chdir("/")
    unshare(NEWUSER, "unshare")
    map_ids(USER, 0, 0)


def serve() -> None:
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    say({"ready": True})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        say(run(request))


def say(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def run(request: dict[str, Any]) -> dict[str, Any]:
    """One program: its exit status, and what kept it from starting."""
    report, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(report)
        start(request, told)
    os.close(told)
    with open(report, "rb") as file:
        trouble = file.read().decode("utf-8", "replace")
    _, state = os.waitpid(child, 0)
    end_rest(child)
    return {"status": os.waitstatus_to_exitcode(state), "trouble": trouble}


def start(request: dict[str, Any], told: int) -> NoReturn:
    try:
        os.setsid()
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(3, 1)
        os.dup2(3, 2)
        os.set_inheritable(told, False)
        os.closerange(3, told)
        os.closerange(told + 1, 256)
        os.umask(0o022)
        os.chdir(request["cwd"])
        os.execve(request["argv"][0], request["argv"], request["environ"])
    except BaseException as error:  # the parent tells it
        os.write(told, str(error).encode())
    os._exit(127)


def end_rest(group: int) -> None:
    """End what the program left running, wherever it went."""
    with suppress(OSError):
        os.killpg(group, signal.SIGKILL)
    pid = os.getpid()
    while True:
        try:
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                left = [int(number) for number in file.read().split()]
        except OSError:
            left = []
        if not left:
            return
        for number in left:
            with suppress(OSError):
                os.kill(number, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(number, 0)


def main() -> None:
    """Standard input: the setup, then requests. Descriptor 3: where the programs' output goes."""
    setup = json.loads(sys.stdin.buffer.readline())
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        if not setup["rootfs"]:
            drop(setup["uid"], setup["gid"])
            serve()
            return
        root = enter(setup)
        child = os.fork()
        if child == 0:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            turn_root(root)
            serve()
            os._exit(0)
        _, state = os.waitpid(child, 0)
        os._exit(abs(os.waitstatus_to_exitcode(state)))
    except OSError as error:
        say({"ready": False, "why": str(error)})
        os._exit(1)


if __name__ == "__main__":
    main()
