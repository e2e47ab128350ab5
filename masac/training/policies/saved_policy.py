"""Trained policies on disk, as tensors and JSON, which load without running code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from masac.algorithm import make_actor, make_memory
from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.errors import ConfigError
from masac.groups import GroupSpec, read_groups
from masac.networks.memory import GroupMemory
from masac.process.working_directory import look_in_working_directory
from masac.training.checkpointing.checkpoints import FOLDER, best_of, found_in, newest_of
from masac.training.config import ExperimentConfig
from masac.training.policies.misfit import misfit
from masac.training.policies.normalization import RunningNormalizer
from masac.training.policies.opponent_names import read_opponents
from masac.training.policies.opponents import FrozenOpponent, ScriptedOpponent
from masac.training.policies.policy import Policy
from masac.training.policies.policy_files import PolicyFile, read_policy_file, write_policy_file
from masac.training.policies.self_play import SelfPlayOpponent


@dataclass(frozen=True, kw_only=True)
class SavedPolicy:
    """A policy from disk.

    Args:
        policy: in evaluation mode, on the CPU.
        config: of the run that trained it.
        frames: environment frames that it was trained with.
        file: that it was read from.
    """

    policy: Policy
    config: ExperimentConfig
    frames: int
    file: Path

    @property
    def groups(self) -> tuple[GroupSpec, ...]:
        """All groups of its environment."""
        return self.policy.groups


def load_policy(run_dir: str | Path, *, checkpoint: str | Path = "last") -> Policy:
    """The policy of a run, ready for ``env.rollout(steps, policy, break_when_any_done=False)``.

    It acts without noise, except under ``torchrl.envs.utils.set_exploration_type(ExplorationType.RANDOM)``. Its
    parameters do not require gradients, so rollouts have none; ``policy.requires_grad_()`` enables them. Your own
    environment is also searched for in the working directory. With ``model.memory`` states must have memories: the
    environments of :func:`masac.load_env` carry them, and so do ``policy.begin`` and ``policy.carry`` in other loops.

    Args:
        run_dir: the run's folder.
        checkpoint: ``"last"``, ``"best"`` (by evaluation return), the name of one of the run's checkpoints, or the
            path of a policy file or checkpoint folder.

    Returns:
        A TensorDictModule that writes ``(group, "action")`` for every group, and ``(group, "discrete_action")`` where
        actions are hybrid, in evaluation mode, on the CPU.

    Raises:
        ConfigError: if there is no such policy, or it is damaged.
    """
    look_in_working_directory()
    return read_policy(find_policy(run_dir, checkpoint=checkpoint)).policy.requires_grad_(False)


def split_run(text: str) -> tuple[Path, str]:
    """The folder and the checkpoint of ``RUN_DIR[@checkpoint]``; ``"last"`` if it names none."""
    folder, at, checkpoint = text.rpartition("@")
    if not at or Path(text).is_dir():
        return Path(text), "last"
    return Path(folder), checkpoint


def find_policy(run_dir: str | Path, *, checkpoint: str | Path = "last") -> Path:
    """The file of a run's policy; see :func:`load_policy`."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise ConfigError(f"a run must be a folder that masac train wrote; {str(run_dir)!r} is not a folder.")
    if checkpoint not in ("last", "best"):
        path = next(
            (one for one in (Path(checkpoint), run_dir / FOLDER / checkpoint) if one.exists()), Path(checkpoint)
        )
        path = path / "policy.pt" if path.is_dir() else path
        if not path.is_file():
            raise ConfigError(f"checkpoint must be last, best or a path; there is no file {str(path)!r}.")
        return path
    found = best_of(run_dir) if checkpoint == "best" else newest_of(run_dir)
    path = run_dir / "policy.pt" if found is None else found.folder / "policy.pt"
    if not path.is_file() or (checkpoint == "best" and found is None):
        rule = "a checkpoint with an evaluation" if checkpoint == "best" else "a policy.pt or a checkpoint"
        raise ConfigError(f"a run must have {rule} for its {checkpoint} policy; {str(run_dir)!r} has none.")
    return path


