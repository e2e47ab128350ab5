"""The training loop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from tensordict import TensorDictBase

from masac.envs.suites import suite_named
from masac.errors import ConfigError, RunFailedError
from masac.process.preparation import prepare_process
from masac.process.stop_signals import StopRequest, stop_on_signals
from masac.training.build import build
from masac.training.callbacks import Callback, Callbacks
from masac.training.checkpointing.start_from import loaded_actors, start_from
from masac.training.config import ExperimentConfig
from masac.training.distributed.iteration_report import Report, sync_report
from masac.training.distributed.ranks import OtherRankFailedError, RankLostError, current_rank
from masac.training.distributed.rollout import collect_synchronized
from masac.training.episodes import FinishedEpisode
from masac.training.evaluator import Evaluation
from masac.training.logging.metrics import Row, evaluation_numbers
from masac.training.logging.summary import summarize
from masac.training.logging.timers import Timers
from masac.training.own_parts import with_own_parts
from masac.training.policies.self_play import pools
from masac.training.result import RunResult
from masac.training.self_play_table import SelfPlayTable


class Trainer:
    """Trains the groups of agents of vectorised environments: ``result = Trainer(config).run()``.

    As a context manager it closes the environments at the end of the block; otherwise ``run`` closes them.

    Args:
        config: of the run; ``Trainer(ExperimentConfig())`` runs what ``masac train`` does.
        run_dir: the folder of the run's files; it must not hold a run yet, unless that one is resumed. None for that of
            the config, or else a new one below ``runs/``, named by task, algorithm, seed and time.
        env: a function that makes an environment, in place of the task's: a PettingZoo ``ParallelEnv``, or a TorchRL
            ``EnvBase`` (of batch size ``[num_envs]`` if the function has a parameter ``num_envs``, otherwise of none).
            ``task.num_envs`` and ``task.horizon`` of the config apply, and so does ``task.kwargs`` if the config names
            no other environment (``load_config("pettingzoo/custom")``).
        actor: a function from a :class:`NetworkSpec` to the actor of a group, in place of ``model.actor``.
        critic: a function from a :class:`NetworkSpec` to a critic of a group, in place of ``model.critic``.
        callbacks: called while the run trains, beside those of ``training.callbacks``.
        console: where to print.
        resumes: resume from the newest complete checkpoint in ``run_dir``; start from the beginning if there is none.

    Functions that can be imported are recorded in the run's config by name; the commands, ``load_policy`` and other
    processes find only those.

    Attributes:
        resumed_from: the checkpoint that the run was resumed from; None without one.
        start_lines: what a new run starts with (``training.init_from``), in words.
        stopped_by: the number of the signal that ended the run; None without one.
        ended_by: why a callback ended the run; empty if none did.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        run_dir: str | Path | None = None,
        *,
        env: Callable[..., Any] | None = None,
        actor: Callable[..., Any] | None = None,
        critic: Callable[..., Any] | None = None,
        callbacks: Sequence[Callback] = (),
        console: Console | None = None,
        resumes: bool = False,
    ) -> None:
        prepare_process()
        self.rank, self.resumes = current_rank(), resumes
        config = with_own_parts(config, env=env, actor=actor, critic=critic)
        folder = self.rank.broadcast(str(run_dir or config.run_dir or config.new_run_dir()))  # its name has the time
        self.config = config = replace(config, run_dir=folder)
        suite_named(config.task.suite).check_named(config.task)
        self.run_dir = Path(folder)
        self.console = console or Console(markup=False, quiet=not self.rank.is_main)
        self.parts = parts = build(
            config, self.run_dir, self.rank, resumes=resumes, console=self.console, tell=self._tell, warn=self._warn
        )
        self.env, self.groups, self.learning = parts.env, parts.groups, parts.learning
        self.collector, self.row_maker, self.replay = parts.collector, parts.row_maker, parts.replay
        self.batches = parts.batches
        self.policy, self.learner, self.evaluator = parts.policy, parts.learner, parts.evaluator
        self.episodes, self.rewards, self.schedule = parts.episodes, parts.rewards, parts.schedule
        self.state, self.checkpoints, self.checkpointer = parts.state, parts.checkpoints, parts.checkpointer
        self.update_round, self.files, self.log = parts.update_round, parts.files, parts.log
        self.threads, self.total_frames = parts.threads, parts.schedule.total_frames

        self.callbacks = self.state.callbacks = Callbacks(config.training, callbacks, self, warn=self._warn)
        self.resumed_from = self.checkpointer.resume() if resumes else None
        starts = config.training.init_from is not None and self.resumed_from is None
        self.start_lines = start_from(config, self.state, self.learning, example=parts.example) if starts else []
        self.loaded_actors = loaded_actors(config, self.learning)
        self.state.broadcast_initial_state()
        self.files.write_config(config)

        self.finished: list[FinishedEpisode] = []  # in this iteration, on this rank
        self.last_evaluation: Row = {}
        self.last_in_others: Row = {}  # the same evaluation in other tasks
        self.last_evaluation_frames: int | None = None
        if self.resumed_from is not None and self.rank.is_main:
            self.last_evaluation, self.last_in_others, self.last_evaluation_frames = self.log.evaluation_by(self.frames)
        # A signal that stops a run cuts its evaluation short.
        cut = self.last_evaluation_frames != self.frames and self.schedule.evaluation_due(self.frames)
        self._owes_evaluation = self.resumed_from is not None and cut
        self.failure: Exception | None = None  # raised once all ranks know of it
        self.stop = StopRequest()
        self.stopped_by: int | None = None
        self.ended_by = ""
        self.timers = Timers()
        self._entered = False

    @property
    def frames(self) -> int:
        """Environment frames collected so far, by all ranks."""
        return self.state.frames

    @property
    def learning_names(self) -> list[str]:
        """The names of the groups that learn."""
        return [group.name for group in self.learning]

    def __enter__(self) -> Trainer:
        self._entered = True
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the environments, and the processes they run in."""
        self.parts.close()

    def run(self) -> RunResult:
        """Train to the end, or until a signal (Ctrl-C, a notebook's stop button) asks to stop; write the files.

        Raises:
            RunFailedError: if the run cannot continue; its checkpoint and its policy are saved.
        """
        try:
            return self._run()
        finally:
            if not self._entered:
                self.close()

    def _run(self) -> RunResult:
        try:
            self._train()
        except (Exception, SystemExit) as error:
            self.checkpointer.save_after(error)
            if (known := self.files.explain(error, newest=self.checkpoints.newest)) is not None:
                raise known from error
            if self.frames and isinstance(error, ConfigError):  # the config worked so far
                raise RunFailedError(str(error), traceback=error.traceback) from error
            raise
        was_finished = self.resumed_from is not None and self.resumed_from.frames >= self.total_frames
        if self.stopped_by is None and (was_finished or not self.last_evaluation) and self.rank.is_main:
            self.files.complete_last_row(self.frames, self._evaluation())
            if self.failure is not None:
                raise self.failure
        return self._finish()

    def evaluate(self, *, random_groups: Collection[str] = ()) -> Evaluation:
        """Evaluate the policy on the episodes of the config's evaluation seed.

        Args:
            random_groups: groups that act uniformly at random instead.
        """
        assert self.evaluator is not None  # of rank 0
        return self.evaluator.evaluate(self.policy, random_groups=random_groups)

    def _train(self) -> None:
        """The loop: collect, store, sample and update, evaluate, log, checkpoint."""
        self.state.start_clock()
        self._warm_up()
        with (
            self.log.open(frames=self.frames, resumes=self.resumes, warn=self._warn),
            stop_on_signals(self._tell, ended_by_others=(RankLostError, OtherRankFailedError)) as self.stop,
        ):
            for collected in self.timers.each("collect", self._rollouts()):
                self._observe(collected)
                self._call("on_collect", collected)
                self.replay.extend(self.row_maker.rows(self.rewards.clipped(collected)))
                batches = self.batches.sample(self.update_round.due(rows=len(self.replay)))
                updates, failure = self.update_round.run(batches, self.stop, self.timers)
                self.failure = failure or self.failure or self.callbacks.on_update(updates)
                self.collector.updated(len(updates))
                evaluation = self._evaluation() if self._evaluation_due() else {}
                self._record_video()
                together = self._sync_report(evaluation)
                self.log.write(
                    self.state.counters,
                    rows=together.rows,
                    updates=updates,
                    evaluation=evaluation,
                    last_evaluation=self.last_evaluation,
                    logged=self.callbacks.take_logged(),
                    seconds=self.timers.take(),
                )
                if together.checkpoint:
                    self.log.flush()
                    self._checkpoint(evaluation)
                if together.failed or self.failure is not None:
                    raise self.failure or OtherRankFailedError()
                if together.stop or together.ended_by:
                    self.stopped_by, self.ended_by = together.stop or None, together.ended_by
                    return
            self.stopped_by = self.stop.number

    def _rollouts(self) -> Iterator[TensorDictBase]:
        """Batches ``[environments, steps]``; a checkpoint is written if one is interrupted or fails."""
        observed = self.groups if self.config.training.check_observations else ()
        try:
            while self.frames < self.total_frames:
                collected = collect_synchronized(
                    self.collector,
                    self.rank,
                    self.stop,
                    observed=observed,
                    learning=self.learning,
                    frames=self.frames,
                )
                if collected is None:
                    self.checkpointer.save_new_frames()
                    return
                yield collected
        except RankLostError:
            raise
        except (Exception, SystemExit):
            self.checkpointer.save_new_frames()
            raise

    def _observe(self, collected: TensorDictBase) -> None:
        """Update frames, episodes, and the statistics of rewards and observations."""
        self.state.frames += collected.numel() * self.rank.world_size
        self._warm_up()
        self.learner.set_progress(self.frames / self.total_frames)
        self.replay.set_progress(self.frames / self.total_frames)
        for follower in (self.episodes, self.rewards, self.row_maker):
            follower.restart(self.collector.restarted)
        self.finished = self.episodes.observe(collected)
        self.rewards.observe(self.rewards.clipped(collected), self.rank)
        self.policy.observe(collected, self.rank)
        if self.schedule.snapshot_due(self.frames):
            for pool in pools(self.policy).values():
                pool.add(self.frames)

    def _warm_up(self) -> None:
        """Let the groups with new weights act at random until the warm-up is over."""
        at_random = self.schedule.acts_at_random(self.frames)
        self.policy.random_groups = self.policy.explorers(self.loaded_actors) if at_random else frozenset()

    def _evaluation_due(self) -> bool:
        return self.rank.is_main and (self._owes_evaluation or self.schedule.evaluation_due(self.frames))

    def _evaluation(self) -> Row:
        """The numbers of an evaluation; empty if it was stopped or failed."""
        found, self.last_in_others = None, {}
        try:
            with self.timers("evaluate"), self.stop.cutting("this step of the evaluation"):
                assert self.evaluator is not None  # of rank 0
                past = [name for name in pools(self.policy) if name not in self.learning_names]
                found = self.evaluator.evaluate(self.policy, past=past, stop=self.stop)
                table = SelfPlayTable(self.run_dir, self.policy, self.evaluator)
                table.write(found, frames=self.frames, past=past, stop=self.stop)
                if self.parts.others is not None:
                    self.last_in_others = self.parts.others.evaluate(self.policy, stop=self.stop)
        except Exception as error:
            self.failure = self.failure or error
        if found is None:
            return {}
        self.last_evaluation = evaluation_numbers(found, self.learning_names)
        self.last_evaluation_frames, self._owes_evaluation = self.frames, False
        numbers = {**self.last_evaluation, **self.last_in_others}
        self._call("on_evaluate", numbers)
        return numbers

    def _record_video(self) -> None:
        """Write a video if one is due. It is no part of the run, which goes on if it fails."""
        videos = self.parts.videos
        if videos is None or self.stop.requested or not self.schedule.video_due(self.frames):
            return
        with self.timers("evaluate"), self.stop.cutting("this video"):
            videos.record(self.policy, self.frames, log=self.log.video, stop=self.stop)

    def _call(self, event: str, argument: object) -> None:
        """Call a method of all callbacks; what one raises ends the run once all ranks know of it."""
        self.failure = self.failure or self.callbacks.call(event, argument)

    def _sync_report(self, evaluation: Row) -> Report:
        """The reports of this iteration from all ranks, combined; ranks wait here while rank 0 evaluates."""
        ends = self.stop.requested or bool(self.callbacks.run.end_reason) or self.failure is not None
        report = Report(
            stop=self.stop.number or 0,
            ended_by=self.callbacks.run.end_reason,
            failed=self.failure is not None,
            checkpoint=self.rank.is_main and (ends or self.checkpointer.due(evaluation)),
            rows=len(self.replay),
            finished=self.finished,
            attributes=self.callbacks.run.take_set(),
        )
        together = sync_report(report, self.rank)
        self.episodes.add(together.finished)
        self.callbacks.run.follow(together.attributes)
        return together

    def _checkpoint(self, evaluation: Row) -> None:
        with self.timers("checkpoint"):
            state = self.checkpointer.save(evaluation)
            if self.config.checkpoint.reset_environments:
                self.state.begin_episodes(state)
        if self.rank.is_main:
            self._call("on_checkpoint", self.checkpoints.newest)
            self.log.add(self.callbacks.take_logged())  # the row was on the disk before the checkpoint

    def _finish(self) -> RunResult:
        """Write the policy, the summary and the learning curve."""
        # Stopped before the first rollout, there is nothing to keep.
        summary = self._write_results() if self.rank.is_main and self.frames else {}
        policy = deepcopy(self.policy).to("cpu").eval().requires_grad_(False)
        policy.random_groups = frozenset()
        policy.begin_episodes(None)
        for opponent in policy.opponents.values():
            opponent.to("cpu")
        result = RunResult(run_dir=self.run_dir, summary=summary, stopped_by=self.stopped_by, policy=policy)
        if summary and (failure := self.callbacks.call("on_end", result)) is not None:
            raise failure
        return result

    def _write_results(self) -> dict[str, object]:
        self.files.write_policy(self.policy, self.config, frames=self.frames)
        summary = summarize(
            self.config,
            self.groups,
            self.last_evaluation,
            self.last_in_others,
            evaluation_frames=self.last_evaluation_frames,
            counters=self.state.counters,
            interrupted=self.stopped_by is not None,
            ended_by=self.ended_by,
            threads=self.threads,
            checkpoint_bytes=self.checkpoints.bytes_on_disk(),
            first_success=self.files.first_success(self.config.evaluation.solved_at),
        )
        self.files.write_summary(summary)
        self.files.draw_learning_curve(self._warn)
        return summary

    def _warn(self, message: str) -> None:
        self._tell(f"warning: {message}")

    def _tell(self, message: str) -> None:
        self.console.print(message, highlight=False, soft_wrap=True)
