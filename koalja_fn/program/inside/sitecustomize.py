"""A template for Python programs: runs inside the user's interpreter, and is none of the program's business.

It is found by PYTHONPATH in the place of `sitecustomize`, thus before the interpreter begins with its script.
It imports the libraries that the script imports first, then waits. For each execution it forks, and in the
child it simply comes to its end: the interpreter goes on as it would have, with its own reading of the script,
its own `__main__`, tracebacks, exit status and end. No frame, module or variable of ours is left in it.

Messages to it: four bytes of length, a letter, fields with NULs between; the descriptors beside them are
the pipe for the answer, and the program's standard output and error. It stands alone: any CPython
from 3.8 on must be able to read it, and what it imports is there at every start of an interpreter.
"""

import gc
import os
import sys

from koalja_ending import Ending, way_out

_LIMIT = 1 << 30
_QUIET_CALLS = frozenset(
    (
        "re.compile",
        "logging.getLogger",
        "os.environ.get",
        "os.getenv",
        "os.path.join",
        "os.path.dirname",
        "os.path.abspath",
        "os.path.basename",
        "Path",
        "pathlib.Path",
        "TypeVar",
        "namedtuple",
        "frozenset",
        "set",
        "dict",
        "list",
        "tuple",
        "int",
        "float",
        "str",
        "len",
    )
)


class Unfit(Exception):
    """Executions had better be cold starts; the message is why."""


class Stop(Exception):
    """The program does something here: what it imports later must not come before it."""


def main():
    """Be what the environment says; where that says nothing, be nothing."""
    mode, _, number = os.environ.pop("KOALJA_TEMPLATE", "").partition(":")
    _hide()
    if mode == "probe":
        fd = int(number)
        os.write(fd, ("%s %d.%d" % ((sys.implementation.name,) + tuple(sys.version_info[:2]))).encode())
        os._exit(0)
    if mode == "serve":
        _serve(int(number))


def _hide():
    """Leave the module path, as if it had never named us."""
    here = os.path.dirname(os.path.abspath(__file__))
    while here in sys.path:
        sys.path.remove(here)
    sys.path_importer_cache.pop(here, None)
    del sys.modules["koalja_ending"]
    rest = os.environ.get("PYTHONPATH", "").split(os.pathsep)[1:]
    if rest:
        os.environ["PYTHONPATH"] = os.pathsep.join(rest)
    else:
        os.environ.pop("PYTHONPATH", None)
    for name in [name for name in os.environ if name.startswith("KOALJA_") or name == "LD_BIND_NOW"]:
        del os.environ[name]
    for name, value in list(os.environ.items()):
        os.environ[name] = value  # libc keeps it elsewhere now: the first block is ours to write to


