"""The import closure of a kernel: which files decide what it is, found without running any of them."""

from pathlib import Path

import pytest

from helpers.compiler.source import hashed_source, source_closure
from helpers.errors import UserError


def make(folder, **files):
    for name, text in files.items():
        path = folder / (name.replace("__slash__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "kernel.py"


def names(paths, root):
    return [str(p.relative_to(root)) for p in paths]


def test_follows_imports_of_imports_and_leaves_the_rest(tmp_path):
    kernel = make(tmp_path, kernel="import triton, one", one="from two import x", two="x = 1", three="")
    assert names(source_closure(kernel), tmp_path) == ["kernel.py", "one.py", "two.py"]


def test_packages_count_with_every_init_on_the_way(tmp_path):
    kernel = make(
        tmp_path,
        kernel="import pkg.sub.mod",
        pkg__slash____init__="LIMIT = 3",
        pkg__slash__sub__slash____init__="",
        pkg__slash__sub__slash__mod="from .. import other",
        pkg__slash__other="",
    )
    assert names(source_closure(kernel), tmp_path) == [
        "kernel.py", "pkg/__init__.py", "pkg/other.py", "pkg/sub/__init__.py", "pkg/sub/mod.py",
    ]  # fmt: skip
    before = hashed_source(kernel).sha256
    (tmp_path / "pkg" / "__init__.py").write_text("LIMIT = 4")
    assert hashed_source(kernel).sha256 != before


def test_imports_inside_functions_and_circles(tmp_path):
    kernel = make(tmp_path, kernel="def f():\n    import one", one="import kernel")
    assert names(source_closure(kernel), tmp_path) == ["kernel.py", "one.py"]


@pytest.mark.parametrize(
    "source",
    [
        "def (",
        "\0",
        "from " + "." * 400 + " import x",
        "x = " + "(" * 5_000 + ")" * 5_000,
        "x = " + "-" * 100_000 + "1",
        "é" * 9,
    ],
)
def test_strange_source_is_hashed_like_any_other(tmp_path, source):
    kernel = make(tmp_path, kernel=source)
    assert source_closure(kernel) == [kernel.resolve()]
    assert len(hashed_source(kernel).sha256) == 64


def test_files_above_the_root_are_not_ours(tmp_path):
    make(tmp_path, outside="")
    kernel = make(tmp_path / "inner", kernel="from .. import outside\nimport outside")
    assert names(source_closure(kernel), tmp_path) == ["inner/kernel.py"]


def test_unreadable_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        source_closure(tmp_path)
    (tmp_path / "a.py").symlink_to(tmp_path / "b.py")
    (tmp_path / "b.py").symlink_to(tmp_path / "a.py")
    with pytest.raises(UserError, match="cannot read kernel source"):
        source_closure(tmp_path / "a.py")


def test_a_device_without_an_end_is_not_read():
    with pytest.raises(UserError, match="no ordinary file"):
        source_closure(Path("/dev/zero"))


def test_a_huge_file_is_not_read(tmp_path):
    kernel = make(tmp_path, kernel="")
    with open(kernel, "wb") as file:
        file.truncate(10_000_000_000)
    with pytest.raises(UserError, match="10,000,000,000 bytes; at most"):
        source_closure(kernel)
