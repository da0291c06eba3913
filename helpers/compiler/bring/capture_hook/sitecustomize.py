"""Found by a Python whose PYTHONPATH names this folder: starts a recording once that program imports Triton.

The folder to record into is $REGISTER_CLIFF_CAPTURE. A sitecustomize of the program's own is run as well.
"""

import importlib
import importlib.util
import os
import sys
import warnings
from importlib.machinery import PathFinder

_HERE = os.path.dirname(os.path.realpath(__file__))
# Four folders up: capture_hook, bring, compiler, helpers.
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(_HERE))))


class _AfterTriton:
    """Starts the recording right after the program's `import triton` has done its work."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "triton":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_listen(module):
                load(module)
                _start()

            spec.loader.exec_module = load_and_listen  # type: ignore[method-assign]
        return spec


def _start():
    # The program may have a package called `helpers` too: ours is loaded and taken out of its sight again.
    held = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "helpers"}
    sys.path.insert(0, _HOME)
    try:
        importlib.import_module("helpers.compiler.bring.capture").start(os.environ["REGISTER_CLIFF_CAPTURE"])
    except Exception as exc:
        warnings.warn(f"nothing is recorded: {exc}", stacklevel=2)
    finally:
        sys.path.remove(_HOME)
        for name in [name for name in sys.modules if name.partition(".")[0] == "helpers"]:
            del sys.modules[name]
        sys.modules.update(held)


sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != _HERE]
if os.environ.get("REGISTER_CLIFF_CAPTURE"):
    sys.meta_path.insert(0, _AfterTriton())
_next = PathFinder.find_spec("sitecustomize", sys.path)
if _next is not None and _next.loader is not None:
    _module = importlib.util.module_from_spec(_next)
    sys.modules["sitecustomize"] = _module
    _next.loader.exec_module(_module)
