"""A group loss as TorchRL's ``LossModule``: parameters, temperature, discount, critics, reductions.

Shape legend: ``*B`` batch, ``N`` agents, ``K`` critics, ``V`` values per agent (1, or one per action).
"""

from __future__ import annotations

import abc
import inspect
from typing import TYPE_CHECKING, Any, Literal

import torch
from tensordict import NestedKey, TensorDictBase, TensorDictParams
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModule
from torch import Tensor
from torchrl.objectives import ValueEstimators
from torchrl.objectives.value import ValueEstimatorBase

from masac import functional
from masac.compat import stacked_parameters
from masac.errors import check_choice
from masac.group_signals import (
    EndRules,
    GroupSignals,
    RewardReduction,
    TerminatedReduction,
    read_group_signals,
)
from masac.keys import as_path, get_entry
from masac.layouts import group_size, needs_agent_axis, resolve_critic_layout
from masac.losses.critic_values import make_critic_values
from masac.losses.loss_keys import EXTRA_OUT_KEYS, LOSS_OUT_KEYS, OTHER_OUT_KEYS
from masac.losses.memories import RecurrentLoss
from masac.losses.network_checks import check_actor, check_critics, layout_in_drop_mode
from masac.losses.options import LossFunction, Reduction, TorchRLOptions, check_torchrl_options
from masac.losses.temperature import clamped_alpha, register_temperature
from masac.losses.value_estimators import ESTIMATORS, make_estimator
from masac.networks.memory import GroupMemory
from masac.skipping import TerminalFill, ValidEntries, check_terminal_fill, resolve_skip_mode

if TYPE_CHECKING:
    from typing_extensions import Unpack


