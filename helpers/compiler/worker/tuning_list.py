"""The list of configurations around an autotuned kernel, and whether a stand-in had a hand in it; runs in a worker.

A list is often made by code: a filter of the project's own, a loop, a question about the chip. The project's modules
are loaded for real here, the chip that was asked for answers in place of this machine's, and every moment in which a
stand-in gave a value (was iterated, compared, asked a question) is recorded with its place. If one of these places
belongs to what makes the list, the list is not known, and the stand-in is named. Standard library and Triton only.
"""

import ast
import contextlib
import os
import sys

# How the name of a question ends that this machine, and not the chip, has answered.
MACHINE = ", which asks for this machine's GPU"


# --- which statements make a list ---------------------------------------------------------------------------


def kernel_node(tree, name):
    """The last function of that name in a module's tree, or None."""
    found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == name]
    return found[-1] if found else None


def decorators(node):
    """The decorators that may choose configurations: all but jit and heuristics."""
    named = [(ast.unparse(d.func if isinstance(d, ast.Call) else d), d) for d in node.decorator_list]
    return [d for name, d in named if name.rpartition(".")[2] not in ("jit", "heuristics")]


def list_expressions(node):
    """The expressions that say which configurations there are: of autotune its first argument, else all."""
    found = []
    for decorator in decorators(node):
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("autotune"):
            given = [k.value for k in decorator.keywords if k.arg == "configs"] or decorator.args[:1]
            found += given or [decorator]
        else:
            found.append(decorator)
    return found


def statements_behind(tree, expressions):
    """(top-level statements that the expressions depend on, the names they read), followed through the module."""
    bound = [(statement, _binds(statement)) for statement in tree.body]
    todo, seen, chosen = {n for e in expressions for n in _reads(e)}, set(), []
    while todo:
        name = todo.pop()
        seen.add(name)
        for statement, names in bound:
            if name in names and statement not in chosen:
                chosen.append(statement)
                todo |= _reads(statement) - seen
    return chosen, seen


def _reads(node):
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _binds(statement):
    """The names that a statement of a module gives a value, or changes: `x = …`, `x.append(…)`, `x[…] = …`."""
    found = set()
    todo = [statement]
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        ):
            if isinstance(statement, (ast.Expr, ast.For, ast.While, ast.If, ast.With, ast.Try)):
                found.add(node.func.value.id)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
            found.add(node.value.id)
        if not isinstance(node, ast.Lambda):
            todo += ast.iter_child_nodes(node)
    return found


def parsed(path, read=None):
    """The tree of a file, of what `read` gives for it; None for one that cannot be read."""
    try:
        return ast.parse(read(path) if read else _bytes_of(path))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _bytes_of(path):
    with open(path, "rb") as file:
        return file.read()


def regions(path, kernel, root):
    """{real path: [(first line, last line)]} of all that makes a kernel's list, through the project's own modules.

    Call it while the modules are loaded: which file an import means is read from sys.modules.
    """
    tree = parsed(path)
    node = kernel_node(tree, kernel) if tree is not None else None
    if node is None:
        return {}
    expressions = list_expressions(node)
    found: dict = {}
    for part in [*expressions, *decorators(node)]:
        last = part.end_lineno if part in expressions else part.lineno
        found.setdefault(os.path.realpath(path), []).append((part.lineno, last))
    todo, seen = [(path, tree, expressions)], {("", "")}
    while todo:
        file, module, parts = todo.pop()
        statements, names = statements_behind(module, parts)
        for statement in statements:
            first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", ()))])
            found.setdefault(os.path.realpath(file), []).append((first, statement.end_lineno))
        for where, wanted in _imported(file, statements, [*parts, *statements], names, root):
            for name in wanted - {n for f, n in seen if f == where}:
                seen.add((where, name))
                other = parsed(where)
                if other is not None:
                    todo.append((where, other, [ast.Name(name, ast.Load())]))
        if len(seen) > 20_000:
            break
    return found


