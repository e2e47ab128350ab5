"""The private and undocumented parts of VMAS that masac uses: why, and what would replace each. Nothing else does.

Written for VMAS 1.5. All else goes through ``vmas.make_env`` and the public methods of its environment.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from vmas.simulator.environment import Environment


class RandomStream:
    """Random numbers of one environment: VMAS has a single random state for all environments of a process.

    Public methods of ``Environment`` draw from the list ``Environment.vmas_random_state``, so evaluation would change
    what training sees. A generator for each environment in VMAS would replace this.

    Args:
        seed: of the first numbers, which do not depend on what the process has drawn before.
    """

    def __init__(self, seed: int = 0) -> None:
        numpy_seed = seed % 2**32  # NumPy takes no others
        self.state: list[Any] = [
            torch.Generator().manual_seed(seed).get_state(),
            np.random.RandomState(numpy_seed).get_state(),
            random.Random(seed).getstate(),
        ]

    @contextmanager
    def used_by_vmas(self) -> Iterator[None]:
        """Let VMAS draw from this stream. Other environments and the process keep their random numbers."""
        shared = Environment.vmas_random_state
        others, process = list(shared), (torch.get_rng_state(), np.random.get_state(), random.getstate())
        shared[:] = self.state
        try:
            yield
        except BaseException:  # VMAS puts the numbers of the process back only after a success
            torch.set_rng_state(process[0])
            np.random.set_state(process[1])
            random.setstate(process[2])
            raise
        finally:
            self.state, shared[:] = list(shared), others


def times_written(tensor: Tensor) -> int:
    """How often a tensor was written in place, which PyTorch counts for autograd.

    A reset often writes the value that was there, so comparing values would miss it. A list, kept by the scenario, of
    the tensors that its resets write would replace this.
    """
    return tensor._version


def contents(value: Any) -> dict[Any, Any] | list[Any] | tuple[Any, ...] | None:
    """What an object of a scenario holds, by name or index; None if it holds nothing that a reset changes.

    VMAS keeps state in the attributes of worlds, entities and scenarios, private ones too, and has no method to read
    or write it. A ``reset_at`` for several environments at once would replace this and the rest of joint resets.
    """
    if isinstance(value, dict | list | tuple):
        return value
    if isinstance(value, Tensor | type) or callable(value) or not hasattr(value, "__dict__"):
        return None
    return vars(value)


def discrete_controls(env: Environment, name: str) -> list[list[float]]:
    """What VMAS makes of the choices of an agent: its control ``u``, and ``c`` after it if the agent speaks.

    ``Environment.step`` would show the controls only after the scenario has changed them and noise was added. A
    function of VMAS from choices to controls would replace this.

    Args:
        env: with one environment per choice; not to be used afterwards.
        name: the agent.
    """
    agent = next(one for one in env.agents if one.name == name)
    agent.action._u_noise = agent._c_noise = 0.0
    env._set_action(torch.arange(env.num_envs).unsqueeze(-1), agent)
    speech = [] if agent.silent or env.world.dim_c == 0 else [cast(Tensor, agent.action.c)]
    return torch.cat([cast(Tensor, agent.action.u), *speech], dim=-1).tolist()
