"""masac's losses as algorithms of BenchMARL: ``GroupMasacConfig`` and ``GroupIsacConfig``, for its ``Experiment``.

Importing this registers them in BenchMARL and Hydra, as ``group_masac`` and ``group_isac``. BenchMARL's command line
imports it through ``hydra_plugins.masac_configs``. Needs the extra ``benchmarl``.
"""

from benchmarl.algorithms import algorithm_config_registry  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]
from hydra.core.config_store import ConfigStore

from masac.integrations.benchmarl.algorithms import GroupIsac, GroupMasac
from masac.integrations.benchmarl.configs import GroupIsacConfig, GroupMasacConfig

__all__ = ["GroupIsac", "GroupIsacConfig", "GroupMasac", "GroupMasacConfig"]

CONFIGS = {"group_masac": GroupMasacConfig, "group_isac": GroupIsacConfig}
"""By the name that ``algorithm=`` takes."""

for _name, _config in CONFIGS.items():
    algorithm_config_registry[_name] = _config
    ConfigStore.instance().store(name=f"{_name}_config", group="algorithm", node=_config)