def _serve(number):
    """Prepare, and fork for each request; returns in the children only."""
    import _signal
    import _socket

    program, comm = sys.argv[0], os.environ.pop("_KOALJA_COMM", "")
    code = os.environ.pop("_KOALJA_CODE", None)
    if comm:
        with open("/proc/self/comm", "w") as file:
            file.write(comm)
    control = _socket.socket(fileno=number)
    os.set_inheritable(number, False)
    _signal.alarm(int(os.environ.pop("_KOALJA_SECONDS", "60")))
    ending = Ending()
    kept = {}
    try:
        fds = set(_descriptors())
        modules = Modules(program)
        _real_sitecustomize()
        if sys.argv[0] == "-m":
            modules.module(code)
        else:
            modules.program(code)
        _check(fds, _signal.alarm(0))
        way = None, False
        if modules.text:
            places = [getattr(module, "__file__", None) or "" for module in sys.modules.values()]
            way = way_out(sys.modules, places)
    except Unfit as unfit:
        control.send(("U%s\n" % unfit).encode("utf-8", "replace"))
        os._exit(0)
    except BaseException as error:
        told = "U%s at its imports: %s\n" % (type(error).__name__, str(error).split("\n")[0])
        control.send(told.encode("utf-8", "replace"))
        os._exit(0)
    for name, module in list(sys.modules.items()):
        if name not in ("sys", "builtins", "__main__", "sitecustomize"):
            kept[name] = module
    ending.prepare(kept, *way)
    role = Role()
    stamps = modules.stamps()
    main = sys.modules["__main__"]
    own = sys.modules.get("sitecustomize")
    _hold([kept, modules, role, ending, control, fds, stamps, main, own, globals()])
    sys.modules["__main__"] = type(sys)(
        "__main__"
    )  # a new one: the collector overlooks what was there before
    sys.modules["__main__"].__dict__.update(main.__dict__)
    if modules.text:
        sys.path_importer_cache[program] = None  # the interpreter need not look for an archive again
    control.send(b"R\n")
    while True:
        kind, fields, fds = _request(control)
        if kind == b"W":
            _reap(int(fields[0]), fds[0])
        elif modules.stamps() != stamps or modules.overlaid():
            os.write(fds[0], b"-changed")
        else:
            role.learn(fields)
            try:
                pid = os.fork()
            except OSError:
                pid = -1
            if pid == 0:
                try:
                    control.close()
                    role.play(fds)
                    ending.main = sys.modules["__main__"]
                except BaseException:
                    os._exit(127)
                return
        for fd in fds:
            os.close(fd)


def _hold(things):
    """Never let go of these, nor of what is running now, and keep the collector off all that is there.

    To take them apart would be to write to them, in each child anew.
    """
    frame = sys._getframe(1)
    while frame is not None:
        things.append(frame.f_code)
        frame = frame.f_back
    things.append(things)
    gc.collect()
    gc.freeze()