def save_policy(path: Path, policy: Policy, config: ExperimentConfig, *, frames: int) -> None:
    """Write a policy, with the policies of other runs that act in it."""
    tensors = {name: value.detach().cpu() for name, value in policy.state_dict().items()}
    groups = [
        {
            "name": group.name,
            "n_agents": group.n_agents,
            "learned": group.name in policy.actors,
            "actions": group.actions,
            "bounds": group.bounds,
        }
        for group in policy.groups
    ]
    about = {"groups": groups, "config": asdict(config), "frames": frames}
    opponents = {
        name: one.file for name, one in policy.opponents.items() if isinstance(one, FrozenOpponent) and one.file
    }
    write_policy_file(path, PolicyFile(path=path, tensors=tensors, about=about, opponents=opponents))


def read_policy(path: Path, *, task: TaskConfig | None = None) -> SavedPolicy:
    """The policy in a file that :func:`save_policy` wrote.

    Args:
        path: of the file.
        task: that it acts in, if not the one it was trained in: its groups must have the same observations and actions,
            and as many agents if the weights or the observations depend on them.

    Raises:
        ConfigError: if the file is damaged or not a policy, or does not fit the environment.
    """
    file = read_policy_file(path)
    config = file.config if task is None else replace(file.config, task=task)
    env = make_env(replace(config.task, num_workers=0), num_envs=1, seed=0)
    try:
        groups = read_groups(env)
    finally:
        env.close(raise_if_closed=False)
    learned = file.learned
    learning = [group for group in groups if group.name in learned]
    policy = make_policy(groups, learning, config, frozen=file.opponents)
    wrong = misfit(groups, learned, dict(policy.state_dict()), file.tensors)
    if wrong is not None:
        raise ConfigError(
            f"the policy in {str(path)!r} must fit the environment {config.task.suite}/{config.task.name}"
            f"{' as it is installed here' if task is None else ''}; {wrong}"
        )
    policy.load_state_dict(dict(file.tensors))
    return SavedPolicy(policy=policy.eval(), config=config, frames=int(file.about["frames"]), file=path)


def read_saved_config(path: Path) -> ExperimentConfig:
    """The config of the run that trained the policy in a file.

    Raises:
        ConfigError: if the file is damaged, not a policy, or from another version of masac.
    """
    return read_policy_file(path).config


def make_policy(
    groups: list[GroupSpec],
    learning: list[GroupSpec],
    config: ExperimentConfig,
    *,
    frozen: Mapping[str, PolicyFile] | None = None,
) -> Policy:
    """A new policy, with actors and (if enabled) normalizers for the learning groups, and opponents for others.

    Args:
        groups: of the environment.
        learning: those of them that learn.
        config: of the run.
        frozen: the policies of other runs that act for groups, from :func:`frozen_policies`; None to read them.

    Raises:
        ConfigError: for an opponent that does not exist or does not fit.
    """
    actors = {group.name: make_actor(group, config.algorithm, config.model) for group in learning}
    normalized = learning if config.training.normalize_observations else []
    normalizers = {group.name: RunningNormalizer(group.observation_dim) for group in normalized}
    policy = Policy(groups, actors, normalizers, memories=actor_memories(learning, config))
    names = read_opponents(config.training.opponents)
    frozen = frozen_policies(config) if frozen is None else frozen
    for group in groups:
        name = names.get(group.name)
        if name is not None and name.kind == "frozen":
            policy.opponents[group.name] = _frozen(group, frozen[group.name])
        elif name is not None and name.kind == "scripted":
            policy.opponents[group.name] = ScriptedOpponent(group, name.what)
        elif name is not None and name.kind == "self-play":
            policy.opponents[group.name] = _self_play(group, name.what, policy, config)
    return policy


