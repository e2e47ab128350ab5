"""A user's own actors and critics: made by a function of the user's, checked, and put in place of masac's networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModule, TensorDictModuleBase
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torchrl.data import TensorSpec
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import ProbabilisticActor

from masac.compat import rsample_and_log_prob
from masac.errors import ConfigError
from masac.images import ImageSpec
from masac.keys import as_path
from masac.named_objects import find_object
from masac.networks.actors import TanhNormalNetwork, mean_and_std, observed_keys
from masac.networks.config import ModelConfig
from masac.networks.other_group import OtherGroup
from masac.process.tracebacks import report_of

ROWS = 7
"""Rows of the batch on which a network is tried."""


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """What a function that makes a network for a group is called with.

    Args:
        group: its name, the key of its entries.
        n_agents: N.
        observation_dim: F, features of one agent's observation.
        action_dim: A, features of one agent's action as critics see it: its dimensions, or its choices if discrete.
        outputs: features that the network computes per agent. An actor: 2 A, mean and standard deviation of continuous
            actions, or A, the logits of discrete ones. A critic: 1, or A, a value of every discrete action.
        action_spec: TorchRL's spec of the group's action, ``[N, ...]``.
        discrete: whether the actions are discrete.
        has_action_mask: whether the data has ``(group, "action_mask")``, bool ``[*B, N, A]``.
        of_team: a critic: whether it computes one value for the group, ``[*B, 1]`` (``algorithm.critic=team``).
        images: that an agent observes beside the vector, each at ``(group, name)``, ``[*B, N, *shape]``.
        others: the other groups that a critic may see (``algorithm.critic_sees=all_groups``).
        model: the config section, for sizes. With ``model.memory`` the output of the memory of actors or critics is
            ``[*B, N, model.memory_dim]``, at ``(group, "actor_memory")`` or ``(group, "critic_memory")``.
    """

    group: str
    n_agents: int
    observation_dim: int
    action_dim: int
    outputs: int
    action_spec: TensorSpec
    discrete: bool
    has_action_mask: bool
    of_team: bool = False
    images: Sequence[ImageSpec] = ()
    others: Sequence[OtherGroup] = ()
    model: ModelConfig


class OwnActorNetwork(nn.Module):
    """A user's module with the outputs of masac's networks: mean and standard deviation, or logits.

    Args:
        network: ``[*B, N, F]`` to ``[*B, N, outputs]``.
        log_std_bounds: of the standard deviation's logarithm; None for logits.
    """

    def __init__(self, network: nn.Module, log_std_bounds: tuple[float, float] | None) -> None:
        super().__init__()
        self.network = network
        self.log_std_bounds = log_std_bounds

    def forward(self, *observed: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The parameters of the distribution."""
        out = self.network(*observed)
        return out if self.log_std_bounds is None else mean_and_std(out, self.log_std_bounds)


def own_actor(name: str, key: str, spec: NetworkSpec, builtin: ProbabilisticActor) -> ProbabilisticTensorDictSequential:
    """The actor that a user's function makes.

    Args:
        name: of the function, see :func:`~masac.named_objects.find_object`.
        key: the config key that holds it.
        spec: that it is called with.
        builtin: masac's actor of the group, whose distribution it takes.

    Raises:
        ConfigError: if the function, or what it makes, does not fit.
    """
    made = _made(name, key, spec)
    distribution: Any = builtin[-1]
    group = spec.group
    masks = ["action_mask"] if spec.has_action_mask else []
    seen = observed_keys((group,), spec.images, spec.model)
    readable: list[NestedKey] = [*seen, *((group, mask) for mask in masks)]
    if isinstance(made, ProbabilisticTensorDictSequential):
        actor = made
    elif isinstance(made, TensorDictModuleBase):
        needed = [one for one in distribution.in_keys if one not in readable]
        _check_written(key, name, made, needed)
        actor = ProbabilisticTensorDictSequential(made, distribution)  # pyright: ignore[reportArgumentType, reportCallIssue]
    else:
        network: Any = builtin[0].module  # pyright: ignore[reportAttributeAccessIssue]
        bounds = network.log_std_bounds if isinstance(network, TanhNormalNetwork) else None
        first: Any = builtin[0]
        own = TensorDictModule(OwnActorNetwork(made, bounds), in_keys=seen, out_keys=first.out_keys)
        data = _data(spec)
        with _explained(key, name, spec):
            out = made(*(data.get(one) for one in seen))
        _check_shape(key, name, "outputs", out, [spec.n_agents, spec.outputs])
        actor = ProbabilisticTensorDictSequential(own, distribution)  # pyright: ignore[reportArgumentType, reportCallIssue]
    _check_read(key, name, actor.in_keys, readable)
    _check_remembers(key, name, actor, (group, "actor_memory"), spec)
    _check_written(key, name, actor, [(group, "action")])
    with _explained(key, name, spec):
        written = _tried(actor, _data(spec))
    for one in distribution.in_keys if not isinstance(made, ProbabilisticTensorDictSequential) else ():
        if one not in readable:
            columns = spec.outputs if spec.discrete else spec.outputs // 2
            _check_shape(key, name, repr(one), written.get(one), [spec.n_agents, columns])
    shape = list(spec.action_spec.shape)
    _check_shape(key, name, repr((group, "action")), written.get((group, "action")), shape)
    if isinstance(made, ProbabilisticTensorDictSequential):
        _check_distribution(key, name, made, spec)
    _check_actor_learns(key, name, actor, spec)
    parameters = [one for one in actor.out_keys if as_path(one)[-1] in ("loc", "scale", "logits")]
    _check_rows(key, name, actor, _data(spec), parameters)
    return actor


