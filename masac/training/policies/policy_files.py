"""The files of policies: tensors and JSON, which load without running code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from masac.errors import ConfigError
from masac.files.atomic_write import write_atomically
from masac.named_objects import warn_if_shared
from masac.training.config import ExperimentConfig, read_config


@dataclass(frozen=True, kw_only=True)
class PolicyFile:
    """The content of a file.

    Args:
        path: of the file.
        tensors: of actors and normalizers, by name.
        about: groups, config and frames.
        opponents: the policies of other runs that act for some groups, by group.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]
    opponents: Mapping[str, PolicyFile] = field(default_factory=dict)

    @property
    def config(self) -> ExperimentConfig:
        """The config of the run that trained the policy.

        Raises:
            ConfigError: if it is from another version of masac.
        """
        try:
            return read_config(self.about["config"])
        except ConfigError as error:
            raise ConfigError(f"the policy {str(self.path)!r} must be of this version of masac: {error}") from None

    @property
    def learned(self) -> dict[str, Mapping[str, Any]]:
        """What the file says about each group that has an actor."""
        return {group["name"]: group for group in self.about["groups"] if group["learned"]}


def write_policy_file(path: Path, content: PolicyFile) -> None:
    """Write a file, loadable with ``torch.load(weights_only=True)``."""
    write_atomically(path, lambda file: torch.save(_as_plain(content), file))


def read_policy_file(path: Path) -> PolicyFile:
    """The content of a file that :func:`write_policy_file` wrote.

    Raises:
        ConfigError: if the file is damaged or not a policy.
    """
    try:
        content = _from_plain(path, torch.load(path, weights_only=True, map_location="cpu"))
    except OSError as error:
        raise ConfigError(f"the policy {str(path)!r} must be readable: {error}") from None
    except Exception as error:  # PyTorch does not specify what it raises for a damaged file
        raise ConfigError(
            f"{str(path)!r} must be a policy that masac wrote; it is damaged or something else "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from None
    model, task = (content.about.get("config", {}).get(section, {}) for section in ("model", "task"))
    networks = [*model.get("actors", {}).values(), *model.get("critics", {}).values()]
    names = [task.get("factory"), model.get("actor"), model.get("critic"), *networks]
    warn_if_shared(names, f"the policy {str(path)!r}")
    return content


def _as_plain(content: PolicyFile) -> dict[str, Any]:
    opponents = {group: {"path": str(one.path), **_as_plain(one)} for group, one in content.opponents.items()}
    return {"policy": dict(content.tensors), "about": json.dumps(content.about), "opponents": opponents}


def _from_plain(path: Path, plain: Mapping[str, Any]) -> PolicyFile:
    opponents = {group: _from_plain(Path(one["path"]), one) for group, one in plain.get("opponents", {}).items()}
    return PolicyFile(path=path, tensors=plain["policy"], about=json.loads(plain["about"]), opponents=opponents)
