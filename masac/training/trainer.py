"""The training loop."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from rich.console import Console
from tensordict import TensorDictBase
from torch import Tensor

from masac.algorithm import make_actor, make_loss
from masac.checks import ConfigError, RunFailedError
from masac.envs.vmas import make_vmas_env
from masac.groups import GroupSpec, read_groups
from masac.training.collection import make_collector
from masac.training.config import ExperimentConfig
from masac.training.episodes import EpisodeTracker, Evaluation, evaluate
from masac.training.learner import Learner
from masac.training.normalization import RunningNormalizer
from masac.training.plots import plot_learning_curve
from masac.training.policy import Policy
from masac.training.progress import ProgressDisplay
from masac.training.ranks import current_rank, seed_everything
from masac.training.replay import Replay
from masac.training.run_files import RunFiles
from masac.training.signals_to_stop import stop_on_signals

LOGGED = ("loss/qvalue", "loss/actor", "loss/alpha", "alpha", "entropy")


class Trainer:
    """Trains one group of agents in vectorised environments.

    Args:
        config: the run.
        run_dir: the folder for what it writes; it must not hold a run yet.
        console: where to print.
    """

    def __init__(self, config: ExperimentConfig, run_dir: Path, *, console: Console | None = None) -> None:
        self.config = config
        self.rank = current_rank()
        self.console = console or Console()
        training, device = config.training, resolve_device(config.training.device)
        seed = self.rank.seed(config.seed)
        seed_everything(seed)

        env = make_vmas_env(config.task, num_envs=config.task.num_envs, seed=seed, device=device)
        self.group = only_group(read_groups(env), config.task.scenario)
        actor = make_actor(self.group, config.algorithm, config.model)
        loss = make_loss(actor, self.group, config.algorithm, config.model)
        loss.to(device)  # the actor's parameters are the loss's
        normalizer = (
            RunningNormalizer(self.group.observation_dim).to(device) if training.normalize_observations else None
        )
        self.policy = Policy(actor, self.group, normalizer)
        self.learner = Learner(loss, training, tau=config.algorithm.tau)
        self.replay = Replay(self.group, size=training.buffer_size, batch_size=training.batch_size, device=device)

        frames_per_iteration = config.task.num_envs * training.steps_per_iteration
        iterations = math.ceil(training.total_frames / frames_per_iteration)
        self.warmup_frames = math.ceil(training.warmup_frames / frames_per_iteration) * frames_per_iteration
        self.total_frames = iterations * frames_per_iteration
        self.collector = make_collector(
            env,
            self.policy,
            frames_per_iteration=frames_per_iteration,
            total_frames=self.total_frames,
            random_frames=self.warmup_frames,
        )
        self.episodes = EpisodeTracker(config.task.num_envs, self.group.n_agents, self.group.name)
        self.evaluation_env = make_vmas_env(
            config.task, num_envs=config.evaluation.episodes, seed=config.evaluation.seed, device=device
        )
        self.frames = 0
        self.next_evaluation = config.evaluation.every_frames or math.inf
        self.files = RunFiles(run_dir, writes=self.rank.writes)
        self.files.write_config(config)

    def run(self) -> dict[str, object]:
        """Train to the end, or until somebody asks to stop; write the files; return the summary."""
        try:
            seconds, interrupted = self._train()
        except Exception:
            self.files.write_policy(self.policy, self.config)  # what was learned is not lost
            raise
        return self._finish(seconds, interrupted=interrupted)

    def _train(self) -> tuple[float, bool]:
        """The loop. Returns how long it took in seconds, and whether somebody asked to stop."""
        started = time.perf_counter()
        last_evaluation: float | None = None
        with self.files.open_metrics(self._columns()) as metrics, self._display() as display, stop_on_signals() as stop:
            for collected in self.collector:
                self._observe(collected)
                self.replay.extend(collected)
                logged = [self.learner.update(self._prepare(self.replay.sample())) for _ in range(self._updates_due())]
                evaluation = self._evaluate().summary() if self._evaluation_due() else {}
                row = self._row(time.perf_counter() - started, logged, evaluation)
                metrics.write(row)
                last_evaluation = evaluation.get("return_mean", last_evaluation)
                display.show(row, evaluation=last_evaluation)
                self._check_finite(row)
                if stop.requested:
                    break
        return time.perf_counter() - started, stop.requested

    def _observe(self, collected: TensorDictBase) -> None:
        self.frames += collected.numel()
        self.learner.set_progress(self.frames / self.total_frames)
        self.episodes.observe(collected)
        if self.policy.normalizer is not None:
            mask = collected.get((self.group.name, "mask"), None)
            self.policy.normalizer.observe(
                collected[self.group.observation_key], None if mask is None else mask.unsqueeze(-1)
            )

    def _updates_due(self) -> int:
        if self.frames < self.warmup_frames:
            return 0
        due = (self.frames - self.warmup_frames) * self.config.training.updates_per_frame
        return int(due) - self.learner.updates

    def _prepare(self, batch: TensorDictBase) -> TensorDictBase:
        """Normalize observations and scale rewards, where that is switched on."""
        batch = self.policy.normalize(batch)
        scale = self.config.training.reward_scale
        if scale != 1.0:
            key = ("next", self.group.name, "reward")
            key = key if batch.get(key, None) is not None else ("next", "reward")
            batch.set(key, batch[key] * scale)
        return batch

    def _evaluation_due(self) -> bool:
        if not self.rank.writes or self.frames < self.next_evaluation:
            return False
        every = self.config.evaluation.every_frames
        self.next_evaluation = (self.frames // every + 1) * every
        return True

    def _evaluate(self) -> Evaluation:
        config = self.config
        return evaluate(self.policy, self.evaluation_env, seed=config.evaluation.seed, success=config.task.success)

    def _columns(self) -> list[str]:
        success = ["eval/success_rate"] if self.config.task.success else []
        clipped = ["grad_norm/actor", "grad_norm/qvalue"] if self.config.training.max_grad_norm else []
        return [
            *("frames", "updates", "wall_time_s", "train/return_mean"),
            *("eval/return_mean", "eval/return_std", "eval/episode_length_mean", *success),
            *LOGGED,
            *clipped,
        ]

    def _row(
        self, wall_time_s: float, logged: list[dict[str, Tensor]], evaluation: dict[str, float]
    ) -> dict[str, float | int | None]:
        means = {
            name: torch.stack([one[name] for one in logged]).mean().item() for name in (logged[0] if logged else ())
        }
        row = {
            "frames": self.frames,
            "updates": self.learner.updates,
            "wall_time_s": round(wall_time_s, 3),
            "train/return_mean": self.episodes.return_mean,
            **{f"eval/{name}": value for name, value in evaluation.items()},
            **means,
        }
        return {name: row.get(name) for name in self._columns()}

    def _check_finite(self, row: dict[str, float | int | None]) -> None:
        for name in LOGGED:
            value = row[name]
            if value is not None and not math.isfinite(value):
                raise RunFailedError(
                    f"{name} of group {self.group.name!r} must be finite; got {value} after {self.learner.updates} "
                    f"updates ({self.frames} frames). The last policy is in {self.files.run_dir}. Check the "
                    "environment's rewards and observations, lower training.critic_lr and training.actor_lr, or set "
                    "training.max_grad_norm=10"
                )

    def _display(self) -> ProgressDisplay:
        config = self.config
        title = f"{config.task.name} · {config.algorithm.name} · seed {config.seed}"
        return ProgressDisplay(config.logging, title=title, total_frames=self.total_frames, console=self.console)

    def _finish(self, wall_time_s: float, *, interrupted: bool) -> dict[str, object]:
        if not self.rank.writes:
            return {}
        config = self.config
        self.files.write_policy(self.policy, config)
        evaluation = self._evaluate().summary()
        summary: dict[str, object] = {
            "task": f"{config.task.suite}/{config.task.name}",
            "algorithm": config.algorithm.name,
            "seed": config.seed,
            **{f"eval_{name}": value for name, value in evaluation.items()},
            "eval_episodes": config.evaluation.episodes,
            "frames": self.frames,
            "updates": self.learner.updates,
            "wall_time_s": round(wall_time_s, 3),
            "frames_per_second": round(self.frames / wall_time_s, 1),
            "interrupted": interrupted,
        }
        self.files.write_summary(summary)
        run_dir = self.files.run_dir
        title = f"{summary['task']} · {config.algorithm.name} · seed {config.seed}"
        plot_learning_curve(run_dir / "metrics.csv", run_dir / "learning_curve.png", title=title)
        self.collector.shutdown()
        return summary


def resolve_device(device: str) -> str:
    """The device for ``auto``: CUDA where there is one."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def only_group(groups: list[GroupSpec], scenario: str) -> GroupSpec:
    """The one group of an environment.

    Raises:
        ConfigError: if there are several.
    """
    if len(groups) != 1:
        sizes = ", ".join(f"{group.name} ({group.n_agents})" for group in groups)
        raise ConfigError(
            f"task.scenario must have one group of agents (several need a loss that masac does not have yet); "
            f"got {scenario!r} with {sizes}. Change it with task.scenario=..."
        )
    return groups[0]
