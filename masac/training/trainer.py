"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path

from rich.console import Console
from tensordict import TensorDictBase
from torch import Tensor

from masac.algorithm import make_loss
from masac.errors import ConfigError, RunFailedError
from masac.files.atomic_write import disk_is_full
from masac.groups import read_groups
from masac.plotting.plots import plot_learning_curve
from masac.process.memory import check_buffer_fits
from masac.process.stop_signals import StopRequest, stop_on_signals
from masac.process.threads import choose_threads, set_threads, threads_there
from masac.training.checkpointing.checkpoints import Checkpoint, Checkpoints
from masac.training.checkpointing.random_state import seed_everything
from masac.training.checkpointing.resume import set_random_state_from
from masac.training.checkpointing.run_files import RunFiles
from masac.training.checkpointing.run_state import RunState
from masac.training.collectors.make import make_collector, make_environments
from masac.training.collectors.observations import check_observations
from masac.training.compiling import choose_mode, update_operations
from masac.training.config import ExperimentConfig, resolve_device
from masac.training.distributed.iteration_report import Report, together
from masac.training.distributed.rank_config import rank_config
from masac.training.distributed.ranks import OtherRankFailedError, RankLostError, current_rank
from masac.training.episodes import EpisodeTracker, FinishedEpisode, alive_agents
from masac.training.evaluator import Evaluation, Evaluator
from masac.training.learner import Learner, explain
from masac.training.logging import metrics
from masac.training.logging.loggers import Loggers, check_loggers
from masac.training.logging.progress import ProgressDisplay
from masac.training.logging.summary import summarize
from masac.training.logging.timers import Timers
from masac.training.policies.normalization import RunningNormalizer
from masac.training.policies.policy import learning_groups
from masac.training.policies.saved_policy import make_policy
from masac.training.replay.buffer import Replay
from masac.training.replay.sharded import whole_batch
from masac.training.reward_scaling import RewardScaling
from masac.training.schedule import Schedule
from masac.training.update import NonFiniteError

SAMPLED_AT_ONCE = 32
"""Batches; few enough that they take little memory beside the buffer."""