class GroupLossModule(RecurrentLoss, abc.ABC):
    """Base of the losses of one group of agents. See :class:`GroupLossOptions` for the arguments."""

    default_value_estimator = ValueEstimators.TD0
    _schedulable_buffers = frozenset({"alpha_init", "min_log_alpha", "max_log_alpha", "log_alpha"})

    actor_network: ProbabilisticTensorDictSequential
    qvalue_network: TensorDictModule
    target_actor_network_params: TensorDictParams
    log_alpha: Tensor
    alpha_init: Tensor
    min_log_alpha: Tensor | None
    max_log_alpha: Tensor | None
    target_entropy: Tensor

    # Attributes of TorchRL's losses for networks that a group loss does not have.
    delay_actor = False
    value_network_params = None
    target_value_network_params = None
    SUPPORTED_VALUE_ESTIMATORS = tuple(ESTIMATORS)

    number_of_actions = 1
    """The action entries that an actor writes."""

    denominators: dict[str, Tensor] | None = None
    """Where a dict is set, a call records in it what each mean divides by, so that the means of processes that hold the
    rows of one batch can be averaged exactly: their sum, each times its denominator, over the sum of the denominators.
    Without masks and weights nothing is recorded: every process has as many entries."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # TorchRL before 0.14 looks for the names of networks in the annotations of the class itself, not of its bases.
        known = (RecurrentLoss.__annotations__, GroupLossModule.__annotations__, inspect.get_annotations(cls))
        cls.__annotations__ = {name: kind for one in known for name, kind in one.items()}
        cls.__signature__ = _full_signature(cls)

    def __init__(
        self,
        actor_network: ProbabilisticTensorDictSequential,
        qvalue_network: TensorDictModule | list[TensorDictModule],
        *,
        group: NestedKey = "agents",
        n_agents: int | None = None,
        num_qvalue_nets: int = 2,
        loss_function: LossFunction = "smooth_l1",
        gamma: float | None = 0.99,
        alpha_init: float = 1.0,
        min_alpha: float | None = None,
        max_alpha: float | None = None,
        fixed_alpha: bool = False,
        alpha_per_agent: bool = False,
        skip_done_states: bool | Literal["fill", "drop"] = False,
        terminal_fill: TerminalFill = "current",
        actor_layout: Literal["auto", "shared", "per_agent"] = "auto",
        critic_layout: Literal["auto", "centralized", "decentralized"] = "auto",
        terminated_reduction: TerminatedReduction = "none",
        posthumous: bool = False,
        reward_reduction: RewardReduction | None = None,
        delay_qvalue: bool = True,
        reduction: Reduction | None = "mean",
        deactivate_vmap: bool = False,
        use_prioritized_weights: bool | Literal["auto"] = "auto",
        actor_memory: GroupMemory | None = None,
        critic_memory: GroupMemory | None = None,
        burn_in: int = 0,
        **torchrl: Unpack[TorchRLOptions],
    ) -> None:
        super().__init__()
        check_torchrl_options(torchrl, type(self).__name__)
        check_actor(actor_network, number=self.number_of_actions)
        check_choice("loss_function", loss_function, LossFunction)
        self.reduction = "mean" if reduction is None else reduction
        check_choice("reduction", self.reduction, Reduction)
        self._init_gamma = 0.99 if gamma is None else gamma
        if not 0.0 <= self._init_gamma <= 1.0:
            raise ValueError(f"gamma must be in [0, 1]; got {gamma}.")
        check_terminal_fill(terminal_fill)
        self.group = group
        self.n_agents = n_agents if n_agents is not None else group_size(actor_network)
        self.loss_function = loss_function
        self.scalar_output_mode = torchrl.get("scalar_output_mode")
        self.skip_done_states = skip_done_states
        self.terminal_fill = terminal_fill
        self.actor_layout = layout_in_drop_mode(actor_network, actor_layout, group)
        self._claims_shared = actor_layout == "shared"
        self._runs_on_pairs: bool | None = None if self.actor_layout == "shared" else False  # None: not tried yet
        self.pack_rows = needs_agent_axis(actor_network)
        first_critic = check_critics(qvalue_network, num_qvalue_nets)
        self.centralized_critic = resolve_critic_layout(first_critic, critic_layout)
        self.end_rules = EndRules(
            terminated_reduction=terminated_reduction, reward_reduction=reward_reduction, posthumous=posthumous
        )
        self.deactivate_vmap = deactivate_vmap
        self.use_prioritized_weights = use_prioritized_weights
        self.num_qvalue_nets = num_qvalue_nets
        self.delay_qvalue = delay_qvalue
        self.fixed_alpha = fixed_alpha
        logged = [*OTHER_OUT_KEYS, *EXTRA_OUT_KEYS]
        if self.reduction == "none":
            logged = OTHER_OUT_KEYS if self.scalar_output_mode == "non_tensor" else []
        self.out_keys: list[str] = [*LOSS_OUT_KEYS, *logged]
        self.convert_to_functional(actor_network, "actor_network", create_target_params=False)
        critics = list(qvalue_network) if isinstance(qvalue_network, list | tuple) else qvalue_network
        self.convert_to_functional(
            critics,  # pyright: ignore[reportArgumentType]
            "qvalue_network",
            num_qvalue_nets,
            create_target_params=delay_qvalue,
        )
        if isinstance(critics, list) and len(critics) == 1:
            self.qvalue_network_params = stacked_parameters(critics[0])
        # TorchRL before 0.14 keeps the whole list. nn.Module.__setattr__ would register the critic's own parameters.
        object.__setattr__(self, "qvalue_network", first_critic)
        self.qvalue_network_params.unlock_()  # TensorDict 0.11 locks those of a list, and SoftUpdate then fails
        self._set_memories(actor_memory, critic_memory, burn_in, delay=delay_qvalue)
        if alpha_per_agent and self.n_agents is None:
            raise ValueError(
                "alpha_per_agent=True must come with n_agents; got None. Pass n_agents=<size of the group>."
            )
        register_temperature(
            self,
            alpha_init=alpha_init,
            min_alpha=min_alpha,
            max_alpha=max_alpha,
            fixed=fixed_alpha,
            n_agents=self.n_agents if alpha_per_agent else None,
        )
        self._set_group_keys()
        self.register_load_state_dict_pre_hook(_fit_estimator_state)

    # -- attributes of TorchRL's losses --------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return self.log_alpha.device

    @property
    def skip_done_states(self) -> bool | str:
        """What networks see at the next states of agents that do not act there; see :class:`GroupLossOptions`."""
        return self._skip_done_states

    @skip_done_states.setter
    def skip_done_states(self, value: bool | str) -> None:
        self.skip_mode = resolve_skip_mode(value)
        self._skip_done_states = value

    # -- temperature and discount --------------------------------------------------------------------------------------

    @property
    def alpha(self) -> Tensor:
        """The temperature, ``[]`` or ``[N]``, clamped to its bounds, without gradient."""
        return clamped_alpha(self.log_alpha, self.min_log_alpha, self.max_log_alpha)

    @property
    def _alpha(self) -> Tensor:
        """TorchRL's name of :attr:`alpha`, which its warnings refer to."""
        return self.alpha

    @property
    def log_alphas(self) -> list[Tensor]:
        """The logarithms of the temperatures: one, or one per part of a hybrid action."""
        return [self.log_alpha]

    def alpha_loss(self, log_prob: Tensor) -> Tensor:
        """The temperature loss per agent, not reduced, from log-probabilities ``[*B, N]`` or ``[*B, N, 1]``."""
        log_alpha = self._per_pair(self.log_alpha) if log_prob.shape[-1] == 1 else self.log_alpha
        return functional.temperature_loss(log_alpha, log_prob, self.target_entropy)

    def _per_pair(self, temperature: Tensor) -> Tensor:
        """A temperature ``[]`` or ``[N]`` in a shape that broadcasts against ``[*B, N, 1]``."""
        return temperature.unsqueeze(-1) if temperature.ndim else temperature

    def make_value_estimator(
        self, value_type: ValueEstimators | ValueEstimatorBase | type | str | None = None, **hyperparams: Any
    ) -> GroupLossModule:
        """Set the estimator of the critic target, as in TorchRL.

        Args:
            value_type: ``ValueEstimators.TD0``, one step (or n, with ``steps_to_next_obs`` in the data), ``TDLambda``,
                the λ-return over data of batch size ``[*B, T]``, or ``TD1``, the λ-return of λ = 1; the name of one
                (``"td0"``), its class, or an instance, whose discount and λ are used.
            hyperparams: ``gamma``, and ``lmbda`` for ``TDLambda``; none with an instance.

        Raises:
            NotImplementedError: for another estimator.
            ValueError: for settings of an estimator that would change critic targets.
        """
        value_type = self.default_value_estimator if value_type is None else value_type
        defaults = {"gamma": self._init_gamma, "device": self.device}
        self._value_estimator = make_estimator(value_type, defaults, hyperparams)
        self.value_type = type(value_type) if isinstance(value_type, ValueEstimatorBase) else value_type
        self._in_keys = None
        return self

    # -- the batch -----------------------------------------------------------------------------------------------------

    def _set_batch_size(self, tensordict: TensorDictBase) -> None:
        """Give data without a batch size (keyword tensors) the batch size of its actions ``[*B, N, ...]``."""
        action = get_entry(tensordict, self.tensor_keys.action, type(self).__name__)
        batch_dims = action.ndim - 1 - self._action_dims(action)
        if tensordict.batch_dims == 0 and batch_dims > 0:
            tensordict.batch_size = action.shape[:batch_dims]  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def _shape_advice(self) -> str:
        return "Give the TensorDict the batch size of its rows (not of its agents), or the loss the right n_agents."

    @property
    def _min_action_dims(self) -> int:
        """The smallest number of dimensions of one agent's action."""
        return 1

    def _action_dims(self, action: Tensor) -> int:
        """The number of dimensions of one agent's action, in data without a batch size."""
        return 1

    def _read_signals(self, tensordict: TensorDictBase) -> GroupSignals:
        keys = self.tensor_keys
        action = get_entry(tensordict, keys.action, type(self).__name__)
        batch_dims = tensordict.batch_dims
        n_agents = action.shape[batch_dims] if action.ndim >= batch_dims + 1 + self._min_action_dims else None
        if n_agents is None or (self.n_agents is not None and n_agents != self.n_agents):
            raise ValueError(
                f"the action at {keys.action!r} must have shape "
                f"{[*tensordict.batch_size, self.n_agents or 'N', '...']} for batch size "
                f"{list(tensordict.batch_size)}; got {list(action.shape)}. "
                f"{self._shape_advice}"
            )
        if tensordict.batch_size.numel() == 0:
            raise ValueError(
                f"the batch must hold at least one row; got batch size {list(tensordict.batch_size)}. "
                "Sample after the replay buffer has been filled."
            )
        return read_group_signals(
            tensordict,
            group=self.group,
            n_agents=n_agents,
            reward_key=keys.reward,
            terminated_key=keys.terminated,
            mask_key=keys.agent_mask,
            done_key=keys.done,
            rows=self._read_row_mask(tensordict),
            rules=self.end_rules,
        )

    def _valid_entries(self, tensordict: TensorDictBase, signals: GroupSignals) -> ValidEntries:
        return ValidEntries(
            current=tensordict,
            alive=signals.alive,
            group=self.group,
            fill=self.terminal_fill,
            has_no_mask=signals.has_no_mask,
        )

    def _check_values(self, values: Tensor, batch_size: torch.Size, n_agents: int) -> None:
        """Raise ValueError unless the critics' values ``[K, *B, ...]`` have the right shape."""
        if tuple(values.shape[1:]) not in ((*batch_size, n_agents, 1), (*batch_size, 1)):
            raise ValueError(
                f"a critic must write {getattr(self.tensor_keys, self._value_name)!r} of shape "
                f"{[*batch_size, n_agents, 1]} (a value per agent) or {[*batch_size, 1]} (one for the team); got "
                f"{list(values.shape[1:])}."
            )

    # -- critics and reductions ----------------------------------------------------------------------------------------

    def _make_vmap(self) -> None:
        """Nothing is cached: the vmap is made at every call, so that copies and pickles of the loss have their own."""

    def _q_values(self, inputs: TensorDictBase, params: TensorDictBase, n_agents: int) -> Tensor:
        """The values of K critics, ``[K, *B, N, V]`` or ``[K, *B, 1]``, with their shape checked."""
        critic_values = make_critic_values(
            self.qvalue_network,
            getattr(self.tensor_keys, self._value_name),
            randomness=self.vmap_randomness,
            deactivate_vmap=self.deactivate_vmap,
        )
        values = critic_values(inputs, params)
        self._check_values(values, inputs.batch_size, n_agents)
        return values

    def _reduce(self, name: str, values: Tensor, mask: Tensor, weights: Tensor | None, signals: GroupSignals) -> Tensor:
        """Mean or sum over the living, or the masked values as they are, of the term ``name``."""
        if weights is not None:
            weights = weights.reshape(*signals.batch_size, *(1,) * (values.ndim - len(signals.batch_size)))
        if self.reduction == "none":
            return functional.masked_values(values, mask, weights).squeeze(-1)
        living = None if signals.has_no_mask else mask
        if self.reduction == "mean":
            return self._mean(name, values, living, weights)
        return functional.masked_sum(values, living, weights)

    def _mean(self, name: str, values: Tensor, mask: Tensor | None, weights: Tensor | None = None) -> Tensor:
        """A masked mean; its denominator is recorded where :attr:`denominators` asks for it."""
        if self.denominators is not None and not (mask is None and weights is None):
            counted = torch.ones_like(values) if weights is None else weights.expand_as(values)
            self.denominators[name] = functional.masked_sum(counted.detach(), mask)
        return functional.masked_mean(values, mask, weights)

    def _weights(self, tensordict: TensorDictBase) -> Tensor | None:
        """The importance weights of prioritized replay, ``[*B]``, where present."""
        if self.use_prioritized_weights is False:
            return None
        weights = tensordict.get(as_path(self.tensor_keys.priority_weight), None)
        if weights is not None and weights.shape not in (tensordict.batch_size, (*tensordict.batch_size, 1)):
            raise ValueError(
                f"the weights at {self.tensor_keys.priority_weight!r} must have shape {list(tensordict.batch_size)}, "
                f"one per row; got {list(weights.shape)}."
            )
        return weights


def _full_signature(loss: type[GroupLossModule]) -> inspect.Signature:
    """The arguments of a loss, with the options of all losses in the place of ``**options``."""
    own, options = (inspect.signature(cls.__init__).parameters for cls in (loss, GroupLossModule))
    named = {name: one for name, one in own.items() if name != "self" and one.kind is not one.VAR_KEYWORD}
    if len(named) < len(own) - 1:
        kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
        named |= {name: one for name, one in options.items() if name not in named and one.kind in kinds}
    return inspect.Signature(list(named.values()))


def _fit_estimator_state(loss: GroupLossModule, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Load states saved before and after the value estimator was made, which as in TorchRL happens at first use."""
    saved = f"{prefix}_value_estimator."
    if any(key.startswith(saved) for key in state):
        loss.value_estimator  # noqa: B018  made on first access
    elif loss._value_estimator is not None:
        state.update({f"{saved}{name}": value for name, value in loss._value_estimator.named_buffers()})
