"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from tensordict import TensorDictBase
from torch import Tensor

from masac.algorithm import make_loss
from masac.checks import ConfigError, RunFailedError
from masac.envs.registry import make_env
from masac.groups import GroupSpec, read_groups
from masac.training import metrics
from masac.training.collection import batches, check_observations, make_collector
from masac.training.config import ExperimentConfig
from masac.training.episodes import EpisodeTracker, Evaluation, alive_agents, evaluate
from masac.training.learner import Learner
from masac.training.normalization import RunningNormalizer
from masac.training.plots import plot_learning_curve
from masac.training.progress import ProgressDisplay
from masac.training.ranks import current_rank, seed_everything
from masac.training.replay import Replay
from masac.training.run_files import RunFiles
from masac.training.saved_policy import make_policy
from masac.training.signals_to_stop import stop_on_signals


class Trainer:
    """Trains the groups of agents of vectorised environments; as a context it closes them and their processes.

    Args:
        config: the run.
        run_dir: the folder for what it writes; it must not hold a run yet.
        console: where to print.
    """

    def __init__(self, config: ExperimentConfig, run_dir: Path, *, console: Console | None = None) -> None:
        self.config = config
        self.rank = current_rank()
        self.console = console or Console()
        training, task, device = config.training, config.task, resolve_device(config.training.device)
        self.files = RunFiles(run_dir, writes=self.rank.writes)
        seed = self.rank.seed(config.seed)
        seed_everything(seed)

        env = make_env(task, num_envs=task.num_envs, seed=seed, device=device)
        self.groups = read_groups(env)
        self.learning = learning_groups(self.groups, training.learning_groups)
        self.policy = make_policy(self.groups, self.learning, config)
        loss = make_loss(self.policy.actors, self.learning, config.algorithm, config.model)
        loss.to(device)  # the actors' parameters are the loss's
        self.policy.to(device)
        self.learner = Learner(loss, training, tau=config.algorithm.tau)
        self.replay = Replay(self.learning, size=training.buffer_size, batch_size=training.batch_size, device=device)

        frames_per_iteration = task.num_envs * training.steps_per_iteration
        iterations = math.ceil(training.total_frames / frames_per_iteration)
        self.warmup_frames = math.ceil(training.warmup_frames / frames_per_iteration) * frames_per_iteration
        self.total_frames = iterations * frames_per_iteration
        self.collector = make_collector(
            env, self.policy, frames_per_iteration=frames_per_iteration, total_frames=self.total_frames
        )
        self.episodes = EpisodeTracker(task.num_envs, self.groups)
        episodes = config.evaluation.episodes
        shares = task.num_workers > 0 and episodes % task.num_workers == 0
        self.evaluation_env = make_env(
            task if shares else replace(task, num_workers=0),
            num_envs=episodes,
            seed=config.evaluation.seed,
            device=device,
            one_episode=True,
        )
        self.frames = 0
        self.next_evaluation = config.evaluation.every_frames or math.inf
        self.files.write_config(config)

    @property
    def learning_names(self) -> list[str]:
        """The names of the groups that learn."""
        return [group.name for group in self.learning]

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self) -> dict[str, object]:
        """Train to the end, or until somebody asks to stop; write the files; return the summary."""
        try:
            seconds, interrupted = self._train()
            return self._finish(seconds, interrupted=interrupted)
        except Exception:
            self.files.write_policy(self.policy, self.config, frames=self.frames)  # what was learned is not lost
            raise

    def close(self) -> None:
        """Close the environments, and the processes they run in."""
        self.collector.shutdown()
        if not self.evaluation_env.is_closed:
            self.evaluation_env.close(raise_if_closed=False)

    def _train(self) -> tuple[float, bool]:
        """The loop. Returns how long it took in seconds, and whether somebody asked to stop."""
        started = time.perf_counter()
        last_evaluation: metrics.Row = {}
        self._warm_up()
        with self.files.open_metrics(self._columns()) as table, self._display() as display, stop_on_signals() as stop:
            for collected in batches(self.collector):
                self._observe(collected)
                self.replay.extend(collected)
                logged = [self.learner.update(self._prepare(self.replay.sample())) for _ in range(self._updates_due())]
                evaluation = self._evaluation() if self._evaluation_due() else {}
                last_evaluation = evaluation or last_evaluation
                row = self._row(time.perf_counter() - started, logged, evaluation)
                table.write(row)
                display.show(row, evaluation=last_evaluation)
                self._check_finite(row)
                if stop.requested:
                    break
        return time.perf_counter() - started, stop.requested

    def _observe(self, collected: TensorDictBase) -> None:
        if self.config.training.check_observations:
            check_observations(collected, self.groups, self.frames)
        self.frames += collected.numel()
        self._warm_up()
        self.learner.set_progress(self.frames / self.total_frames)
        self.episodes.observe(collected)
        for group in self.learning:
            if group.name in self.policy.normalizers:
                normalizer = self.policy.normalizers[group.name]
                assert isinstance(normalizer, RunningNormalizer)
                normalizer.observe(collected[group.observation_key], alive_agents(collected, group).unsqueeze(-1))

    def _warm_up(self) -> None:
        """Let all groups act at random until the warm-up is over."""
        self.policy.random_groups = self.policy.group_names if self.frames < self.warmup_frames else frozenset()

    def _updates_due(self) -> int:
        if self.frames < self.warmup_frames or not len(self.replay):
            return 0
        due = (self.frames - self.warmup_frames) * self.config.training.updates_per_frame
        return int(due) - self.learner.updates

    def _prepare(self, batch: TensorDictBase) -> TensorDictBase:
        """Normalize observations and scale rewards, where that is switched on."""
        batch = self.policy.normalize(batch)
        scale = self.config.training.reward_scale
        if scale != 1.0:
            for key in {("next", group.name, "reward") for group in self.learning} | {("next", "reward")}:
                reward = batch.get(key, None)
                if reward is not None:
                    batch.set(key, reward * scale)
        return batch

    def _evaluation_due(self) -> bool:
        if not self.rank.writes or self.frames < self.next_evaluation:
            return False
        every = self.config.evaluation.every_frames
        self.next_evaluation = (self.frames // every + 1) * every
        return True

    def _evaluation(self) -> metrics.Row:
        return metrics.evaluation_numbers(self.evaluate(), self.learning_names)

    def evaluate(self, *, random_groups: Collection[str] = ()) -> Evaluation:
        """Evaluate the policy without noise on the episodes of the config's evaluation seed.

        Args:
            random_groups: groups that act uniformly at random instead.
        """
        config, before = self.config, self.policy.random_groups
        self.policy.random_groups = frozenset(random_groups)
        try:
            return evaluate(self.policy, self.evaluation_env, seed=config.evaluation.seed, success=config.task.success)
        finally:
            self.policy.random_groups = before

    def _columns(self) -> list[str]:
        config = self.config
        clipped = config.training.max_grad_norm is not None
        return metrics.columns(
            self.groups, self.learning_names, success=config.task.success is not None, clipped=clipped
        )

    def _row(self, wall_time_s: float, logged: list[dict[str, Tensor]], evaluation: metrics.Row) -> metrics.Row:
        row: metrics.Row = {
            "frames": self.frames,
            "updates": self.learner.updates,
            "wall_time_s": round(wall_time_s, 3),
            **metrics.training_numbers(self.episodes, self.learning_names),
            **evaluation,
            **metrics.learning_numbers(logged),
        }
        return {name: row.get(name) for name in self._columns()}

    def _check_finite(self, row: metrics.Row) -> None:
        for group in self.learning:
            for name in metrics.LOGGED:
                value = row[f"{group.name}/{name}"]
                if value is not None and not math.isfinite(value):
                    raise RunFailedError(
                        f"{name} of group {group.name!r} must be finite; got {value} after {self.learner.updates} "
                        f"updates ({self.frames} frames). The last policy is in {self.files.run_dir}. Check the "
                        "environment's rewards and observations, lower training.critic_lr and training.actor_lr, or "
                        "set training.max_grad_norm=10"
                    )

    def _display(self) -> ProgressDisplay:
        config = self.config
        title = f"{config.task.name} · {config.algorithm.name} · seed {config.seed}"
        names = [group.name for group in self.groups]
        return ProgressDisplay(
            config.logging, title=title, total_frames=self.total_frames, groups=names, console=self.console
        )

    def _finish(self, wall_time_s: float, *, interrupted: bool) -> dict[str, object]:
        if not self.rank.writes:
            return {}
        config = self.config
        self.files.write_policy(self.policy, config, frames=self.frames)
        numbers = self._evaluation()
        summary: dict[str, object] = {
            "task": f"{config.task.suite}/{config.task.name}",
            "algorithm": config.algorithm.name,
            "seed": config.seed,
            **{name.replace("eval/", "eval_"): value for name, value in numbers.items() if name.startswith("eval/")},
            "groups": {group.name: metrics.of_group(numbers, group, "eval/") for group in self.groups},
            "eval_episodes": config.evaluation.episodes,
            "frames": self.frames,
            "updates": self.learner.updates,
            "wall_time_s": round(wall_time_s, 3),
            "frames_per_second": round(self.frames / wall_time_s, 1),
            "interrupted": interrupted,
        }
        self.files.write_summary(summary)
        plot_learning_curve(self.files.run_dir)
        return summary


def resolve_device(device: str) -> str:
    """The device for ``auto``: CUDA where there is one."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def learning_groups(groups: list[GroupSpec], names: tuple[str, ...] | None) -> list[GroupSpec]:
    """The groups that learn: those named, or all.

    Raises:
        ConfigError: for a name that no group has.
    """
    if names is None:
        return groups
    known = [group.name for group in groups]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"training.learning_groups must name groups of the task; got {name!r}. There are: {', '.join(known)}."
            )
    return [group for group in groups if group.name in names]