def actor_memories(groups: Sequence[GroupSpec], config: ExperimentConfig) -> dict[str, GroupMemory]:
    """New memories of the actors of groups, by group; none without ``model.memory``."""
    made = {one.name: make_memory(one, config.model, share_params=config.algorithm.share_actor) for one in groups}
    return {name: memory for name, memory in made.items() if memory is not None}


def frozen_policies(config: ExperimentConfig, run_dir: Path | None = None) -> dict[str, PolicyFile]:
    """The policies of other runs that act for groups (``training.opponents.GROUP=frozen:...``), by group.

    Args:
        config: of the run.
        run_dir: of a run that is resumed, whose own files have them; None for a new one.
    """
    names = {
        group: one.what for group, one in read_opponents(config.training.opponents).items() if one.kind == "frozen"
    }
    for folder in found_in(run_dir / FOLDER) if run_dir is not None and names else ():
        with suppress(ConfigError):  # a damaged one; those before it have the same
            return dict(read_policy_file(folder / "policy.pt").opponents)
    found = {}
    for group, name in names.items():
        folder, checkpoint = split_run(name)
        try:
            found[group] = read_policy_file(find_policy(folder, checkpoint=checkpoint))
        except ConfigError as error:
            raise ConfigError(f"training.opponents.{group} must be frozen:RUN_DIR of a run: {error}") from None
    return found


def _frozen(group: GroupSpec, file: PolicyFile) -> FrozenOpponent:
    """The opponent of a group from another run: its group of the same name, or else its only one that learned."""
    trained, learned = file.config, file.learned
    plays = group.name if group.name in learned or len(learned) > 1 else next(iter(learned), group.name)
    key = f"training.opponents.{group.name}"
    if plays not in learned:
        raise ConfigError(
            f"{key} must be a run that trained the group {plays!r}, or one group only; {file.path} trained "
            f"{', '.join(learned)}."
        )
    played = replace(group, name=plays)
    normalizers = {plays: RunningNormalizer(group.observation_dim)} if trained.training.normalize_observations else {}
    actors = {plays: make_actor(played, trained.algorithm, trained.model)}
    policy = Policy([played], actors, normalizers, memories=actor_memories([played], trained))
    wrong = misfit([played], {plays: learned[plays]}, dict(policy.state_dict()), file.tensors)
    if wrong is not None:
        raise ConfigError(f"{key} must be a run with the same observations and actions; {file.path} differs: {wrong}")
    policy.load_state_dict({name: file.tensors[name] for name in policy.state_dict()})
    as_other = "" if plays == group.name else f" as {plays}"
    described = f"frozen{as_other}: {file.path.parent}, {file.about['frames']:,} frames"
    return FrozenOpponent(group, policy.eval().requires_grad_(False), plays, described, file)


def _self_play(group: GroupSpec, source: str, policy: Policy, config: ExperimentConfig) -> SelfPlayOpponent:
    """The opponent of a group from the snapshots of a group that learns."""
    key, training = f"training.opponents.{group.name}", config.training
    other = next((one for one in policy.groups if one.name == source), None)
    if other is None or source not in policy.actors:
        raise ConfigError(
            f"{key} must be self-play:GROUP with a group that learns; got {source!r}. There are: "
            f"{', '.join(policy.actors)}."
        )
    spaces = [
        (one.observations, one.images, one.seen, one.actions, one.action_spec[0])  # pyright: ignore[reportIndexIssue]
        for one in (group, other)
    ]
    if spaces[0] != spaces[1]:
        got = " beside ".join(f"{seen}, {actions}" for seen, _, _, actions, _ in spaces)
        raise ConfigError(
            f"{key} must be snapshots of a group with the same observations and actions, bounds included; got {got}."
        )
    alike = config.algorithm.share_actor and not config.model.agent_ids
    if group.n_agents != other.n_agents and not alike:
        raise ConfigError(
            f"{key} must be snapshots of a group with as many agents, unless they share an actor without ids; got "
            f"{group.n_agents} and {other.n_agents}."
        )
    return SelfPlayOpponent(group, policy, source, size=training.self_play_pool, newest=training.self_play_newest)