def _request(control):
    """One message: its letter, fields and descriptors. At the end of all messages this process ends."""
    import _socket

    data, beside, _, _ = control.recvmsg(1 << 16, _socket.CMSG_SPACE(12), _socket.MSG_CMSG_CLOEXEC)
    fds = []
    for _, _, some in beside:
        fds += [int.from_bytes(some[at : at + 4], sys.byteorder) for at in range(0, len(some), 4)]
    while data and (len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big")):
        more = (
            control.recv(1 << 20)
            if len(data) < 4
            else control.recv(4 + int.from_bytes(data[:4], "big") - len(data))
        )
        data = data + more if more else b""
    if not data:
        os._exit(0)
    return data[4:5], data[5:].split(b"\0"), fds


def _reap(pid, answer):
    try:
        _, state, usage = os.wait4(pid, 0)
        os.write(answer, b"%d %d" % (state, int((usage.ru_utime + usage.ru_stime) * 1e6)))
    except OSError:
        pass  # nothing is said, and the other side looks for itself


class Role:
    """What an execution has of its own. Learnt before the fork, where that is a fraction of the work: in a child
    each page that is written to is copied first."""

    def __init__(self):
        self.folder = b""
        self.words = len(getattr(sys, "orig_argv", ()))
        self.names = []
        self.block = b""
        self.room = _room()

    def learn(self, fields):
        """Take on arguments and environment."""
        self.folder = fields[0]
        count = int(fields[1])
        arguments = [os.fsdecode(word) for word in fields[2 : 2 + count]]
        sys.argv[1:] = arguments
        if hasattr(sys, "orig_argv"):
            sys.orig_argv[self.words :] = arguments
        variables = [variable.partition(b"=")[::2] for variable in fields[2 + count :]]
        names = [name for name, _ in variables]
        if names != self.names:
            os.environ.clear()
            self.names = names
        there = os.environb
        for name, value in variables:
            if there.get(name) != value:
                there[name] = value
        # What an execution leaves behind is known by these variables: they are the first to find room.
        ours = [one for one in fields[2 + count :] if one.startswith(b"KOALJA_")]
        block = b""
        for variable in ours + [one for one in fields[2 + count :] if not one.startswith(b"KOALJA_")]:
            if len(block) + len(variable) + 1 < self.room[1]:
                block += variable + b"\0"
        self.block = block

    def play(self, fds):
        """In the child: be that execution, and say so."""
        os.setsid()
        os.dup2(fds[1], 1)
        os.dup2(fds[2], 2)
        os.close(fds[1])
        os.close(fds[2])
        os.chdir(self.folder)
        # Let the kernel show this environment, too.
        begin, size = self.room
        fd = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
        os.pwrite(fd, self.block + bytes(size - len(self.block)), begin)
        os.close(fd)
        _renew(self.folder)
        os.write(fds[0], b"+%d" % os.getpid())
        os.close(fds[0])


def _room():
    """Where the kernel sees the environment: its address and size."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    return int(fields[47]), int(fields[48]) - int(fields[47])


def _renew(folder):
    """What a library drew or looked up at its import, and each execution must have for itself."""
    modules = sys.modules
    if "numpy.random" in modules:
        modules["numpy.random"].seed()
    if "tempfile" in modules:
        modules["tempfile"].tempdir = None
    if "multiprocessing.process" in modules:
        process = modules["multiprocessing.process"]
        process.ORIGINAL_DIR = os.fsdecode(folder)
        process.current_process()._config["authkey"] = process.AuthenticationString(os.urandom(32))
    if "threading" in modules:
        first = modules["threading"].main_thread()
        if hasattr(first, "_set_native_id"):
            first._set_native_id()


def _check(fds, left):
    """Whether what was imported can be forked.

    Raises:
        Unfit: It can't.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if os.fstat(1).st_size or os.fstat(2).st_size:
        raise Unfit("something that it imports writes to standard output or error")
    if left <= 0:
        raise Unfit("something that it imports uses the alarm clock")
    if set(_descriptors()) - fds:
        raise Unfit("something that it imports opens files or connections")
    pid = os.fork()  # some libraries end their threads at the first fork, and start them anew at need
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        raise Unfit("something that it imports starts threads")
    try:
        with open("/proc/self/task/%s/children" % threads[0]) as file:
            children = file.read().split()
    except OSError:
        children = []
    if children:
        raise Unfit("something that it imports starts processes")
    with open("/proc/self/statm") as file:
        if int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") > _LIMIT:
            raise Unfit("what it imports takes more than 1 GiB")
    if "random" in sys.modules:
        random = sys.modules["random"]
        for one in gc.get_objects():
            kind = type(one)
            if issubclass(kind, random.Random) and not issubclass(kind, random.SystemRandom):
                if one is not random._inst:
                    raise Unfit("something that it imports keeps a random generator of its own")


def _descriptors():
    return [name for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name)]


def _real_sitecustomize():
    """Import the `sitecustomize` that we stand in the place of, if there is one."""
    if _find("sitecustomize", None) is not None:
        del sys.modules["sitecustomize"]
        __import__("sitecustomize")


def _find(name, path):
    for finder in sys.meta_path:
        found = finder.find_spec(name, path)
        if found is not None:
            return found
    return None


