"""Compiles one Triton kernel for ARCH and says whether that ends as recorded. No GPU is needed, nothing is launched.

    pip install triton==VERSION
    python repro.py

It reads spec.json and kernel/ beside it, and writes to a temporary folder only. Exit code: 0 it ended as recorded, 1 it
did not, 2 there is no Triton.
"""

import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import types

# Filled in for each bundle.
EXPECTED = {
    "status": "",
    "version": "VERSION",
    "words": "",
    "resource": "",
    "available": 0,
    "limit_s": 0,
    "sentence": "",
}
CAPABILITY, CODEGEN_CUDA, LIMIT_S = 0, None, 480
# End of what is filled in.
HERE = os.path.dirname(os.path.abspath(__file__))


def load(kernel):
    """The @triton.jit function that spec.json names."""
    path, root = os.path.join(HERE, kernel["path"]), os.path.join(HERE, kernel["import_root"])
    sys.path.insert(0, root)
    if kernel["stub_imports"]:
        # Its file imports what need not be here: loader/ puts stand-ins in their place.
        sys.path.insert(0, os.path.join(HERE, "loader"))
        foreign_worker = importlib.import_module("foreign_worker")

        loader = foreign_worker.ForeignLoader()
        sys.meta_path[:0] = [loader, loader.finder]
        files = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
        known = {"path": path, "name": kernel["name"], "import_root": root, "source_hash": "", "files": files}
        return loader.load(known), foreign_worker._decode
    name = os.path.splitext(os.path.relpath(path, root))[0].replace(os.sep, ".")
    loader = importlib.machinery.SourceFileLoader(name, path)
    module = sys.modules[name] = types.ModuleType(name)
    module.__file__ = path
    loader.exec_module(module)
    found = getattr(module, kernel["name"])
    while not hasattr(found, "arg_names") or type(found).__name__ in ("Autotuner", "Heuristics"):
        found = found.fn
    return found, lambda value: value


def build():
    """Compile the kernel of spec.json and print what of it decides, as the last line."""
    import triton
    from triton.backends.compiler import GPUTarget

    with open(os.path.join(HERE, "spec.json"), encoding="utf-8") as file:
        spec = json.load(file)
    function, decode = load(spec["kernel"])
    if getattr(function, "is_gluon", bool)():
        from triton.experimental.gluon._runtime import GluonASTSource as ASTSource
    else:
        from triton.compiler import ASTSource
    at = {name: number for number, name in enumerate(function.arg_names)}
    source = ASTSource(
        function,
        signature=dict(spec["signature"]),
        constexprs={(at[name],): decode(value) for name, value in spec["constexprs"]},
        attrs={(at[name],): [["tt.divisibility", 16]] for name in spec["divisible_by_16"]},
    )
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in spec["options"]}
    if CODEGEN_CUDA:
        from triton.backends.nvidia.compiler import ptx_get_version

        options["ptx_version"] = ptx_get_version(CODEGEN_CUDA)
    made = triton.compile(source, target=GPUTarget("cuda", CAPABILITY, 32), options=options)
    facts = {
        "shared memory": made.metadata.shared,
        "tensor memory": getattr(made.metadata, "tmem_size", None) or 0,
        "trap": only_traps(made.asm["ptx"]),
    }
    print("compiled: " + json.dumps(facts))


def only_traps(ptx):
    """Whether the first instruction of the kernel is a trap under no condition."""
    body = re.sub("//[^\\n]*", "", ptx).partition(".entry")[2].partition("{")[2]
    for line in body.split("\n"):
        word = line.strip()
        if word and not word.startswith((".", "$", "{", "}")):
            return word.startswith("trap")
    return False


def main():
    """Compile in a process of its own, which may abort or hang, and compare."""
    if importlib.util.find_spec("triton") is None:
        print(f"no Triton: pip install triton=={EXPECTED['version']}")
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        env = {
            **os.environ,
            "TRITON_CACHE_DIR": os.path.join(scratch, "cache"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        with open(os.path.join(scratch, "said"), "w+b") as said:
            words = [sys.executable, *(["-S"] if sys.flags.no_site else []), os.path.abspath(__file__), "--compile"]
            process = subprocess.Popen(words, stdout=said, stderr=said, env=env, cwd=scratch)
            try:
                code = process.wait(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = None
            said.seek(0)
            output = re.sub("\\x1b\\[[0-9;]*m", "", said.read().decode("utf-8", "replace"))
    print(output[-8000:])
    print(f"expected: {EXPECTED['sentence']}")
    if ends_as_recorded(code, output):
        print("result: ended the same way")
        return 0
    print("result: did not end the same way (exit code %s)" % ("none: stopped" if code is None else code))
    return 1


def ends_as_recorded(code, output):
    """Whether a compile with this exit code (None: stopped at the limit) and this output is the recorded failure."""
    if EXPECTED["limit_s"]:
        return code is None
    if EXPECTED["resource"] or EXPECTED["status"] == "trapped":
        facts = [line for line in output.splitlines() if line.startswith("compiled: ")]
        if code != 0 or not facts:
            return False
        found = json.loads(facts[-1].partition(" ")[2])
        if EXPECTED["status"] == "trapped":
            return found["trap"]
        return found[EXPECTED["resource"]] > EXPECTED["available"]
    return code not in (0, None) and EXPECTED["words"] in output


if __name__ == "__main__":
    sys.exit(build() if "--compile" in sys.argv else main())
