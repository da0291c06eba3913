"""The worker for kernels cut out of something that is not installed: what their files cannot import is stubbed.

Runs as a script like worker.py, which does the work. First everything installed is real; where the file does not load
so (an engine's code asking a stand-in for a number), only Triton and the kernel's own files are; at last only
definitions and assignments are kept, and what fails is left out. A file that does more at its top level than define
(a program that launches its kernel) is only ever read the last way; what makes an autotuner's list is kept there too.
"""

import ast
import contextlib
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
tuning_list: Any = _load_beside("tuning_list")
DTYPE = "tl."


# (stand-ins for everything installed, definitions only)
_WAYS = ((False, False), (True, False), (True, True))
_HARMLESS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.AugAssign,
             ast.If, ast.Try, ast.Pass, ast.AsyncFunctionDef, ast.Delete, ast.Assert)  # fmt: skip


def _is_program(tree, needed):
    """Whether a file's top level does more than import, define, assign, and make a kernel's list (`needed`: lines)."""
    if tree is None:
        return False
    return not all(isinstance(n, _HARMLESS) or _is_text(n) or n.lineno in needed for n in tree.body)


def _lines_behind(tree, name):
    """The first lines of the statements that make the list of configurations of a kernel."""
    node = tuning_list.kernel_node(tree, name) if tree is not None else None
    if node is None:
        return set()
    chosen, _names = tuning_list.statements_behind(tree, tuning_list.list_expressions(node))
    return {statement.lineno for statement in chosen}


def _is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


class ForeignLoader(worker.KernelLoader):
    """A KernelLoader with stand-ins for what is missing; a constexpr such as "tl.bfloat16" is Triton's type."""

    def __init__(self):
        super().__init__()
        # Kernels are compiled for CUDA here, whatever this machine has.
        self.finder = stubs.StubFinder({"is_cuda": True, "is_nvidia": True})
        self.definitions_only, self.needed, self.real = False, set(), False

    def load(self, kernel):
        first = None
        tree = tuning_list.parsed(kernel["path"], self.told.read)
        self.needed = _lines_behind(tree, kernel["name"])
        for everything, definitions in ((True, True),) if _is_program(tree, self.needed) else _WAYS:
            self.finder.aim(kernel["import_root"], kernel["files"], everything=everything, real=self.real)
            self.definitions_only = definitions
            held = _set_aside() if everything else {}
            try:
                return super().load(kernel)
            except Exception as exc:
                if self.told.changed:
                    raise
                first = first or exc
                stubs.RECORD.pass_over(exc)
                # What loaded without being the kernel (a decorator that was a stand-in) must not pass for it next time.
                self.forget(kernel)
                if self.real:
                    self._unload(kernel)
            finally:
                self.loaded = dict(sys.modules) if self.real else {}
                for name in [n for n, module in sys.modules.items() if isinstance(module, stubs.StubModule)]:
                    del sys.modules[name]
                sys.modules.update(held)
        raise first

    def source(self, fn, spec):
        values = [(name, _decode(value)) for name, value in spec["constexprs"]]
        return super().source(fn, {**spec, "constexprs": values})

    def _unload(self, kernel):
        """Forget the project's own modules: loaded for real, they are not what a compile would see.

        An environment may lie inside the project's folder, Python itself and this script as well: what is installed
        there, and what works here, is not the project's.
        """
        root = os.path.join(os.path.realpath(kernel["import_root"]), "")
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            inside = os.path.realpath(file) if isinstance(file, str) else ""
            if not inside.startswith(root) or name.startswith("_register_cliff") or _is_installed(inside[len(root) :]):
                continue
            if name.partition(".")[0] not in ("triton", "torch", "__main__", *sys.stdlib_module_names):
                del sys.modules[name]

    def describe(self, kernel, chip):
        """([(constexprs, options, text)] of the autotuner around a kernel, why that is not to be trusted or None)."""
        self.forget(kernel)
        self._unload(kernel)
        with contextlib.suppress(Exception):
            import torch  # noqa: F401  before the chip answers for it
        stubs.RECORD.begin(tuning_list.chip_answers(chip) if chip else {})
        self.real = True
        try:
            with tuning_list.as_on(chip, stubs.RECORD.note):
                self.load(kernel)
                found = getattr(self.module(kernel), kernel["name"])
                listed = _configurations(found)
            root = os.path.realpath(kernel["import_root"])
            held, kept = dict(sys.modules), self.loaded
            sys.modules.update(kept)
            try:
                places = tuning_list.regions(kernel["path"], kernel["name"], root)
            finally:
                for name in set(sys.modules) - set(held):
                    del sys.modules[name]
            return listed, self._doubt(listed, places, kernel)
        finally:
            self.real, stubs.RECORD.on = False, False
            self.forget(kernel)
            self._unload(kernel)

    def _doubt(self, listed, places, kernel):
        """What of a list is a stand-in's, in words; None where nothing is."""
        names = [n for n, frames in stubs.RECORD.moments if tuning_list.touches(frames, places)]
        names += [value for values, options, _ in listed for value in _stood_for([*values.values(), *options.values()])]
        globals_ = vars(self.modules.get((kernel["path"], kernel["source_hash"]), stubs))
        tree = tuning_list.parsed(kernel["path"])
        node = tuning_list.kernel_node(tree, kernel["name"]) if tree is not None else None
        for decorator in tuning_list.decorators(node) if node is not None else ():
            for part in ast.walk(decorator.func if isinstance(decorator, ast.Call) else decorator):
                value = globals_.get(part.id) if isinstance(part, ast.Name) else None
                if isinstance(value, (stubs.Anything, stubs.StubModule)) and not isinstance(value, stubs.LazyPackage):
                    if not _is_inductors(value):
                        names.append(_name_of(value))
        if not names:
            return None
        name = names[0]
        if name.startswith("line ") or name.endswith(tuning_list.MACHINE):
            return name
        module = max((m for m in stubs.RECORD.failed if f"{name}.".startswith(f"{m}.")), key=len, default=None)
        why = f" ({module} does not load here: {stubs.RECORD.failed[module]})" if module else " (it is not here)"
        return f"{name}, for which a stand-in of register-cliff's answered{why}"

    def file_loader(self, name, path):
        return _Definitions(name, path, self.told, self.definitions_only, self.needed)


