"""The worker: one process, one Triton version, kernel source in, PTX out. Runs as a script; imports only Triton.

It speaks JSON lines: requests on stdin, answers on the descriptor that stdout was when it started (kernels and
Triton print to stdout, so the real one is moved out of their way). It stops before ptxas: the command Triton
would run is captured, not executed, so that the caller runs ptxas once, with its own time limit, also when the
answer is a crash.
"""

import base64
import dis
import hashlib
import importlib.machinery
import importlib.util
import json
import linecache
import os
import re
import signal
import subprocess as _REAL_SUBPROCESS
import sys
import tempfile
import threading
import time
import traceback
import types

MAX_MESSAGE_CHARS = 20_000
_RAISE = dis.opmap["RAISE_VARARGS"]


class _PtxasCommandCaptured(Exception):
    def __init__(self, argv):
        super().__init__("captured")
        self.argv = argv


class KernelLoader:
    """How a worker gets a kernel: `load` gives the JITFunction, `source` what Triton's compiler takes.

    One loader serves a whole process; it remembers the files it executed, each once per source hash. The worker for
    kernels whose imports are missing (foreign_worker.py) gives the worker another loader.
    """

    def __init__(self):
        self.modules = {}
        self.roots = set()
        self.files = set()
        self.told = Told()

    def load(self, kernel):
        """The JITFunction called `name` in the file `path`."""
        module = self.module(kernel)
        fn = getattr(module, kernel["name"], None)
        if fn is None:
            raise AttributeError(f"{os.path.basename(kernel['path'])} defines no {kernel['name']!r}")
        while not hasattr(fn, "arg_names") or type(fn).__name__ in ("Autotuner", "Heuristics"):
            inner = getattr(fn, "fn", None)
            if inner is None or isinstance(inner, types.FunctionType):
                break
            fn = inner
        if not hasattr(fn, "arg_names"):
            raise TypeError(f"{kernel['name']!r} is not a @triton.jit function")
        return fn

    def source(self, fn, spec):
        """An ASTSource (of a Gluon kernel, Gluon's own) in the form this Triton's launcher would build it."""
        if getattr(fn, "is_gluon", bool)():
            from triton.experimental.gluon._runtime import GluonASTSource as ASTSource
        else:
            from triton.compiler.compiler import ASTSource

        index = {name: i for i, name in enumerate(fn.arg_names)}
        signature = dict(spec["signature"])
        if list(signature) != list(fn.arg_names):
            missing = [n for n in fn.arg_names if n not in signature]
            extra = [n for n in signature if n not in index]
            raise TypeError(
                f"the signature does not fit {fn.__name__}: missing {missing or 'none'}, "
                f"not parameters {extra or 'none'}"
            )
        constexprs = {(index[name],): value for name, value in spec["constexprs"]}
        attrs = {(index[name],): [["tt.divisibility", 16]] for name in spec["divisible_by_16"]}
        return ASTSource(fn, signature=signature, constexprs=constexprs, attrs=attrs)

    def module(self, kernel):
        """The kernel's file, executed."""
        key = (kernel["path"], kernel["source_hash"])
        if key in self.modules:
            return self.modules[key]
        root = kernel["import_root"]
        # Only this kernel's root, and none of the modules an earlier kernel brought: `import common` means the file
        # beside this kernel, as it is now, also when another folder has a common.py or this one was edited.
        sys.path[:] = [root, *(p for p in sys.path if p not in self.roots)]
        self.roots.add(root)
        self.files.update(os.path.realpath(file) for file in kernel["files"])
        for name in [n for n, m in sys.modules.items() if self._is_local(m)]:
            del sys.modules[name]
        importlib.invalidate_caches()
        linecache.checkcache()
        # Named as Python itself would import it: Triton writes module names into symbol names and hashes. A name
        # that is taken (a kernel in a file called json.py) would break what comes later in this process.
        name = _module_name(kernel["path"], root)
        if name in sys.modules or name in sys.stdlib_module_names or name == "triton":
            name = f"kernel_file_{name}"
        spec = importlib.util.spec_from_file_location(
            name, kernel["path"], loader=self.file_loader(name, kernel["path"])
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        self.modules[key] = module
        return module

    def forget(self, kernel):
        """Execute the kernel's file anew when it is asked for next."""
        self.modules.pop((kernel["path"], kernel["source_hash"]), None)

    def file_loader(self, name, path):
        """What executes a file of the kernel's source."""
        return SourceLoader(name, path, self.told)

    def find_spec(self, fullname, path=None, target=None):
        """As an entry of sys.meta_path: finds the modules that are part of a kernel's source; leaves all others."""
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or not spec.has_location or os.path.realpath(spec.origin) not in self.files:
            return None
        spec.loader = self.file_loader(fullname, spec.origin)
        return spec

    def _is_local(self, module):
        file = getattr(module, "__file__", None)
        return isinstance(file, str) and os.path.realpath(file) in self.files


class Told:
    """What the caller hashed: the sha256 of files by their real path. `changed` is a file that was another one here."""

    def __init__(self):
        self.sha256, self.changed = {}, None

    def begin(self, kernel):
        """Take note of what was hashed of a kernel that is asked for now."""
        self.sha256, self.changed = kernel.get("sha256", {}), None

    def read(self, path):
        """The bytes of a file, if they are those that were hashed; raises SourceChanged."""
        with open(path, "rb") as file:
            data = file.read()
        known = self.sha256.get(os.path.realpath(path))
        if known is not None and hashlib.sha256(data).hexdigest() != known:
            self.changed = path  # whoever imports it may pass over the exception
            raise SourceChanged(f"{path} is not the file that was hashed")
        return data


class SourceChanged(Exception):
    """A file was saved between the caller's look at it and this one."""


class SourceLoader(importlib.machinery.SourceFileLoader):
    """Runs the very bytes that were hashed, and has Triton read the same.

    Python's .pyc files are told stale by size and whole seconds of mtime only, so a file edited twice within a second
    would run as the older text, and be cached under the newer one's hash. Triton takes a kernel's text from linecache,
    which would read the file once more.
    """

    def __init__(self, name, path, told):
        super().__init__(name, path)
        self.told = told

    def get_code(self, fullname):
        data = self.told.read(self.path)
        code = self.source_to_code(data, self.path)
        lines = importlib.util.decode_source(data).splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        linecache.cache[self.path] = (len(data), None, lines, self.path)
        return code


def _module_name(path, root):
    if root:
        relative = os.path.relpath(os.path.abspath(path), os.path.abspath(root))
        if not relative.startswith(".."):
            return os.path.splitext(relative)[0].replace(os.sep, ".")
    return os.path.splitext(os.path.basename(path))[0]


def _make_ir(src, target, options, backend, context):
    codegen, modules = backend.get_codegen_implementation(options), backend.get_module_map()
    try:
        return src.make_ir(target, options, codegen, modules, context)
    except TypeError as exc:
        # Triton 3.4 has no target parameter; any other TypeError is the kernel's.
        if "positional argument" not in str(exc) or "make_ir" not in str(exc):
            raise
        return src.make_ir(options, codegen, modules, context)


def scratch_folder():
    """A folder for a `with` block, in the folder for temporary files, which somebody may have swept meanwhile."""
    os.makedirs(tempfile.gettempdir(), exist_ok=True)
    return tempfile.TemporaryDirectory()


def _capture_ptxas_command(make_cubin, ptx, metadata):
    """The argument list Triton would start ptxas with, captured at the moment it tries to."""
    import triton.backends.nvidia.compiler as nvidia

    class Recorder:
        def __getattr__(self, name):
            return getattr(_REAL_SUBPROCESS, name)

        @staticmethod
        def run(argv, *_args, **_kwargs):
            raise _PtxasCommandCaptured(list(argv))

    previous_tempdir = tempfile.tempdir
    with scratch_folder() as scratch:
        tempfile.tempdir = scratch
        nvidia.subprocess = Recorder()
        try:
            make_cubin(ptx, metadata)
        except _PtxasCommandCaptured as captured:
            argv = [str(word) for word in captured.argv]
        else:
            raise RuntimeError("this Triton did not start ptxas through subprocess.run")
        finally:
            nvidia.subprocess = _REAL_SUBPROCESS
            tempfile.tempdir = previous_tempdir
    # Input and output names are the caller's business.
    return [word for word in argv if not (word.endswith((".ptx", ".o")) or word == "-o")]


def _linked(make_hsaco, assembly, metadata):
    """AMD's binary in base64; None where this Triton has no linker of its own (before 3.5) and the machine has none."""
    try:
        return base64.b64encode(make_hsaco(assembly, metadata)).decode("ascii")
    except Exception as exc:
        if "lld" not in str(exc):
            raise
        return None


def codegen(request, loader):
    """The answer to a request for the stages of a spec: their texts, or the error and where it came."""
    from triton._C.libtriton import ir
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import make_backend

    spec = request["spec"]
    answer = {"stages": {}, "stage": "load", "seconds": {}}
    loader.told.begin(spec["kernel"])
    started = time.perf_counter()
    try:
        fn = loader.load(spec["kernel"])
        target = GPUTarget(*request["target"])
        answer["stage"] = "options"
        backend = make_backend(target)
        # JSON has no tuples, and Triton hashes its options.
        launch_options = {name: tuple(v) if isinstance(v, list) else v for name, v in spec["options"]}
        if request.get("codegen_cuda_version"):
            from triton.backends.nvidia.compiler import ptx_get_version

            launch_options["ptx_version"] = ptx_get_version(request["codegen_cuda_version"])
        unknown = [k for k in launch_options if k not in backend.parse_options({}).__dict__]
        if unknown:
            raise TypeError(f"this Triton has no launch option {', '.join(unknown)}")
        options = backend.parse_options(launch_options)
        src = loader.source(fn, spec)
        stages = {}
        try:
            backend.add_stages(stages, options, src.language)
        except TypeError:
            backend.add_stages(stages, options)
        context = ir.context()
        ir.load_dialects(context)
        backend.load_dialects(context)
        answer["stage"] = "frontend"
        module = _make_ir(src, target, options, backend, context)
        metadata = dict(options.__dict__)  # as Triton begins it: AMD's stages read what was asked
        for name, stage in stages.items():
            answer["stage"] = name
            if name == "hsaco":
                answer["hsaco"] = _linked(stage, module, metadata)
                break
            if name == "cubin":
                argv = _capture_ptxas_command(stage, module, metadata)
                answer["ptxas_program"], answer["ptxas_flags"] = argv[0], argv[1:]
                break
            module = stage(module, metadata)
            answer["seconds"][name] = time.perf_counter() - started
            answer["stages"][name] = str(module)
        answer["stage"] = "done"
        answer["smem_bytes"] = metadata.get("shared")
        answer["tmem_columns"] = metadata.get("tmem_size")
        answer["num_warps"] = metadata.get("num_warps", options.num_warps)
        answer["kernel_name"] = metadata.get("name")
    except Exception as exc:  # whatever a stranger's kernel or this Triton raises becomes the report's message
        answer["error_type"] = type(exc).__name__
        answer["raised"] = chain_of(exc, loader.files)
        answer["error"] = describe(exc)[:MAX_MESSAGE_CHARS]
        answer["traceback"] = traceback.format_exc()[-MAX_MESSAGE_CHARS:]
    answer["seconds"]["total"] = time.perf_counter() - started
    if loader.told.changed:
        answer["changed"] = os.path.basename(loader.told.changed)
        loader.forget(spec["kernel"])
    return answer


def chain_of(exc, files):
    """What an exception, and those that it came from, are apart from their words, the outermost first.

    Who asked judges by that whether the machine failed: a number of the system's counts, a kernel's own words do not.
    """
    chain = []
    while exc is not None and len(chain) < 8:
        chain.append({
            "type": type(exc).__name__,
            "words": str(exc)[:200],
            "memory": isinstance(exc, MemoryError),
            "errno": exc.errno if isinstance(exc, OSError) and isinstance(exc.errno, int) else None,
            "returncode": exc.returncode if isinstance(exc, _REAL_SUBPROCESS.CalledProcessError) else None,
            "by_kernel": _said_by(exc.__traceback__, files),
        })  # fmt: skip
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    return chain


def _said_by(trace, files):
    """Whether a `raise` in one of the files is where an exception began: no call of theirs that failed."""
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    if os.path.realpath(code.co_filename) not in files:
        return False
    return 0 <= trace.tb_lasti < len(code.co_code) and code.co_code[trace.tb_lasti] == _RAISE


def describe(exc):
    """The message of an exception and of its cause, without colour codes: Triton nests the telling one inside."""
    parts = []
    while exc is not None and len(parts) < 4:
        text = str(exc).strip()
        if text and text not in parts:
            parts.append(text)
        exc = exc.__cause__
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(parts)) or "no message"


def _end_with_parent(parent):
    """End this process group once `parent` is gone: the end of stdin is only seen between two requests."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


def main(loader, answer=codegen):
    """Answer the requests on stdin, one a line, until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Whatever Triton, LLVM or a kernel file prints goes to stderr, which the caller keeps as the log.
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    import triton

    # One that pip is just unpacking, or left in part, imports and knows no chip: that is no fact about a kernel.
    if getattr(sys.modules.get("triton.backends"), "backends", None) == {}:
        raise ImportError("this Triton has no backends, so it is installed in part: install it again")
    # Triton builds a C launcher only when a driver is active; cross-compiling never needs one.
    print(json.dumps({"ready": True, "triton_version": triton.__version__}), file=answers, flush=True)
    sys.meta_path.insert(0, loader)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(answer(request, loader)), file=answers, flush=True)


if __name__ == "__main__":
    main(KernelLoader())
