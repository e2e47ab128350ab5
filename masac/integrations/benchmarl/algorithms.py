"""BenchMARL's SAC algorithms with masac's losses in place of TorchRL's.

Actors, collection, replay buffers, optimizers and logs are BenchMARL's, and so is the independent critic.
"""

from __future__ import annotations

import copy
from typing import Any

from benchmarl.algorithms import Isac, Masac  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]
from benchmarl.algorithms.common import Algorithm  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModuleBase
from torchrl.data import ReplayBuffer
from torchrl.envs import Transform

from masac.integrations.benchmarl.critics import make_agent_critic
from masac.integrations.benchmarl.options import split_options
from masac.keys import as_path
from masac.losses.discrete_sac import GroupDiscreteSACLoss
from masac.losses.options import taken_options
from masac.losses.sac import GroupSACLoss
from masac.losses.torchrl_loss import GroupLossModule

BENCHMARL_OPTIONS = (
    *("num_qvalue_nets", "loss_function", "delay_qvalue", "target_entropy"),
    *("alpha_init", "min_alpha", "max_alpha", "fixed_alpha"),
)
"""The fields of BenchMARL's configs that are arguments of a loss."""

PRIORITY_KEY = "td_error"
"""The entry for the priority of a row."""


class GroupAlgorithm(Algorithm):
    """Base of both algorithms, to be combined with one of BenchMARL's.

    Args:
        critic_value: see :class:`GroupMasacConfig`.
        **fields: the other fields of the config, and ``experiment``.
    """

    def __init__(self, *, critic_value: str = "agent", **fields: Any) -> None:
        self.options, rest = split_options(fields)
        self.options.check_critic_value(critic_value)
        self.critic_value = critic_value
        super().__init__(**rest)
        if critic_value == "team" and not self.share_param_critic:
            raise ValueError(
                "share_param_critic must be True with critic_value='team', which has one network; got False."
            )
        if self.has_rnn and self.options.skip_done_states == "drop":
            raise ValueError(
                "skip_done_states must be False or 'fill' with recurrent models, which read whole sequences; "
                "got 'drop'."
            )
        self._check_burn_in()

    def _check_burn_in(self) -> None:
        experiment = self.experiment_config
        frames, envs = experiment.collected_frames_per_batch(False), experiment.n_envs_per_worker(False)
        steps = -(-frames // envs) if self.has_rnn else 1
        if not 0 <= self.options.burn_in < steps:
            raise ValueError(
                f"burn_in must be at least 0 and less than the steps of a sequence, {steps} (the frames of a batch "
                f"over the environments; 1 without a recurrent model); got {self.options.burn_in}."
            )

    def get_replay_buffer(self, group: str, transforms: list[Transform] | None = None) -> ReplayBuffer:
        """BenchMARL's replay buffer, reading priorities where masac's losses write them."""
        buffer = super().get_replay_buffer(group, transforms)
        buffer.priority_key = PRIORITY_KEY
        return buffer

    def _make_loss(
        self,
        group: str,
        policy: ProbabilisticTensorDictSequential,
        critic: TensorDictModuleBase,
        *,
        continuous: bool,
        critic_layout: str,
    ) -> GroupLossModule:
        """The loss of a group, given its actor and critic; ``critic_layout`` as in :class:`masac.GroupSACLoss`."""
        actor, qvalue, own = _without_own_state(policy), _without_own_state(critic), self.options
        options = {name: getattr(self, name) for name in BENCHMARL_OPTIONS} | {
            "group": group,
            "n_agents": len(self.group_map[group]),
            "gamma": self.experiment_config.gamma,
            "critic_layout": critic_layout,
            "action_spec" if continuous else "action_space": self.action_spec,
            "target_entropy_weight": self.discrete_target_entropy_weight,
        }
        loss_class = GroupSACLoss if continuous else GroupDiscreteSACLoss
        loss = loss_class(actor, qvalue, **taken_options(loss_class, vars(own) | options))
        loss.set_keys(agent_mask=(group, own.agent_mask_key), priority=PRIORITY_KEY)
        return loss.make_value_estimator()


class GroupIsac(GroupAlgorithm, Isac):  # pyright: ignore[reportGeneralTypeIssues]
    """Independent Soft Actor-Critic: BenchMARL's ``Isac`` with masac's losses.

    Args:
        **fields: those of :class:`GroupIsacConfig`, and ``experiment``.
    """

    def _get_loss(
        self, group: str, policy_for_loss: ProbabilisticTensorDictSequential, continuous: bool
    ) -> tuple[GroupLossModule, bool]:
        critic = self.get_continuous_value_module(group) if continuous else self.get_discrete_value_module(group)
        return self._make_loss(group, policy_for_loss, critic, continuous=continuous, critic_layout="auto"), True


class GroupMasac(GroupAlgorithm, Masac):  # pyright: ignore[reportGeneralTypeIssues]
    """Soft Actor-Critic with centralized critics: BenchMARL's ``Masac`` with masac's losses, and a value per agent.

    Args:
        **fields: those of :class:`GroupMasacConfig`, and ``experiment``.
    """

    def _get_loss(
        self, group: str, policy_for_loss: ProbabilisticTensorDictSequential, continuous: bool
    ) -> tuple[GroupLossModule, bool]:
        if not continuous and self.critic_value == "team":
            raise ValueError(
                f"critic_value must be 'agent' for discrete actions, as those of group {group!r} are; got 'team', "
                "which would need a value for every combination of actions."
            )
        if continuous:
            critic = self.get_continuous_value_module(group)
        elif self.coupled_discrete_values:
            critic = self.get_discrete_value_module_coupled(group)
        else:
            critic = self.get_discrete_value_module_decoupled(group)
        return self._make_loss(group, policy_for_loss, critic, continuous=continuous, critic_layout="centralized"), True

    def get_continuous_value_module(self, group: str) -> TensorDictModuleBase:
        """Q_i of all observations and actions for every agent i; or one Q for the team."""
        if self.critic_value == "team":
            # BenchMARL's own, without its last step, which repeats the value for every agent.
            return super().get_continuous_value_module(group)[:-1]
        return make_agent_critic(self, group, n_actions=None)

    def get_discrete_value_module_decoupled(self, group: str) -> TensorDictModuleBase:
        """Q_i of all observations and the actions of i's teammates, for each of i's own actions."""
        # BenchMARL's own critic sees the outputs of the teammates' policies at collection in place of their actions.
        return make_agent_critic(self, group, n_actions=self.action_spec[group, "action"].space.n)


def _without_own_state(module: TensorDictModuleBase) -> Any:
    """The module without recurrent states among its ``in_keys``.

    BenchMARL's recurrent models read their state if present, which is the case when acting. Data does not have it:
    collectors leave out entries with names that begin with ``_``.
    """
    copied: Any = copy.copy(module)  # the one that acts keeps its keys
    copied.in_keys = [key for key in module.in_keys if not as_path(key)[-1].startswith("_")]
    return copied
