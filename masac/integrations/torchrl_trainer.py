"""masac's losses in the configs of TorchRL's trainers: ``loss=group_sac`` and ``loss=group_discrete_sac``.

Importing this registers them; masac's Hydra plugin imports it for applications that import
``torchrl.trainers.algorithms.configs``.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from torch import nn
from torchrl.trainers.algorithms.configs import LossConfig, SACLossConfig

from masac.losses.discrete_sac import GroupDiscreteSACLoss
from masac.losses.sac import GroupSACLoss

GroupLossClass = type[GroupSACLoss] | type[GroupDiscreteSACLoss]
HANDLED_HERE = ("discrete", "_target_", "_partial_")


def make_group_sac_loss(**fields: Any) -> GroupSACLoss | GroupDiscreteSACLoss:
    """The loss of a config: ``GroupDiscreteSACLoss`` if ``discrete``, else ``GroupSACLoss``.

    Args:
        fields: those of :data:`GroupSACLossConfig`. Fields of the other loss must have their defaults.

    Raises:
        TypeError: for a field that the loss does not take.
    """
    loss_class = GroupDiscreteSACLoss if fields.pop("discrete", False) else GroupSACLoss
    parameters = _parameters(loss_class)
    arguments = {
        name: _plain(value) for name, value in fields.items() if name in parameters or value != DEFAULTS.get(name)
    }
    for name in ("actor_network", "qvalue_network"):
        network = arguments.get(name)
        if callable(network) and not isinstance(network, nn.Module):
            arguments[name] = network()  # the config of one, with `_partial_: true`
    return loss_class(**arguments)


def _plain(value: Any) -> Any:
    """A YAML list as a tuple: a nested key or a list of sizes."""
    if isinstance(value, Sequence) and not isinstance(value, str | nn.Module):
        return tuple(_plain(part) for part in value)
    return value


def _parameters(loss_class: GroupLossClass) -> dict[str, Any]:
    """The arguments of a loss by name, and their defaults (None for those that have none)."""
    return {
        name: None if parameter.default is inspect.Parameter.empty else parameter.default
        for name, parameter in inspect.signature(loss_class).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


DEFAULTS: dict[str, Any] = {
    # Fields of a recipe for TorchRL's loss are kept, for either loss; defaults of masac's losses take precedence.
    **{f.name: f.default for f in dataclasses.fields(SACLossConfig) if f.name not in HANDLED_HERE},
    **_parameters(GroupDiscreteSACLoss),
    **_parameters(GroupSACLoss),
}
"""The fields of the configs."""


def _config(name: str, *, discrete: bool) -> type[LossConfig]:
    fields: dict[str, Any] = {
        **DEFAULTS,
        "discrete": discrete,
        "_target_": f"{make_group_sac_loss.__module__}.{make_group_sac_loss.__name__}",
    }
    typed = [(field, Any, dataclasses.field(default=default)) for field, default in fields.items()]
    config = dataclasses.make_dataclass(name, typed, bases=(LossConfig,))
    config.__module__ = __name__
    return config


GroupSACLossConfig = _config("GroupSACLossConfig", discrete=False)
GroupDiscreteSACLossConfig = _config("GroupDiscreteSACLossConfig", discrete=True)


def register() -> None:
    """Add the configs to Hydra's store, as often as it is called."""
    store: Callable[..., None] = ConfigStore.instance().store
    store(group="loss", name="group_sac", node=GroupSACLossConfig, provider="masac")
    store(group="loss", name="group_discrete_sac", node=GroupDiscreteSACLossConfig, provider="masac")


register()
