"""The verb `toolchains`: what is here, and what an install does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.__main__ import main


def test_toolchains_lists(capfd):
    assert main(["toolchains", "--json"]) == 0
    listing = json.loads(capfd.readouterr().out)
    assert listing["environment_triton"] in [t["version"] for t in listing["triton"]]
    assert all(Path(p["path"]).is_file() for p in listing["ptxas"]) and "3.5.1" in listing["known_triton"]
    assert main(["toolchains"]) == 0
    out, _ = capfd.readouterr()
    assert "register-cliff toolchains install" in out


def test_install_of_what_is_there_fetches_nothing(toolchain_351, capfd):
    from helpers.compiler.toolchain import environment_triton

    if environment_triton().version == "3.5.1":
        pytest.skip("3.5.1 is the environment's own")
    assert main(["toolchains", "install", "3.5.1", "--json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)
    assert row["fetched"] is False and Path(row["path"]).is_dir()
