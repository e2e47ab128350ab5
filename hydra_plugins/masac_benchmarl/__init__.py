"""Lets BenchMARL's command line find masac's algorithms: ``python -m benchmarl.run algorithm=group_masac ...``.

Hydra imports this in every application, so it imports nothing but Hydra.
"""

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class MasacBenchmarlPlugin(SearchPathPlugin):
    """Adds masac's configs to the search path of applications that use BenchMARL."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called before Hydra reads a config; does nothing unless BenchMARL was imported by then."""
        # Not find_spec: where BenchMARL is installed, other applications, `masac train` among them, do without it too.
        if "benchmarl" not in sys.modules:
            return
        import masac.integrations.benchmarl  # noqa: F401  registers the schemas of the configs

        search_path.append(provider="masac", path="pkg://masac.integrations.conf")
