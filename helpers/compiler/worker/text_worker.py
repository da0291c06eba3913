"""The worker for texts: one Triton goes on from a TTGIR or an LLIR that another release made.

Runs as a script like worker.py, which it loads, and imports Triton and the standard library alone. A request names the
stage its text is of, the text, the capability and the launch options; the answer has the stages after it.
"""

import importlib.util
import os
import sys
import time
import traceback
from typing import Any


def _load_beside(name) -> Any:
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    spec: Any = importlib.util.spec_from_file_location(f"_register_cliff_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


writer: Any = _load_beside("worker")
AFTER = {"ttgir": ("llir", "ptx"), "llir": ("ptx",)}


def _parsed(text, backend):
    """(the MLIR module of a TTGIR text, its context): the module does not keep the context alive."""
    from triton._C.libtriton import ir

    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    with writer.scratch_folder() as scratch:
        path = os.path.join(scratch, "kernel.ttgir")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        module = ir.parse_mlir_module(path, context)
    module.context = context
    return module, context


def answer_from_text(request, _loader):
    """The answer to a request: `stages` made from the text, or the error and the stage it came in."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import make_backend

    begin = request["begin"]
    answer: dict[str, Any] = {"stages": {}, "stage": "options", "seconds": {}, "dropped_options": []}
    started = time.perf_counter()
    try:
        backend = make_backend(GPUTarget("cuda", request["capability"], 32))
        known = backend.parse_options({}).__dict__
        # An option that this release does not have shaped the text before; it is left out here, and said.
        answer["dropped_options"] = sorted(name for name in request["options"] if name not in known)
        options = backend.parse_options({n: v for n, v in request["options"].items() if n in known})
        stages = _stages(backend, options)
        answer["stage"] = "read"
        module, context = _parsed(request["text"], backend) if begin == "ttgir" else (request["text"], None)
        metadata = {"num_warps": options.num_warps}
        if begin == "llir":
            from triton._C.libtriton import llvm, nvidia

            llvm.init_targets()
            # Up to 3.8 the lowering before sets this switch of LLVM's for the whole process; the PTX depends on it.
            getattr(nvidia, "set_short_ptr", bool)()
        for name in AFTER[begin]:
            answer["stage"] = name
            module = stages[name](module, metadata)
            answer["seconds"][name] = time.perf_counter() - started
            answer["stages"][name] = str(module)
        answer["stage"] = "cubin"
        argv = writer._capture_ptxas_command(stages["cubin"], module, metadata)
        answer["ptxas_program"], answer["ptxas_flags"] = argv[0], argv[1:]
        answer["stage"] = "done"
        answer["kernel_name"] = metadata.get("name")
        del context
    except Exception as exc:  # what this Triton raises over another's text is the answer
        answer["error_type"] = type(exc).__name__
        answer["raised"] = writer.chain_of(exc, ())
        answer["error"] = writer.describe(exc)[: writer.MAX_MESSAGE_CHARS]
        answer["traceback"] = traceback.format_exc()[-writer.MAX_MESSAGE_CHARS :]
    answer["seconds"]["total"] = time.perf_counter() - started
    return answer


def _stages(backend, options):
    stages: dict[str, Any] = {}
    try:
        from triton.compiler.compiler import Language

        backend.add_stages(stages, options, Language.TRITON)
    except (ImportError, TypeError):
        backend.add_stages(stages, options)
    return stages


if __name__ == "__main__":
    writer.main(writer.KernelLoader(), answer_from_text)