class Trainer:
    """Trains the groups of agents of vectorised environments; as a context it closes them and their processes.

    Args:
        config: the run.
        run_dir: the folder for what it writes; it must not hold a run yet, unless that one is resumed.
        console: where to print.
        resumes: go on from the newest whole checkpoint in ``run_dir``, or from the start if there is none.

    Attributes:
        stopped_by: the number of the signal that ended the run; None if none did.
    """

    def __init__(
        self, config: ExperimentConfig, run_dir: Path, *, console: Console | None = None, resumes: bool = False
    ) -> None:
        self.config = config
        self.rank = current_rank()
        self.console = console or Console(markup=False, quiet=not self.rank.is_main)
        check_loggers(config.logging.loggers)
        own = rank_config(config, self.rank)
        training, task, device = own.training, own.task, self.rank.device(resolve_device(config.training.device))
        self.files = RunFiles(run_dir, writes=self.rank.is_main, resumes=resumes)
        seed = self.rank.seed(config.seed)
        seed_everything(seed)

        self.env = make_environments(own, seed=seed, device=device)
        self.groups = read_groups(self.env)
        self.learning = learning_groups(self.groups, training.learning_groups)
        self.policy = make_policy(self.groups, self.learning, config)
        loss = make_loss(dict(self.policy.actors), self.learning, config.algorithm, config.model)  # pyright: ignore[reportArgumentType]
        loss.to(device)  # the actors' parameters are the loss's
        self.policy.to(device)
        self.schedule = Schedule(config)
        self.total_frames = self.schedule.total_frames
        updates = self.schedule.updates_by(self.total_frames)
        ranks_there = self.rank.local_world_size
        operations = update_operations(loss.group_losses, training.batch_size) if device == "cpu" else 0
        self.threads = choose_threads(training.threads, operations, sharing=ranks_there)
        set_threads(self.threads)
        mode, self.said_of_mode = choose_mode(training, loss.group_losses, updates=updates, device=device)
        self.learner = Learner(
            loss,
            training,
            tau=config.algorithm.tau,
            mode=mode,
            rank=self.rank,
            warn=self._warn,
            tell=self._tell,
        )
        self.replay = Replay(self.learning, size=training.buffer_size, batch_size=training.batch_size, device=device)
        self.bytes_per_row = self.replay.bytes_per_row(self.env.fake_tensordict())
        check_buffer_fits(training.buffer_size * (ranks_there if device == "cpu" else 1), self.bytes_per_row, device)
        self.episodes = EpisodeTracker(task.num_envs, self.groups)
        self.rewards = RewardScaling(
            self.learning,
            num_envs=task.num_envs,
            gamma=config.algorithm.gamma,
            scale=training.reward_scale,
            normalize=training.normalize_rewards,
            reduction=config.algorithm.reward_reduction,  # pyright: ignore[reportArgumentType]
        )
        self.checkpoints = Checkpoints(run_dir, keep=config.checkpoint.keep, with_buffer=config.checkpoint.buffer)

        parts = self.learner, self.policy, self.rewards, self.episodes, self.replay, self.checkpoints
        self.state = RunState(config, self.rank, *parts)

        self.frames = self.skipped_updates = self.refills = 0
        self.has_rows = False
        self.finished: list[FinishedEpisode] = []
        self.seconds_before = 0.0
        self.evaluator = Evaluator(config, device=device, say=self._tell) if self.rank.is_main else None
        self.collector = make_collector(own, self.env, self.policy, seed=seed, device=device, warn=self._warn)
        self.started = time.perf_counter()
        self.resumes = resumes
        self.resumed_from = self._resume() if resumes else None
        self.state.begin_alike()
        self.files.write_config(config)
        self.last_evaluation: metrics.Row = {}
        self.last_evaluation_frames: int | None = None
        self.last_checkpoint = (self.frames, time.perf_counter())
        self.failure: Exception | None = None
        self.stop = StopRequest()
        self.stopped_by: int | None = None
        self.timers = Timers()

    @property
    def learning_names(self) -> list[str]:
        """The names of the groups that learn."""
        return [group.name for group in self.learning]

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the environments, and the processes they run in."""
        self.collector.close()
        if self.evaluator is not None:
            self.evaluator.close()
        self.files.close()
        set_threads(threads_there())

    def run(self) -> dict[str, object]:
        """Train to the end, or until somebody asks to stop; write the files; return the summary."""
        try:
            self._train()
        except (Exception, SystemExit) as error:
            self._save_after(error)
            if (known := self.files.explain(error, newest=self.checkpoints.newest)) is not None:
                raise known from error
            if self.frames and isinstance(error, ConfigError):  # what held until now is no mistake in the config
                raise RunFailedError(str(error), traceback=error.traceback) from error
            raise
        if self.stopped_by is None and not self.last_evaluation and self.rank.is_main:
            self._evaluation()  # the run was resumed after its end
            if self.failure is not None:
                raise self.failure
        return self._finish()

    def _train(self) -> None:
        """The loop."""
        self.started = time.perf_counter()
        self._warm_up()
        void_from = self.frames + 1 if self.resumes else None
        with (
            self.files.open_metrics(self._columns(), frames=self.frames, warn=self._warn) as table,
            Loggers(self.config, self.files.run_dir, void_from=void_from, writes=self.rank.is_main) as loggers,
            self._display() as display,
            stop_on_signals(self._tell, ended_by_others=(RankLostError, OtherRankFailedError)) as self.stop,
        ):
            for collected in self.timers.each("collect", self._collected()):
                self._observe(collected)
                self.replay.extend(collected)
                updates = self._update()
                self.collector.updated(len(updates))
                evaluation = self._evaluation() if self._evaluation_due(self.frames) else {}
                agreed = self._agree(evaluation)
                row = self._row(updates, evaluation, rows=agreed.rows)
                table.write(row)
                loggers.log(row)
                display.show(row, evaluation=self.last_evaluation)
                if agreed.checkpoint:
                    table.flush()
                    self._checkpoint(evaluation)
                if agreed.failed:
                    raise self.failure or OtherRankFailedError()
                if agreed.stop:
                    self.stopped_by = agreed.stop
                    return
            self.stopped_by = self.stop.number

    # -- collect ------------------------------------------------------------------------------------------------------

    def _collected(self) -> Iterator[TensorDictBase]:
        """Batches ``[environments, steps]``. If an environment fails, what was learned so far is checkpointed."""
        try:
            while self.frames < self.total_frames:
                with self.stop.cutting("the steps at hand"):
                    collected = self.collector.collect()
                if self.stop.now:
                    self.rank.barrier(failed=True)
                    self._save_what_is_new()
                    return
                if self.config.training.check_observations:
                    check_observations(collected, self.groups, self.frames)
                self.rank.barrier()
                yield collected
        except RankLostError:
            raise
        except (Exception, SystemExit) as error:
            if not isinstance(error, OtherRankFailedError):
                self.rank.barrier(failed=True)
            self._save_what_is_new()
            raise

    def _observe(self, collected: TensorDictBase) -> None:
        self.frames += collected.numel() * self.rank.world_size
        self._warm_up()
        self.learner.set_progress(self.frames / self.total_frames)
        for follower in (self.episodes, self.rewards):
            follower.restart(self.collector.restarted)
        self.finished = self.episodes.observe(collected)
        self.rewards.observe(collected, self.rank)
        for group in self.learning:
            if group.name in self.policy.normalizers:
                normalizer = self.policy.normalizers[group.name]
                assert isinstance(normalizer, RunningNormalizer)
                seen, alive = collected[group.observation_key], alive_agents(collected, group).unsqueeze(-1)
                number, mean, m2 = normalizer.moments(seen, alive)
                for moments in self.rank.all_gather((number, mean.cpu(), m2.cpu())):
                    normalizer.merge(*moments)

    def _warm_up(self) -> None:
        """Let all groups act at random until the warm-up is over."""
        at_random = self.schedule.acts_at_random(self.frames)
        self.policy.random_groups = self.policy.group_names if at_random else frozenset()

    # -- update -------------------------------------------------------------------------------------------------------

    def _update(self) -> list[dict[str, Tensor]]:
        """Take the updates that are due; returns what they log."""
        logged: list[dict[str, Tensor]] = []
        alone = self.rank.world_size == 1  # else all of them must take the same updates
        for batch in self._batches(self._updates_due()):
            compiles = alone and not self.learner.updates
            with self.timers("update"):
                with self.stop.cutting("the first update") if compiles else nullcontext():
                    results = self.learner.step.compute(batch)
                if self.stop.now and alone:
                    break
                try:
                    logged.append(self.learner.apply(batch, results))  # whole, or not at all
                except NonFiniteError as error:
                    self.failure = self._not_finite(error)
            if self.failure is not None:
                break
        return logged

    def _batches(self, count: int) -> Iterator[TensorDictBase]:
        """So many batches to learn from."""
        for first in range(0, count, SAMPLED_AT_ONCE):
            with self.timers("sample"):
                rows = self._prepare(self.replay.sample(min(count - first, SAMPLED_AT_ONCE)))
            yield from rows.split(self.replay.batch_size)

    def _updates_due(self) -> int:
        if not self.has_rows:  # until every rank has: all of them take the same updates
            self.has_rows = not self.rank.any(not len(self.replay))
        if not self.has_rows:
            return 0
        return self.schedule.updates_due(self.frames, taken=self.learner.updates + self.skipped_updates)

    def _prepare(self, batch: TensorDictBase) -> TensorDictBase:
        """Normalize observations, if that is switched on, and scale rewards."""
        batch = self.policy.normalize(batch)
        self.rewards.rescale(batch)
        return batch

    def _not_finite(self, error: NonFiniteError) -> RunFailedError | None:
        """Count an update that was not applied; returns why the run is to end, if it is."""
        self.skipped_updates += 1
        training = self.config.training
        if training.on_nonfinite == "skip" and self.skipped_updates <= training.nonfinite_limit:
            return None
        error = NonFiniteError(error.terms, whole_batch(error.batch, self.rank))
        file = self.files.write_batch(error.batch)
        iteration = self.frames // self.schedule.frames_per_iteration
        where = f"update {self.learner.updates + 1} (iteration {iteration}, frame {self.frames})"
        return RunFailedError(explain(error, where=where, file=file, run_dir=self.files.run_dir))

    # -- evaluate -----------------------------------------------------------------------------------------------------

    def _evaluation_due(self, frames: int) -> bool:
        """Now and then and at the end."""
        if self.evaluator is None:
            return False
        return frames >= self.total_frames or self.evaluator.due(frames - self.schedule.frames_per_iteration, frames)

    def _evaluation(self) -> metrics.Row:
        """The numbers of an evaluation; none if it was stopped or failed."""
        assert self.evaluator is not None  # of rank 0
        found = None
        try:
            with self.timers("evaluate"), self.stop.cutting("this step of the evaluation"):
                found = self.evaluator.evaluate(self.policy, stop=self.stop)
        except Exception as error:  # to be raised when the others know
            self.failure = self.failure or error
        if found is None:
            return {}
        self.last_evaluation = metrics.evaluation_numbers(found, self.learning_names)
        self.last_evaluation_frames = self.frames
        return self.last_evaluation

    def evaluate(self, *, random_groups: Collection[str] = ()) -> Evaluation:
        """Evaluate the policy on the episodes of the config's evaluation seed.

        Args:
            random_groups: groups that act uniformly at random instead.
        """
        assert self.evaluator is not None  # of rank 0
        return self.evaluator.evaluate(self.policy, random_groups=random_groups)

    def _agree(self, evaluation: metrics.Row) -> Report:
        """What this iteration comes to in all ranks; the others wait here for rank 0 to have evaluated."""
        reports = self.rank.all_gather(
            Report(
                stop=self.stop.number or 0,
                failed=self.failure is not None,
                checkpoint=self._checkpoint_due(evaluation),
                rows=len(self.replay),
                finished=self.finished,
            )
        )
        for index, report in enumerate(reports):
            if index != self.rank.index:
                self.episodes.add(report.finished)
        return together(reports)

    # -- checkpoint ---------------------------------------------------------------------------------------------------

    def _checkpoint_due(self, evaluation: metrics.Row) -> bool:
        """Now and then, where an evaluation is the best so far or is to be the first, and whenever the run ends."""
        if not self.rank.is_main:
            return False
        training, (frames, when) = self.config.training, self.last_checkpoint
        frames_then = self.frames + self.schedule.frames_per_iteration
        return (
            self.stop.requested
            or self.failure is not None
            or self.frames >= self.total_frames
            or self.frames - frames >= training.checkpoint_frames
            or time.perf_counter() - when >= training.checkpoint_seconds
            or self._is_best(evaluation)
            or (self.checkpoints.newest is None and self._evaluation_due(frames_then))
        )

    def _is_best(self, evaluation: metrics.Row) -> bool:
        value = evaluation.get("eval/return_mean")
        return value is not None and value > self.checkpoints.best_return

    def _checkpoint(self, evaluation: metrics.Row) -> None:
        with self.timers("checkpoint"):
            state = self._save(evaluation)
            if self.config.checkpoint.reset_environments:
                self._restart(state)

    def _save_what_is_new(self) -> None:
        """Write a checkpoint of what no checkpoint has."""
        if self.frames > self.last_checkpoint[0]:
            self._save({})

    def _save_after(self, error: BaseException) -> None:
        """What was learned is not lost, whatever happened; several ranks do what they can before."""
        with suppress(Exception):  # what happened may happen again
            if self.rank.world_size == 1 and not disk_is_full(error):
                self._save_what_is_new()
            if self.frames:
                self.files.write_policy(self.policy, self.config, frames=self.frames)

    def _save(self, evaluation: metrics.Row) -> dict[str, Tensor]:
        """Write a checkpoint; returns the state in it."""
        state = self.state.save(
            {
                "frames": self.frames,
                "updates": self.learner.updates,
                "skipped": self.skipped_updates,
                "wall_time_s": self.wall_time_s,
                "eval_return": evaluation.get("eval/return_mean"),
            }
        )
        self.last_checkpoint = (self.frames, time.perf_counter())
        return state

    def _resume(self) -> Checkpoint | None:
        """Go on from the newest whole checkpoint, if there is one."""
        found = self.state.load(self._warn)
        if found is None:
            self.files.check_barely_begun()
            return None
        checkpoint, state = found
        self.frames, self.learner.updates = checkpoint.frames, checkpoint.updates
        self.skipped_updates, self.seconds_before = checkpoint.skipped, checkpoint.wall_time_s
        if checkpoint.segments is None:
            self.refills = self.schedule.fill_buffer_first(self.frames, checkpoint.updates + checkpoint.skipped)
        self._restart(state)
        if not (self.files.run_dir / "metrics.csv").is_file():
            self._warn("metrics.csv is missing; a new one begins here")
        return checkpoint

    def _restart(self, state: Mapping[str, Tensor]) -> None:
        """Begin new episodes, which depend on the frames so far and nothing else."""
        self.collector.reset(self.rank.seed(self.config.seed, self.frames))
        for follower in (self.episodes, self.rewards):
            follower.restart()
        if not set_random_state_from(state, self.rank):
            seed_everything(self.rank.seed(self.config.seed, self.frames))

    def _warn(self, message: str) -> None:
        self._tell(f"warning: {message}")

    def _tell(self, message: str) -> None:
        self.console.print(message, highlight=False, soft_wrap=True)

    # -- report -------------------------------------------------------------------------------------------------------

    @property
    def wall_time_s(self) -> float:
        """How long the run took so far, before it was resumed too."""
        return self.seconds_before + time.perf_counter() - self.started

    def _columns(self) -> list[str]:
        return metrics.columns(self.groups, self.learning_names, success=self.config.task.success is not None)

    def _row(self, updates: list[dict[str, Tensor]], evaluation: metrics.Row, *, rows: int) -> metrics.Row:
        row: metrics.Row = {
            "frames": self.frames,
            "updates": self.learner.updates,
            "updates_skipped": self.skipped_updates,
            "wall_time_s": round(self.wall_time_s, 3),
            "buffer/rows": rows,
            "buffer/fill": rows / self.config.training.buffer_size,
            **self.collector.numbers(),
            **metrics.training_numbers(self.episodes, self.learning_names),
            **evaluation,
            **metrics.learning_numbers(updates, skips=self.config.algorithm.skip_done_states != "off"),
            **({f"{name}/reward_factor": factor for name, factor in self.rewards.factors.items()} if updates else {}),
            **metrics.speed_numbers(
                *self.timers.take(), frames=self.schedule.frames_per_iteration, updates=len(updates)
            ),
        }
        return {name: row.get(name) for name in self._columns()}

    def _display(self) -> ProgressDisplay:
        config = self.config
        names = [group.name for group in self.groups]
        return ProgressDisplay(
            config.logging,
            done_frames=self.frames,
            total_frames=self.total_frames,
            groups=names,
            console=self.console,
        )

    def _finish(self) -> dict[str, object]:
        if not self.rank.is_main or not self.frames:  # stopped before anything was collected: nothing to keep
            return {}
        self.files.write_policy(self.policy, self.config, frames=self.frames)
        summary = summarize(
            self.config,
            self.groups,
            self.last_evaluation,
            evaluation_frames=self.last_evaluation_frames,
            frames=self.frames,
            updates=self.learner.updates,
            skipped=self.skipped_updates,
            wall_time_s=self.wall_time_s,
            interrupted=self.stopped_by is not None,
            threads=self.threads,
            checkpoint_bytes=self.checkpoints.bytes_on_disk(),
            first_success=self.files.first_success(self.config.evaluation.solved_at),
        )
        self.files.write_summary(summary)
        try:
            plot_learning_curve(self.files.run_dir)
        except (ConfigError, OSError) as error:  # a run that is done is not to fail for its picture
            self._warn(f"there is no learning curve: {error}")
        return summary