def _imported(file, statements, used, names, root):
    """[(file of a project's module, names wanted of it)] for the imports among the statements."""
    package = _package_of(file)
    found = []
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parts = package.split(".")
                    base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
                for alias in node.names:
                    if (alias.asname or alias.name) in names:
                        found.append((base, {alias.name}))
                        found.append((f"{base}.{alias.name}", _attributes(used, alias.asname or alias.name)))
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    found.append((alias.name, _attributes(used, alias.asname or alias.name.partition(".")[0])))
    places = []
    for module, wanted in found:
        origin = getattr(sys.modules.get(module), "__file__", None)
        if isinstance(origin, str) and os.path.realpath(origin).startswith(root + os.sep):
            places.append((origin, wanted))
    return places


def _package_of(file):
    real = os.path.realpath(file)
    for module in list(sys.modules.values()):
        origin = getattr(module, "__file__", None)
        if isinstance(origin, str) and os.path.realpath(origin) == real:
            return module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]
    return ""


def _attributes(nodes, name):
    """The attributes that are read of a module by that name: `a.b` of `import x as a`."""
    return {
        n.attr
        for node in nodes
        for n in ast.walk(node)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == name
    }


def touches(frames, places):
    """Whether one of the frames (file, line) lies in one of the regions."""
    return any(first <= line <= last for file, line in frames for first, last in places.get(os.path.realpath(file), ()))


# --- the chip that answers ---------------------------------------------------------------------------------


@contextlib.contextmanager
def as_on(chip, record):
    """The time in which torch and Triton say that `chip` is the GPU.

    `chip` is such as {"capability": 90, "max_shared_mem": 232448, "name": "NVIDIA H100"}, the name "" if not known.
    Without a chip they say what this machine has, and every question is recorded: the answer is not the chip's.
    """
    undo = []
    answers = chip_answers(chip) if chip else {}
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda") and hasattr(torch, "__version__"):
        for name in ("is_available", "get_device_capability", "device_count", "current_device", "get_device_name",
                     "get_device_properties"):  # fmt: skip
            plain = getattr(torch.cuda, name, None)
            if plain is not None:
                undo.append((torch.cuda, name, plain))
                setattr(
                    torch.cuda,
                    name,
                    answers.get(f"torch.cuda.{name}") or _recorded(f"torch.cuda.{name}", plain, record),
                )
        if chip and getattr(torch.version, "cuda", "") is None:
            undo.append((torch.version, "cuda", None))
            torch.version.cuda = "12.8"
    driver = _set_driver(chip, record)
    try:
        yield
    finally:
        for owner, name, plain in undo:
            setattr(owner, name, plain)
        if driver is not None:
            driver()


def chip_answers(chip):
    """What torch says of the chip, by name, as functions."""
    capability = divmod(chip["capability"], 10)
    values = {"is_available": True, "get_device_capability": capability, "device_count": 1, "current_device": 0}
    if chip.get("name"):
        values["get_device_name"] = chip["name"]
    return {f"torch.cuda.{name}": (lambda *_, _value=value, **__: _value) for name, value in values.items()}


def _recorded(name, plain, record):
    def ask(*args, **kwargs):
        record(f"{name}{MACHINE}")
        return plain(*args, **kwargs)

    return ask


def _set_driver(chip, record):
    """Make Triton's active driver answer for the chip; returns what sets the old state back."""
    try:
        from triton.backends.compiler import GPUTarget
        from triton.runtime import driver
    except ImportError:
        return None
    if not chip:
        return None

    class Properties(dict):
        def __missing__(self, key):
            record(f"{key} of Triton's driver{MACHINE}")
            raise KeyError(key)

    class Utils:
        @staticmethod
        def get_device_properties(_device=0):
            return Properties(max_shared_mem=chip["max_shared_mem"], warpSize=32)

    class Driver:
        utils = Utils()

        @staticmethod
        def get_current_target():
            return GPUTarget("cuda", chip["capability"], 32)

        @staticmethod
        def get_current_device():
            return 0

        @staticmethod
        def get_device_capability(_device=0):
            return divmod(chip["capability"], 10)

        def __getattr__(self, name):
            record(f"{name} of Triton's driver{MACHINE}")
            raise AttributeError(name)

    # reset_active() would look for a GPU: what was there before is put back as it was.
    state = dict(vars(driver))
    driver.set_active(Driver())
    return lambda: vars(driver).update(state)
