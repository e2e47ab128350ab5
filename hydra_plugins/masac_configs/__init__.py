"""Lets command lines that Hydra makes find what masac adds to them: BenchMARL's, and those of TorchRL's trainers.

    python -m benchmarl.run algorithm=group_masac ...
    python train.py loss=group_sac loss.skip_done_states=drop ...

Hydra imports this in every application, so it imports nothing but Hydra.
"""

import sys
from importlib import import_module

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

INTEGRATIONS = {
    "benchmarl": "masac.integrations.benchmarl",
    "torchrl.trainers.algorithms.configs": "masac.integrations.torchrl_trainer",
}
"""Of a module that an application uses, the one of masac that adds to its configs when imported."""


class MasacConfigsPlugin(SearchPathPlugin):
    """Adds masac's configs to applications that use BenchMARL or TorchRL's trainers."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called before Hydra reads a config; does nothing for what the application has not imported by then."""
        # Not find_spec: where they are installed, other applications, `masac train` among them, do without them too.
        used = [name for name in INTEGRATIONS if name in sys.modules]
        for name in used:
            import_module(INTEGRATIONS[name])
        if "benchmarl" in used:
            search_path.append(provider="masac", path="pkg://masac.integrations.conf")