def own_critics(name: str, key: str, spec: NetworkSpec, number: int) -> list[TensorDictModule]:
    """The critics that a user's function makes, by one call each.

    Args:
        name: see :func:`own_actor`.
        key: see :func:`own_actor`.
        spec: that it is called with.
        number: of critics.

    Raises:
        ConfigError: if the function, or what it makes, does not fit.
    """
    group, value = spec.group, "action_value" if spec.discrete else "state_action_value"
    value_key: NestedKey = value if spec.of_team else (group, value)
    images: list[NestedKey] = [(group, image.name) for image in spec.images]
    memory: list[NestedKey] = [(group, "critic_memory")] if spec.model.memory_dim else []
    actions: list[NestedKey] = [] if spec.discrete else [(group, "action")]
    own: list[NestedKey] = [(group, "observation"), *memory, *actions, *images]
    readable = [*own, (group, "alive")]
    readable += [(str(other.group), one) for other in spec.others for one in ("observation", "action", "alive")]
    readable += [(str(other.group), image.name) for other in spec.others for image in other.images]
    shape = [1] if spec.of_team else [spec.n_agents, spec.outputs]
    critics = []
    for _ in range(number):
        critic = _made(name, key, spec)
        if not isinstance(critic, TensorDictModuleBase):
            data = _data(spec)
            with _explained(key, name, spec):
                out = critic(*(data.get(one) for one in own))
            _check_shape(key, name, "values", out, shape)
            critic = TensorDictModule(critic, in_keys=own, out_keys=[value_key])
        _check_read(key, name, critic.in_keys, readable)
        _check_remembers(key, name, critic, (group, "critic_memory"), spec)
        _check_written(key, name, critic, [value_key])
        for other in (str(other.group) for other in spec.others):
            if not {(other, "observation"), (other, "action")} <= {as_path(one) for one in critic.in_keys}:
                raise ConfigError(
                    f"{key} must make a TensorDictModule that reads observation and action of the group {other!r}, as "
                    f"algorithm.critic_sees=all_groups; {name!r} reads {', '.join(map(repr, critic.in_keys))}. Read "
                    "them, or set algorithm.critic_sees=group"
                )
        with _explained(key, name, spec):
            written = _tried(critic, _data(spec))
        _check_shape(key, name, repr(value_key), written.get(value_key), shape)
        _check_critic_learns(key, name, critic, spec, value_key)
        _check_rows(key, name, critic, _data(spec), [value_key])
        weights = {one for made in critics for one in made.parameters() if one.requires_grad}
        if not weights.isdisjoint(critic.parameters()):
            raise ConfigError(
                f"{key} must make another network at every call; {name!r} made one with the weights of the one before, "
                "and the smaller of equal values is no bound. Make the layers inside the function"
            )
        critics.append(critic)
    return critics


