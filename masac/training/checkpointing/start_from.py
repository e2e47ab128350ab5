"""Starting a run with the policy of another one (``training.init_from``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from operator import attrgetter

from tensordict import TensorDictBase
from torch import Tensor

from masac.compat import load_state_tensors, state_tensors
from masac.errors import ConfigError
from masac.files.integrity import DamagedError
from masac.groups import GroupSpec
from masac.networks.config import ModelConfig
from masac.training.checkpointing.checkpoints import Checkpoint, read_checkpoint
from masac.training.checkpointing.replay_files import ReplayFiles
from masac.training.checkpointing.run_state import RunState
from masac.training.config import ExperimentConfig
from masac.training.policies.misfit import misfit, shape_misfit
from masac.training.policies.policy_files import read_policy_file
from masac.training.policies.saved_policy import find_policy, split_run
from masac.training.replay.sharded import AnyReplay, all_replays, as_tensors

CRITIC = (
    *("qvalue_network_params.", "target_qvalue_network_params.", "critic_memory_params."),
    *("target_critic_memory_params.", "log_alpha"),
)
"""The starts of the names, in a loss, of what belongs to the critic of a group."""

DEFINE_VALUES = (
    "algorithm.critic",
    "algorithm.critic_sees",
    "algorithm.reward_reduction",
    "training.normalize_rewards",
    "training.reward_scale",
    "training.clip_rewards",
)
"""The keys that say what a critic's value is, and in which unit."""

# Not model.choices_as: critics that take an action in and critics that have an output for each differ in their shapes.
_MODEL = [f"model.{one.name}" for one in fields(ModelConfig) if one.name != "choices_as"]
OF_ACTORS = (*(key for key in _MODEL if key not in ("model.critic", "model.critics")), "algorithm.share_actor")
"""The keys that say what an actor computes with its weights."""

_OF_ACTORS_ALONE = [f"model.{name}" for name in ("agent_ids", "log_std_min", "log_std_max", "actor", "actors")]
OF_CRITICS = tuple(key for key in _MODEL if key not in _OF_ACTORS_ALONE)
"""The keys that say what a critic computes with its weights."""

HORIZON = ("algorithm.gamma", "algorithm.terminated_reduction")
"""The keys that say how far a critic's value looks ahead."""


def loaded_actors(config: ExperimentConfig, learning: Sequence[GroupSpec]) -> frozenset[str]:
    """The groups whose actors start from another run, and so act in the warm-up."""
    if not config.training.loads("actor"):
        return frozenset()
    return frozenset(config.training.init_groups or (group.name for group in learning))


def start_from(
    config: ExperimentConfig, state: RunState, learning: Sequence[GroupSpec], *, example: TensorDictBase
) -> list[str]:
    """Load parts of another run on rank 0, and the replay buffer on all ranks; returns lines that say what was loaded.

    Args:
        config: of the new run; ``training.init_from`` is set.
        state: of the new run, changed in place.
        learning: its groups that learn.
        example: rows of its environment.

    Raises:
        ConfigError: if there is no such run, or it does not fit.
    """
    source = Source(config, learning) if state.rank.is_main else None
    lines = source.load(state) if source is not None else []
    if config.training.loads("buffer"):
        with all_replays(state.replay, state.rank) as replays:
            if source is not None:
                rows = source.load_buffer(replays, state.replay.one_row(example))
                lines[0] += f", {rows:,} rows of its buffer"
    return lines


