"""Readers with a fault each, so that a test sees the hunt tell of all of them."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path


def _spin(_folder: Path) -> None:
    while True:
        pass


def _in_c(_folder: Path) -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")  # no signal handler of Python's is heard in there


def _sleep(_folder: Path) -> None:
    time.sleep(600)


def _eat(_folder: Path) -> None:
    held = []
    while True:
        held.append(bytearray(20_000_000))
        time.sleep(0.02)


def _raise(_folder: Path) -> None:
    raise KeyError("no such thing")


def _die(_folder: Path) -> None:
    os.abort()


def _print(_folder: Path) -> None:
    print("this is no answer")


READERS = {
    "log": _spin, "ptx": _in_c, "ttgir": _sleep, "sass": _eat, "cubin": _raise, "spec": _die, "baseline": _print,
}  # fmt: skip
