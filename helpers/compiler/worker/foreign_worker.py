"""The worker for kernels cut out of something that is not installed: what their files cannot import is stubbed.

Runs as a script like worker.py, which does the work. First everything installed is real; where the file does not load
so (an engine's code asking a stand-in for a number), only Triton and the kernel's own files are; at last only
definitions and assignments are kept, and what fails is left out. A file that does more at its top level than define
(a program that launches its kernel) is only ever read the last way.
"""

import ast
import importlib.util
import os
import sys
from typing import Any


def _load_beside(name):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    spec = importlib.util.spec_from_file_location(f"_register_cliff_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


worker: Any = _load_beside("worker")
stubs: Any = _load_beside("stubs")
DTYPE = "tl."


# (stand-ins for everything installed, definitions only)
_WAYS = ((False, False), (True, False), (True, True))
_HARMLESS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.AugAssign,
             ast.If, ast.Try, ast.Pass, ast.AsyncFunctionDef, ast.Delete, ast.Assert)  # fmt: skip


def _is_program(path):
    """Whether a file's top level does more than import, define and assign."""
    try:
        with open(path, "rb") as file:
            body = ast.parse(file.read()).body
    except (OSError, SyntaxError, ValueError, RecursionError):
        return False
    return not all(isinstance(node, _HARMLESS) or _is_text(node) for node in body)


def _is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


class ForeignLoader(worker.KernelLoader):
    """A KernelLoader with stand-ins for what is missing; a constexpr such as "tl.bfloat16" is Triton's type."""

    def __init__(self):
        super().__init__()
        # Kernels are compiled for CUDA here, whatever this machine has.
        self.finder = stubs.StubFinder({"is_cuda": True, "is_nvidia": True})
        self.definitions_only = False

    def load(self, kernel):
        first = None
        for everything, definitions in ((True, True),) if _is_program(kernel["path"]) else _WAYS:
            self.finder.aim(kernel["import_root"], kernel["files"], everything=everything)
            self.definitions_only = definitions
            held = _set_aside() if everything else {}
            try:
                return super().load(kernel)
            except Exception as exc:
                first = first or exc
                # What loaded without being the kernel (a decorator that was a stand-in) must not pass for it next time.
                self.forget(kernel)
            finally:
                for name in [n for n, module in sys.modules.items() if isinstance(module, stubs.StubModule)]:
                    del sys.modules[name]
                sys.modules.update(held)
        raise first

    def source(self, fn, spec):
        values = [(name, _decode(value)) for name, value in spec["constexprs"]]
        return super().source(fn, {**spec, "constexprs": values})

    def file_loader(self, name, path):
        return _Definitions(name, path, self.definitions_only)


class _Definitions(worker.SourceLoader):
    """Loads a kernel's file as it is or, with `only`, its definitions and assignments, those that fail left out."""

    def __init__(self, name, path, only):
        super().__init__(name, path)
        self.only = only

    def source_to_code(self, data, path, *rest, **options):
        if self.only:
            tree = ast.parse(data)
            tree.body = [self._tolerant(node) for node in tree.body if isinstance(node, _HARMLESS) or _is_text(node)]
            data = ast.fix_missing_locations(tree)
        return compile(data, path, "exec", dont_inherit=True)

    @staticmethod
    def _tolerant(node):
        if _is_text(node) or (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            return node
        guard = ast.ExceptHandler(type=ast.Name("Exception", ast.Load()), name=None, body=[ast.Pass()])
        return ast.copy_location(ast.Try(body=[node], handlers=[guard], orelse=[], finalbody=[]), node)


def _set_aside():
    """What is loaded and neither Triton nor Python's own, taken out of sys.modules for the while."""
    kept = {*sys.stdlib_module_names, "triton", "__main__"}
    names = [n for n in sys.modules if n.partition(".")[0] not in kept and not n.startswith("_register_cliff")]
    return {name: sys.modules.pop(name) for name in names}


def _decode(value):
    if isinstance(value, str) and value.startswith(DTYPE):
        import triton.language as tl

        found = getattr(tl, value[len(DTYPE) :], None)
        return found if isinstance(found, tl.dtype) else value
    return value


def answer(request, loader):
    """As `worker.codegen`, and the answer to {"describe": kernel}: the configurations of its autotuner."""
    if "describe" not in request:
        return worker.codegen(request, loader)
    try:
        kernel = request["describe"]
        loader.load(kernel)
        return {"configurations": _configurations(getattr(loader.module(kernel), kernel["name"]))}
    except Exception as exc:
        return {"error": f"{type(exc).__name__}: {worker.describe(exc)}"[: worker.MAX_MESSAGE_CHARS]}


def _configurations(kernel):
    """[(constexprs, options, text)] of the autotuner around a kernel, however many decorators lie between."""
    while kernel is not None and not hasattr(kernel, "configs"):
        kernel = getattr(kernel, "fn", None)
    found = []
    for config in getattr(kernel, "configs", ()):
        options = {n: getattr(config, n, None) for n in ("num_warps", "num_stages", "num_ctas", "maxnreg")}
        values = {name: _encode(value) for name, value in config.kwargs.items()}
        found.append([values, {n: v for n, v in options.items() if v is not None}, str(config)])
    return found


def _encode(value):
    import triton.language as tl

    if isinstance(value, tl.dtype):
        return DTYPE + next(name for name, known in sorted(vars(tl).items()) if known == value)
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)


if __name__ == "__main__":
    import triton  # noqa: F401  before the finder, which leaves it alone anyhow

    foreign = ForeignLoader()
    sys.meta_path.insert(0, foreign.finder)
    worker.main(foreign, answer)