class Source:
    """The run that another one starts from.

    Args:
        config: of the new run.
        learning: its groups that learn.
    """

    def __init__(self, config: ExperimentConfig, learning: Sequence[GroupSpec]) -> None:
        self.config, self.learning = config, learning
        name = str(config.training.init_from)
        folder, checkpoint = split_run(name)
        try:
            self.file = find_policy(folder, checkpoint=checkpoint)
        except ConfigError as error:
            raise ConfigError(f"training.init_from must be RUN_DIR or RUN_DIR@CHECKPOINT: {error}") from None
        content = read_policy_file(self.file)
        self.tensors, self.learned, self.frames = content.tensors, content.learned, content.about["frames"]
        self.trained = content.config
        self.groups = self._groups(name)
        self.checkpoint = self._checkpoint()
        self.state = {} if self.checkpoint is None else self._read(self.checkpoint)

    def load(self, state: RunState) -> list[str]:
        """Load all parts but the buffer; returns lines that say what was loaded."""
        training, parts, lines = self.config.training, [], []
        if any(map(training.loads, ("actor", "critic", "normalizer"))):
            self._check_normalizing()
        if training.loads("actor"):
            self._check_actor()
            self._load_policy(state, "actors", "memories")
            parts.append("actor")
        if training.loads("critic"):
            wrong = self._load_critic(state)
            if wrong is None:
                parts.append("critic")
                if (other := self._other(HORIZON)) is not None:
                    lines.append(f"the critics of {self.file.parent} learn another horizon from here on: {other}")
            elif training.init_parts is not None:
                raise ConfigError(
                    f"the critic of {self.file.parent} must fit this run; {wrong}. Leave critic out of "
                    "training.init_parts"
                )
            else:
                lines.append(f"the critics start new, those of {self.file.parent} do not fit: {wrong}")
        if training.loads("normalizer") and self.config.training.normalize_observations:
            self._load_policy(state, "normalizers")
            parts.append("normalizer")
        if training.loads("optimizer"):
            self._load_optimizer(state)
            parts.append("optimizer")
        what = f", {', '.join(self.groups)}: {', '.join(parts)}" if parts else ""
        return [f"starting from {self.file.parent} ({self.frames:,} frames){what}", *lines]

    def load_buffer(self, replays: Sequence[AnyReplay], example: TensorDictBase) -> int:
        """Fill the replay buffers of all ranks, as many as the other run had; returns the number of rows.

        Args:
            replays: the buffers.
            example: rows of this run.
        """
        segments = None if self.checkpoint is None else self.checkpoint.segments
        if self.checkpoint is None or not segments or not self.checkpoint.has_buffers_of(len(replays)):
            raise ConfigError(
                f"{self.file.parent} must have the replay buffers of {len(replays)} rank(s) for "
                "training.init_parts=[buffer]; it has none, or of another number. Leave buffer out"
            )
        if (other := self._other_bounds()) is not None:
            raise ConfigError(f"the replay buffer of {self.file.parent} must fit this run; {other}. Leave buffer out")
        here, there = (config.training.clip_rewards for config in (self.config, self.trained))
        if here != there:
            raise ConfigError(
                f"training.clip_rewards must be as in the run {self.file.parent}, whose rows have rewards that were "
                f"clipped or not; got {here}, there it is {there}. Leave buffer out"
            )
        here, there = (config.algorithm.gamma for config in (self.config, self.trained))
        if self.trained.training.n_step > 1 and here != there:
            raise ConfigError(
                f"algorithm.gamma must be as in the run {self.file.parent}, whose rows sum discounted rewards "
                f"(training.n_step={self.trained.training.n_step}); got {here}, there it is {there}. Leave buffer out"
            )
        files = ReplayFiles(self.checkpoint.folder.parent / "buffer")
        try:
            files.load_newest(segments, replays, like=as_tensors(example))
        except DamagedError as error:
            raise ConfigError(
                f"the replay buffer of {self.file.parent} must be complete; {error}. Leave buffer out of "
                "training.init_parts"
            ) from None
        except ValueError as error:
            raise ConfigError(f"the replay buffer of {self.file.parent} must fit this run; {error}") from None
        return sum(len(replay) for replay in replays)

    def _check_normalizing(self) -> None:
        """Raise ConfigError if networks would see other observations than those they were trained with."""
        here, there = (one.training.normalize_observations for one in (self.config, self.trained))
        if here != there:
            raise ConfigError(
                f"training.normalize_observations must be as in the run {self.file.parent}; got {here}, there it is "
                f"{there}. Change it with training.normalize_observations={str(there).lower()}"
            )

    def _load_policy(self, state: RunState, *kinds: str) -> None:
        own, starts = dict(state.policy.state_dict()), tuple(start for kind in kinds for start in self._starts(kind))
        expected = {name: value for name, value in own.items() if name.startswith(starts)}
        saved = {name: self.learned[name] for name in self.groups}
        wrong = misfit(self.learning, saved, expected, self.tensors)
        if wrong is not None:
            raise ConfigError(f"the policy of {self.file.parent} must fit this run; {wrong}")
        state.policy.load_state_dict({**own, **{name: self.tensors[name] for name in expected}})

    def _load_critic(self, state: RunState) -> str | None:
        """Load critics, targets, temperatures and reward scales, or return what stands in the way."""
        if not self.state:
            return "it has no checkpoint, only a policy"
        here, asked = self.config.algorithm, self.config.training.init_parts is not None
        if (other := self._other((*DEFINE_VALUES, *OF_CRITICS, *(() if asked else HORIZON)))) is not None:
            return other
        if (other := self._other_bounds()) is not None:
            return other
        own, scales = state_tensors(state.learner.loss), state.rewards.state()
        expected = {
            name: value
            for name, value in own.items()
            if name.startswith(tuple(f"{start}{part}" for start in self._starts("losses") for part in CRITIC))
            and not (here.fixed_alpha and name.rpartition(".")[2] in ("log_alpha", "log_alpha_discrete"))
        }
        found = {name.removeprefix("learner/loss/"): value for name, value in self.state.items()}
        wrong = shape_misfit(expected, found)
        if wrong is not None:
            _, group, parameter = wrong[0].split(".", 2)
            return f"group {group!r}, parameter {parameter}: {wrong[1]}"
        load_state_tensors(state.learner.loss, {**own, **{name: found[name] for name in expected}})
        of_rewards = {name.removeprefix("rewards/"): value for name, value in self.state.items()}
        starts = self._starts("spreads")
        state.rewards.set_state(
            {name: of_rewards.get(name, value) if name.startswith(starts) else value for name, value in scales.items()}
        )
        return None

    def _other(self, keys: Sequence[str]) -> str | None:
        """The first of these keys that has another value here than there, in words; None if there is none."""
        for key in keys:
            now, before = (attrgetter(key)(config) for config in (self.config, self.trained))
            if now != before:
                return f"{key} is {now}, there it was {before}"
        return None

    def _other_bounds(self) -> str | None:
        """The first loaded group whose actions have other bounds here than there, in words; None if there is none.

        Critics and rows of the buffer have actions as the environment takes them.
        """
        for group in self.learning:
            there = self.learned[group.name].get("bounds") if group.name in self.groups else None
            if there not in (None, group.bounds):
                return f"actions of group {group.name!r} are bounded by {group.bounds}, there by {there}"
        return None

    def _load_optimizer(self, state: RunState) -> None:
        loaded = [part for part in ("actor", "critic") if self.config.training.loads(part)]
        if len(loaded) < 2 or len(self.groups) < len(self.learning):
            raise ConfigError(
                "training.init_parts must have actor and critic of all groups with the optimizer, whose moments are "
                f"theirs; got {', '.join(self.config.training.init_parts or ())}. Leave optimizer out"
            )
        parameters = [one for group in state.learner.optimizer.param_groups for one in group["params"]]
        start = "learner/optimizer/"
        memory = {name.removeprefix("learner/"): one for name, one in self.state.items() if name.startswith(start)}
        moments = {name.split("/")[1]: one for name, one in memory.items() if name.endswith("/exp_avg")}
        wrong = shape_misfit({str(index): one for index, one in enumerate(parameters)}, moments)
        if wrong is not None:
            raise ConfigError(
                f"the optimizer of {self.file.parent} must fit this run; parameter {wrong[0]}: {wrong[1]}. Leave "
                "optimizer out of training.init_parts"
            )
        state.learner.set_state({**state.learner.state(), **memory})

    def _check_actor(self) -> None:
        """Raise ConfigError if an actor of the same shapes would compute something else."""
        for key in OF_ACTORS:
            here, there = (attrgetter(key)(config) for config in (self.config, self.trained))
            if here != there:
                raise ConfigError(
                    f"{key} must be as in the run {self.file.parent} that this one starts from; got {here}, there it "
                    f"is {there}. Change it with {key}=..."
                )

    def _starts(self, kind: str) -> tuple[str, ...]:
        """The starts of the names of tensors of the loaded groups."""
        return tuple(f"{kind}.{group}." for group in self.groups)

    def _groups(self, name: str) -> list[str]:
        """The groups that start from the run."""
        known = [group.name for group in self.learning]
        wanted = self.config.training.init_groups or known
        for group in wanted:
            if group not in known:
                raise ConfigError(
                    f"training.init_groups must name groups that learn; got {group!r}. There are: {', '.join(known)}."
                )
            if group not in self.learned:
                raise ConfigError(
                    f"training.init_from must be a run that trained the group {group!r}; {name} trained "
                    f"{', '.join(self.learned)}. Name groups with training.init_groups=[...]"
                )
        return list(wanted)

    def _checkpoint(self) -> Checkpoint | None:
        folder = self.file.parent
        try:
            return read_checkpoint(folder) if (folder / "checkpoint.json").exists() else None
        except DamagedError as error:
            raise ConfigError(
                f"training.init_from must be a complete checkpoint; {folder} is damaged: {error}"
            ) from None

    def _read(self, checkpoint: Checkpoint) -> Mapping[str, Tensor]:
        try:
            return checkpoint.tensors()
        except DamagedError as error:
            raise ConfigError(
                f"training.init_from must be a complete checkpoint; {checkpoint.folder} is damaged: {error}"
            ) from None