class _Definitions(worker.SourceLoader):
    """Loads a kernel's file as it is or, with `only`, its definitions and assignments, those that fail left out."""

    def __init__(self, name, path, told, only, needed):
        super().__init__(name, path, told)
        self.only, self.needed = only, needed

    def source_to_code(self, data, path, *rest, **options):
        if self.only:
            tree = ast.parse(data)
            kept = [n for n in tree.body if isinstance(n, _HARMLESS) or _is_text(n) or n.lineno in self.needed]
            for node in tree.body:
                if node not in kept:
                    stubs.RECORD.skipped(path, node.lineno)
            tree.body = [self._tolerant(node) for node in kept]
            data = ast.fix_missing_locations(tree)
        return compile(data, path, "exec", dont_inherit=True)

    @staticmethod
    def _tolerant(node):
        if _is_text(node) or (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            return node
        told = ast.parse(
            "_told = __import__('sys').modules['_register_cliff_stubs'].RECORD\n"
            f"_told.skipped(__file__, {node.lineno}, 'fails here')\n"
            "_told.pass_over(__import__('sys').exc_info()[1])\n"
            "del _told"
        ).body
        guard = ast.ExceptHandler(type=ast.Name("Exception", ast.Load()), name=None, body=told)
        return ast.copy_location(ast.Try(body=[node], handlers=[guard], orelse=[], finalbody=[]), node)


def _is_installed(path):
    """Whether a path below a project's folder is of an environment that lies in there."""
    return bool({"site-packages", "dist-packages"} & set(path.split(os.sep)))


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
    """As `worker.codegen`, and the answer to {"describe": kernel, "chip": …}: the configurations of its autotuner."""
    stubs.RECORD.passed_over.clear()
    given = _answer(request, loader)
    for exc in stubs.RECORD.passed_over:
        given.setdefault("raised", []).extend(worker.chain_of(exc, loader.files))
    return given


def _answer(request, loader):
    if "describe" not in request:
        return _named_as_ours(worker.codegen(request, loader), request["spec"]["kernel"], loader)
    loader.told.begin(request["describe"])
    try:
        listed, doubt = loader.describe(request["describe"], request.get("chip"))
        if loader.told.changed:
            return {"changed": os.path.basename(loader.told.changed)}
        return {"configurations": [[_plain(v), _plain(o), text] for v, o, text in listed], "doubt": doubt}
    except Exception as exc:
        if loader.told.changed:
            return {"changed": os.path.basename(loader.told.changed)}
        said = f"{type(exc).__name__}: {worker.describe(exc)}"[: worker.MAX_MESSAGE_CHARS]
        return {"error": said, "raised": worker.chain_of(exc, loader.files)}


def _named_as_ours(answer, kernel, loader):
    """The answer, with a word on the stand-ins that a kernel which failed really uses: they are not the kernel's."""
    module = loader.modules.get((kernel["path"], kernel["source_hash"]))
    if "error" not in answer or module is None:
        return answer
    used, seen, todo = set(), set(), [kernel["name"]]
    tree = tuning_list.parsed(kernel["path"])
    while todo and tree is not None:
        name = todo.pop()
        seen.add(name)
        node = tuning_list.kernel_node(tree, name)
        for part in ast.walk(node) if node is not None else ():
            if isinstance(part, ast.Name) and part.id not in seen:
                value = vars(module).get(part.id)
                if isinstance(value, (stubs.Anything, stubs.StubModule)):
                    used.add(part.id) if part.id in _body_names(node) else None
                todo.append(part.id)
    names = sorted(_name_of(vars(module)[n]) for n in used)
    mentioned = [n for n in names if n.rpartition(".")[2] in answer["error"]] or names
    if mentioned:
        answer["stand_ins"] = mentioned
        answer["error"] += (
            f"\nregister-cliff put a stand-in in place of {', '.join(mentioned[:5])}, which this kernel uses and which "
            "cannot be imported where it was compiled: that is the reason, and no fault of the kernel's"
        )
    return answer


def _body_names(node):
    return {n.id for statement in node.body for n in ast.walk(statement) if isinstance(n, ast.Name)}


def _name_of(value):
    return value._name if isinstance(value, stubs.Anything) else value.__name__


def _is_inductors(value):
    return _name_of(value).startswith(stubs.ALWAYS_STUBBED)


def _stood_for(values):
    return [_name_of(v) for v in values if isinstance(v, (stubs.Anything, stubs.StubModule))]


def _plain(values):
    return {n: _name_of(v) if _stood_for([v]) else v for n, v in values.items()}


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
    return value if isinstance(value, (bool, int, float, str, type(None), stubs.Anything)) else repr(value)


if __name__ == "__main__":
    import triton  # noqa: F401  before the finder, which leaves it alone anyhow

    foreign = ForeignLoader()
    sys.meta_path.insert(0, foreign.finder)
    worker.main(foreign, answer)
