"""The Hydra plugin where nobody uses what masac adds to: it must stand aside."""

import subprocess
import sys

CODE = """
import sys
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra_plugins.masac_configs import MasacConfigsPlugin

path = ConfigSearchPathImpl()
MasacConfigsPlugin().manipulate_search_path(path)
print(len(path.get_path()), [name for name in ("torch", "torchrl", "benchmarl", "masac") if name in sys.modules])
"""


def test_the_hydra_plugin_imports_nothing_for_other_programs():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == "0 []\n"


def test_hydra_finds_the_plugin():
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    found = Plugins.instance().discover(SearchPathPlugin)
    assert "MasacConfigsPlugin" in [plugin.__name__ for plugin in found]
