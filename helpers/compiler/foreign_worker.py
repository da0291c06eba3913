"""The worker for kernels cut out of something that is not installed: what their files cannot import is stubbed.

Runs as a script like worker.py, which does the work. First everything installed is real; where the file does not load
so (an engine's code asking a stand-in for a number), once more with only Triton and the kernel's own files.
"""

import importlib.util
import os
import sys


def _load_beside(name):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    spec = importlib.util.spec_from_file_location(f"_register_cliff_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


worker, stubs = _load_beside("worker"), _load_beside("stubs")
# Kernels are compiled for CUDA here, whatever this machine has.
FINDER = stubs.StubFinder({"is_cuda": True, "is_nvidia": True})
DTYPE = "tl."


def _load_kernel(kernel):
    """`worker._load_kernel`, with stand-ins."""
    first = None
    for everything in (False, True):
        FINDER.aim(kernel["import_root"], kernel["files"], everything=everything)
        held = _set_aside() if everything else {}
        try:
            return _plain_load(kernel)
        except Exception as exc:
            first = first or exc
        finally:
            for name in [n for n, module in sys.modules.items() if isinstance(module, stubs.StubModule)]:
                del sys.modules[name]
            sys.modules.update(held)
    raise first


def _set_aside():
    """What is loaded and neither Triton nor Python's own, taken out of sys.modules for the while."""
    kept = {*sys.stdlib_module_names, "triton", "__main__"}
    names = [n for n in sys.modules if n.partition(".")[0] not in kept and not n.startswith("_register_cliff")]
    return {name: sys.modules.pop(name) for name in names}


def _ast_source(fn, spec):
    """`worker._ast_source`, where a constexpr such as "tl.bfloat16" means Triton's type of that name."""
    values = [(name, _decode(value)) for name, value in spec["constexprs"]]
    return _plain_source(fn, {**spec, "constexprs": values})


def _decode(value):
    if isinstance(value, str) and value.startswith(DTYPE):
        import triton.language as tl

        found = getattr(tl, value[len(DTYPE) :], None)
        return found if isinstance(found, tl.dtype) else value
    return value


_plain_load, _plain_source = worker._load_kernel, worker._ast_source
_load_kernel.__dict__.update(_plain_load.__dict__)
worker._load_kernel, worker._ast_source = _load_kernel, _ast_source

if __name__ == "__main__":
    import triton  # noqa: F401  before the finder, which leaves it alone anyhow

    sys.meta_path.insert(0, FINDER)
    worker.main()