def check_apart(owners: dict[Tensor, str], network: nn.Module, what: str, key: str) -> None:
    """Raise ConfigError if a network is to train weights of another one: each would train a copy of them.

    Args:
        owners: of all weights so far, in words; those of the network are added.
        network: an actor or a critic.
        what: it is, in words.
        key: the config key that holds the function that made it.
    """
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in trained:
        if weight in owners:
            raise ConfigError(
                f"{key} must make networks with weights of their own; {what} has some of {owners[weight]}. Make the "
                "layers inside the function"
            )
    owners |= dict.fromkeys(trained, what)


def _made(name: str, key: str, spec: NetworkSpec) -> nn.Module:
    function: Callable[[NetworkSpec], Any] = find_object(name, key)
    with _explained(key, name, spec):
        made = function(spec)
    if not isinstance(made, nn.Module):
        raise ConfigError(
            f"{key} must be a function that makes an nn.Module; {name!r} made {type(made).__name__}. Return the "
            "network."
        )
    norm = next((one for one in made.modules() if isinstance(one, BatchNorm)), None)
    if norm is not None:
        raise ConfigError(
            f"{key} must make a network in which every row of the batch stands for itself; {name!r} has a "
            f"{type(norm).__name__}. Use LayerNorm"
        )
    return made


@contextmanager
def _explained(key: str, name: str, spec: NetworkSpec) -> Iterator[None]:
    """An exception in a user's network as one line."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        report = report_of(error)
        raise ConfigError(
            f"{key} must work with group {spec.group!r} ({spec.n_agents} agents, {spec.observation_dim} observation "
            f"features, {spec.action_dim} action features, {spec.outputs} outputs); {name!r} raised {report.what} "
            f"({report.where}). Fix it there.",
            traceback=report.traceback,
        ) from error


def _data(spec: NetworkSpec) -> TensorDict:
    """A batch with all that networks may read, always the same."""
    generator = torch.Generator().manual_seed(0)

    def agents(of: NetworkSpec | OtherGroup) -> TensorDict:
        lead = (ROWS, of.n_agents)
        entries = {
            "observation": torch.randn(*lead, of.observation_dim, generator=generator),
            "action": torch.rand(*lead, of.action_dim, generator=generator),
            "action_mask": torch.ones(*lead, of.action_dim, dtype=torch.bool),
            "alive": torch.ones(*lead, 1, dtype=torch.bool),
        }
        for image in of.images:
            whole = image.dtype == "uint8"
            numbers = torch.rand(*lead, *image.shape, generator=generator)
            entries[image.name] = (255 * numbers).to(torch.uint8) if whole else numbers
        return TensorDict(entries, lead)

    data = {spec.group: agents(spec)} | {str(other.group): agents(other) for other in spec.others}
    if spec.model.memory_dim:
        for name in ("actor_memory", "critic_memory"):
            memory = torch.randn(ROWS, spec.n_agents, spec.model.memory_dim, generator=generator)
            data[spec.group].set(name, memory)
    return TensorDict(data, [ROWS])


@torch.no_grad()
def _tried(module: nn.Module, data: TensorDictBase) -> TensorDictBase:
    with torch.random.fork_rng(devices=[]):
        return module(data.copy())


def _check_shape(key: str, name: str, what: str, out: object, rest: list[int]) -> None:
    got = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
    if got != [ROWS, *rest]:
        raise ConfigError(
            f"{key} must make a network with {what} of shape {[ROWS, *rest]} for {ROWS} rows; {name!r} gives {got}. "
            "Use spec.n_agents and spec.outputs."
        )


def _check_read(key: str, name: str, keys: Sequence[NestedKey], readable: Sequence[NestedKey]) -> None:
    for one in keys:
        if one not in readable and one != "_":
            raise ConfigError(
                f"{key} must make a module that reads some of {', '.join(map(repr, readable))}; {name!r} reads "
                f"{one!r}. Change its in_keys."
            )


def _check_remembers(
    key: str, name: str, module: TensorDictModuleBase, memory: tuple[str, str], spec: NetworkSpec
) -> None:
    """Raise ConfigError if there is a memory that a network does not read."""
    if spec.model.memory_dim and memory not in module.in_keys:
        raise ConfigError(
            f"{key} must make a module that reads {memory!r}, as model.memory={spec.model.memory}; {name!r} reads "
            f"{', '.join(map(repr, module.in_keys))}. Add it to in_keys, or set model.memory=none"
        )


def _check_written(key: str, name: str, module: TensorDictModuleBase, needed: Sequence[NestedKey]) -> None:
    for one in needed:
        if one not in module.out_keys:
            raise ConfigError(
                f"{key} must make a module that writes {one!r}; {name!r} writes "
                f"{', '.join(map(repr, module.out_keys)) or 'nothing'}. Change its out_keys."
            )


def _check_distribution(key: str, name: str, actor: ProbabilisticTensorDictSequential, spec: NetworkSpec) -> None:
    """Raise ConfigError if a user's distribution draws actions out of bounds, or has no log-probability per agent."""
    if spec.discrete:
        return
    with _explained(key, name, spec), set_exploration_type(ExplorationType.RANDOM), torch.no_grad():
        with torch.random.fork_rng(devices=[]):
            action = actor(_data(spec)).get((spec.group, "action"))
        log_prob = actor.get_dist(_data(spec)).log_prob(action)
    bounds: Any = spec.action_spec.space
    if bounds is not None and not bool(((action >= bounds.low) & (action <= bounds.high)).all()):
        raise ConfigError(
            f"{key} must make an actor whose actions are within the bounds of spec.action_spec; {name!r} draws "
            f"{action.min():.3g} to {action.max():.3g}. Use TanhNormal with distribution_kwargs low and high"
        )
    if list(log_prob.shape) not in ([ROWS, spec.n_agents], [ROWS, spec.n_agents, 1]):
        raise ConfigError(
            f"{key} must make an actor with one log-probability per agent, of shape {[ROWS, spec.n_agents]} for {ROWS} "
            f"rows; that of {name!r} has {list(log_prob.shape)}. Use TanhNormal or Independent(...)"
        )


