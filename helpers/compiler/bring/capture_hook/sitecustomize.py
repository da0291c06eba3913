"""Found by a Python whose PYTHONPATH names this folder: starts a recording once that program has loaded Triton.

The folder to record into is $REGISTER_CLIFF_CAPTURE; what is seen on the way is marked in $REGISTER_CLIFF_MARKS, so
that `capture` can say it at the end. A sitecustomize of the program's own is run as well. This folder stays on
sys.path: programs hand that path to children of theirs (Inductor to its compile workers), which are to be recorded too.
"""

import atexit
import importlib
import importlib.util
import os
import sys
import threading
from importlib.machinery import PathFinder

_HERE = os.path.dirname(os.path.realpath(__file__))
# Four folders up: capture_hook, bring, compiler, helpers.
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(_HERE))))


class _AfterTriton:
    """Starts the recording right after Triton was loaded; a question whether it is there (find_spec) starts nothing."""

    def __init__(self):
        self._asking = threading.local()

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "triton":
            self._look_again()
        if fullname != "triton" or getattr(self._asking, "now", False):
            return None
        self._asking.now = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asking.now = False
        if spec is not None and spec.loader is not None:
            self._listen_at(spec.loader)
        return spec

    def _look_again(self):
        """Start where Triton has been loaded past this finder: by one that the program has put before it."""
        module = sys.modules.get("triton")
        if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                _start()

    def _listen_at(self, loader):
        load = loader.exec_module

        def load_and_listen(module):
            del loader.exec_module  # the loader is the program's again
            load(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                _start()

        loader.exec_module = load_and_listen


def _say_what_was_missed():
    """At the end: Triton is there, and nobody listened, because the program has taken our finder away."""
    if "triton" in sys.modules and not _STARTED:
        _mark("missed")


_STARTED: list = []


def _start():
    _STARTED.append(True)
    _mark("loaded")
    # The program may have a package called `helpers` too: ours is loaded and taken out of its sight again.
    held = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "helpers"}
    sys.path.insert(0, _HOME)
    try:
        importlib.import_module("helpers.compiler.bring.capture").start(os.environ["REGISTER_CLIFF_CAPTURE"])
    except Exception as exc:
        _mark("failed", str(exc))
        _tell(f"register-cliff capture: nothing is recorded: {exc}")
    finally:
        if _HOME in sys.path:
            sys.path.remove(_HOME)
        for name in [name for name in sys.modules if name.partition(".")[0] == "helpers"]:
            del sys.modules[name]
        sys.modules.update(held)


def _mark(name, words=""):
    """Leave a file for `capture` to find; a program without that folder is none of its own."""
    place = os.environ.get("REGISTER_CLIFF_MARKS")
    if place:
        try:
            with open(os.path.join(place, f"{name}-{os.getpid()}"), "w", encoding="utf-8") as file:
                file.write(words)
        except Exception:  # nothing of ours may end the program, a warning that it makes an error included
            pass


def _tell(words):
    """A line on stderr. No warning: under `-W error` that would be an exception in the program."""
    try:
        print(words, file=sys.stderr, flush=True)
    except Exception:
        pass


if os.environ.get("REGISTER_CLIFF_CAPTURE"):
    sys.meta_path.insert(0, _AfterTriton())
    atexit.register(_say_what_was_missed)
_next = PathFinder.find_spec("sitecustomize", [entry for entry in sys.path if os.path.realpath(entry) != _HERE])
if _next is not None and _next.loader is not None:
    _module = importlib.util.module_from_spec(_next)
    sys.modules["sitecustomize"] = _module
    _next.loader.exec_module(_module)
