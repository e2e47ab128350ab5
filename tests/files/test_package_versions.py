"""The versions of packages, whatever the distributions that bring them are called."""

import sys
from importlib.metadata import version

import torchrl

from masac.files.package_versions import installed_version


def test_a_nightly_build_under_another_name_has_its_version(tmp_path, monkeypatch):
    (tmp_path / "swarms").mkdir()
    (tmp_path / "swarms" / "__init__.py").touch()
    about = tmp_path / "swarms_nightly-2026.10.27.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: swarms-nightly\nVersion: 2026.10.27\n")
    (about / "top_level.txt").write_text("swarms\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert installed_version("swarms") == "2026.10.27"


def test_what_is_installed_and_what_is_not():
    assert installed_version("numpy") == version("numpy")
    assert installed_version("torchrl") == torchrl.__version__
    assert installed_version("no_such_package") is None