def _check_actor_learns(key: str, name: str, actor: ProbabilisticTensorDictSequential, spec: NetworkSpec) -> None:
    """Raise ConfigError if no gradient goes from actions (if discrete, their log-probabilities) to the parameters."""
    with _explained(key, name, spec), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        distribution = actor.get_dist(_data(spec))
        if spec.discrete:
            what, drawn = "logits", distribution.log_prob(distribution.sample())
        else:
            what = "actions"
            try:
                drawn, _ = rsample_and_log_prob(distribution)
            except NotImplementedError:  # it has no rsample
                drawn = distribution.sample()
    if not _has_gradient(drawn, actor.parameters()):
        how = "" if spec.discrete else " a distribution with rsample,"
        raise ConfigError(
            f"{key} must make an actor with a gradient from its {what} to its parameters; that of {name!r} has none. "
            f"Use{how} parameters that require gradients, and no detach() or no_grad()"
        )


def _check_critic_learns(key: str, name: str, critic: nn.Module, spec: NetworkSpec, value_key: NestedKey) -> None:
    """Raise ConfigError if no gradient goes from values to the parameters, and to continuous actions."""
    data = _data(spec)
    action = data.get((spec.group, "action")).requires_grad_()
    with _explained(key, name, spec), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        value = critic(data).get(value_key)
    needed = {"its parameters": critic.parameters()} | ({} if spec.discrete else {"the actions": [action]})
    for what, tensors in needed.items():
        if not _has_gradient(value, tensors):
            raise ConfigError(
                f"{key} must make a critic with a gradient from its values to {what}; that of {name!r} has none. Use "
                "parameters that require gradients, actions as they are, and no detach() or no_grad()"
            )


def _has_gradient(value: Tensor, tensors: Iterable[Tensor]) -> bool:
    """Whether a gradient of ``value`` reaches any of ``tensors``."""
    trained = [one for one in tensors if one.requires_grad]
    if not trained or not value.requires_grad:
        return False
    found = torch.autograd.grad(value.sum(), trained, allow_unused=True, retain_graph=True)
    return any(one is not None for one in found)


def _check_rows(key: str, name: str, module: nn.Module, data: TensorDictBase, outputs: Sequence[NestedKey]) -> None:
    """Raise ConfigError if the outputs of a row depend on the other rows."""
    modes = {one: one.training for one in module.modules()}
    module.eval()
    together, alone = _tried(module, data), _tried(module, cast(TensorDictBase, data[:1]))
    for one, trains in modes.items():
        one.training = trains
    for output in outputs:
        if not torch.allclose(together.get(output)[:1], alone.get(output), rtol=1e-3, atol=1e-4):
            raise ConfigError(
                f"{key} must make a network in which every row of the batch stands for itself; {name!r} gives the "
                f"first of {ROWS} rows other values than the same row alone. Mix agents (dimension -2), not rows."
            )
