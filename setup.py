"""What a wheel holds: everything inside one package, register_cliff. All else about the build is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

INSIDE = "register_cliff"


class OnePackage(build_py):
    """Moves helpers/ and kernels/ below register_cliff/, and data/ with them; an editable install moves nothing."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        build = Path(self.build_lib)
        home = build / INSIDE
        shutil.rmtree(home, ignore_errors=True)  # of a build before this one
        home.mkdir()
        for name in ("helpers", "kernels"):
            shutil.move(build / name, home / name)
        module = (build / f"{INSIDE}.py").rename(home / "__init__.py")
        shutil.copy(module, home / "__main__.py")
        if Path("data").is_dir():
            shutil.copytree("data", home / "data")


class WithData(sdist):
    """Takes data/ along, so that a wheel made from the archive has it too."""

    def make_release_tree(self, base_dir, files):
        data = [str(path) for path in sorted(Path("data").glob("*")) if path.is_file()]
        super().make_release_tree(base_dir, [*files, *(path for path in data if path not in files)])


setup(cmdclass={"build_py": OnePackage, "sdist": WithData})