class Modules:
    """What a program imports before it does anything else: libraries are imported, its own modules only read."""

    def __init__(self, program):
        import _ast

        self.ast = _ast
        self.finder = sys.modules["_frozen_importlib_external"].PathFinder
        self.script = program if os.path.isfile(program) else None
        self.folder = None
        if self.script and not getattr(sys.flags, "safe_path", False):
            self.folder = os.path.dirname(os.path.realpath(self.script))
        self.library = os.path.dirname(os.__file__) + os.sep
        self.read = set()
        self.text = False  # whether the interpreter is going to read the script itself
        self.listed = (None, True)
        self.places = []
        self.builtin = frozenset(sys.modules)  # found before any path is looked at

    def program(self, code):
        """Learn from a script, or from the text after -c."""
        if code is None:
            self.text = self.script is not None and not _is_archive(self.script)
            self._file(self.script, "")
        else:
            self._learn(code, "")
        self._finish()

    def module(self, name):
        """Learn from a module that is run by -m."""
        __import__("runpy")
        spec = self._spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name += ".__main__"
            spec = self._spec(name)
        if spec is not None and self._is_library(spec):
            package = name.rpartition(".")[0]
            if package:
                __import__(package)
            self._file(spec.origin, package)
        self._finish()

    def stamps(self):
        """What must stay as it is for this process to be of use. Which places these are is settled by the first call."""
        if not self.places:
            places = set(self.read)
            places.update(sys.path)
            places.add(sys.executable)
            places.add(os.path.join(os.path.dirname(os.path.dirname(sys.executable)), "pyvenv.cfg"))
            places.discard(self.folder)
            self.places = [(place, os.path.isdir(place)) for place in sorted(places)]
        return [_stamp(place, is_folder) for place, is_folder in self.places]

    def overlaid(self):
        """Whether a module in the program's folder would have been imported in the place of a library."""
        if self.folder is None:
            return False
        try:
            changed = os.stat(self.folder).st_mtime_ns
            if self.listed[0] != changed:
                own = {name.partition(".")[0] for name in os.listdir(self.folder)} - self.builtin
                over = {name for name in own if name in sys.modules and self._is_import(name)}
                self.listed = (changed, bool(over))
        except OSError:
            return True
        return self.listed[1]

    def _is_import(self, name):
        spec = self.finder.find_spec(name, [self.folder])
        return spec is not None and spec.origin is not None

    def _finish(self):
        for name, module in list(sys.modules.items()):
            place = getattr(module, "__file__", None)
            if place and name not in ("__main__", "sitecustomize") and not self._is_inside(place):
                raise Unfit("a library imports %s, which is no library" % name)
        if self.overlaid():
            raise Unfit("a module beside the program has the name of a library")

    def _file(self, place, package):
        """Learn from the file that the interpreter is going to run."""
        if place is None:
            return
        self.read.add(place)
        with open(place, "rb") as file:
            self._learn(file.read(), package)

    def _learn(self, text, package):
        try:
            self._walk(compile(text, "program", "exec", self.ast.PyCF_ONLY_AST, True).body, package)
        except (Stop, Missing, SyntaxError, ValueError, RecursionError):
            pass  # what comes after it is imported by each execution

    def _walk(self, body, package):
        ast = self.ast
        for node in body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._take(alias.name, ())
            elif isinstance(node, ast.ImportFrom):
                name = node.module or ""
                if node.level:
                    base = package.split(".")
                    base = base[: len(base) - node.level + 1]
                    name = ".".join(base + ([name] if name else []))
                self._take(name, [alias.name for alias in node.names if alias.name != "*"])
            elif isinstance(node, ast.Try):
                self._try(node, package)
            elif isinstance(node, ast.If):
                self._if(node, package)
            elif not self._is_quiet(node):
                raise Stop

    def _try(self, node, package):
        try:
            self._walk(node.body, package)
        except Missing:
            for handler in node.handlers:
                self._walk(handler.body, package)
        else:
            self._walk(node.orelse, package)
        self._walk(node.finalbody, package)

    def _if(self, node, package):
        if _dotted(node.test, self.ast) not in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            raise Stop  # which way it goes is the program's to say
        self._walk(node.orelse, package)

    def _is_quiet(self, node):
        """Whether a statement changes nothing that an import could see."""
        ast = self.ast
        if isinstance(node, ast.Pass):
            return True
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            defaults = node.args.defaults + [one for one in node.args.kw_defaults if one is not None]
            return not node.decorator_list and all(self._is_value(one) for one in defaults)
        if isinstance(node, ast.ClassDef):
            known = all(_dotted(one, ast) for one in node.bases) and not node.decorator_list
            return known and not node.keywords and all(self._is_quiet(one) for one in node.body)
        if isinstance(node, ast.Expr):
            return isinstance(node.value, ast.Constant)
        if isinstance(node, ast.Assign):
            return all(isinstance(one, ast.Name) for one in node.targets) and self._is_value(node.value)
        if isinstance(node, ast.AnnAssign):
            return isinstance(node.target, ast.Name) and (node.value is None or self._is_value(node.value))
        return False

    def _is_value(self, node):
        """Whether an expression only makes a value."""
        ast = self.ast
        if isinstance(node, (ast.Constant, ast.Name, ast.Lambda)):
            return True
        if isinstance(node, ast.Attribute):
            return self._is_value(node.value)
        if isinstance(node, ast.Call):
            if _dotted(node.func, ast) not in _QUIET_CALLS:
                return False
            return all(map(self._is_value, node.args)) and all(
                self._is_value(one.value) for one in node.keywords
            )
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            return all(map(self._is_value, node.elts))
        if isinstance(node, ast.Dict):
            return all(one is None or self._is_value(one) for one in node.keys + node.values)
        if isinstance(node, ast.BinOp):
            return self._is_value(node.left) and self._is_value(node.right)
        if isinstance(node, ast.UnaryOp):
            return self._is_value(node.operand)
        return isinstance(node, ast.JoinedStr) and not any(
            not isinstance(one, ast.Constant) for one in node.values
        )

    def _take(self, name, names):
        """Import a library as the program would; read what is the program's own."""
        if not name:
            raise Stop
        spec = self._spec(name.partition(".")[0])
        if spec is None:
            raise Missing
        if self._is_library(spec):
            __import__(name, {"__name__": "__main__"}, {}, list(names), 0)
            return
        self._read_own(name, names)

    def _read_own(self, name, names):
        """Learn from the program's own module, its packages first, and what is named in it."""
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            self._read_one(".".join(parts[:count]))
        spec = self._spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            for one in names:
                if self._spec(name + "." + one) is not None:
                    self._read_one(name + "." + one)

    def _read_one(self, name):
        spec = self._spec(name)
        if spec is None:
            raise Stop
        if spec.origin is None:
            return  # a folder without __init__.py
        if not spec.origin.endswith(".py"):
            raise Stop
        if spec.origin in self.read:
            return
        self.read.add(spec.origin)
        package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
        try:
            with open(spec.origin, "rb") as file:
                tree = compile(file.read(), spec.origin, "exec", self.ast.PyCF_ONLY_AST, True)
        except (OSError, SyntaxError, ValueError, RecursionError):
            raise Stop from None
        self._walk(tree.body, package)

    def _spec(self, name):
        """Where a module would come from, without importing anything."""
        parts = name.split(".")
        if parts[0] in self.builtin and len(parts) == 1:
            return sys.modules[name].__spec__ or sys.__spec__
        spec = self.finder.find_spec(parts[0], [self.folder]) if self.folder else None
        if parts[0] in sys.builtin_module_names:
            spec = None
        if spec is None or spec.origin is None:
            spec = _find(parts[0], None) or spec
        for count in range(2, len(parts) + 1):
            if spec is None or spec.submodule_search_locations is None:
                return None
            spec = self.finder.find_spec(".".join(parts[:count]), spec.submodule_search_locations)
        return spec

    def _is_library(self, spec):
        if spec.origin in ("built-in", "frozen"):
            return True
        places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
        return bool(places) and all(map(self._is_inside, places))

    def _is_inside(self, place):
        parts = place.split(os.sep)
        return place.startswith(self.library) or "site-packages" in parts or "dist-packages" in parts


def _is_archive(place):
    """Whether the interpreter would run what is in a file, not the file."""
    for hook in sys.path_hooks:
        try:
            hook(place)
            return True
        except ImportError:
            pass
    return False


def _stamp(place, is_folder):
    try:
        status = os.stat(place)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_mode, is_folder or status.st_size


class Missing(Exception):
    """A module that is not there: the program has a way out, or fails."""


def _dotted(node, ast):
    """`a.b.c` of an expression; empty for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value, ast)
        return before and before + "." + node.attr
    return ""


main()
if (
    sys.modules.get("sitecustomize") is None
    or getattr(sys.modules["sitecustomize"], "__file__", "") == __file__
):
    raise ImportError("there is none", name="sitecustomize")
