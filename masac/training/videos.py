"""Videos of an evaluation episode, written while a run trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tensordict import TensorDictBase

from masac.process.stop_signals import StoppedBySignal, StopRequest
from masac.process.tracebacks import report_of
from masac.rendering.drawing import DrawnEnv, Picture, make_drawn_env
from masac.rendering.playback import Playback
from masac.rendering.video import DEFAULT_FPS, default_suffix, write_video
from masac.training.checkpointing.random_state import own_random_numbers
from masac.training.checkpointing.run_files import RunFiles
from masac.training.config import ExperimentConfig
from masac.training.evaluator import acting_alone, step_limit
from masac.training.policies.policy import Policy


class VideoRecorder:
    """Writes videos of one episode, which always begins in the same state.

    A run never fails for a video, and is the same without: the first failure is a warning and ends the recording.

    Args:
        config: of the run; the environment that is drawn is made here, on the CPU.
        files: of the run, among which the videos are.
        device: of the policy.
        warn: prints a warning.
    """

    def __init__(self, config: ExperimentConfig, files: RunFiles, *, device: str, warn: Callable[[str], None]) -> None:
        self.config, self.files, self.device, self._warn = config, files, device, warn
        self.drawn: DrawnEnv | None = None
        with self._failure_warned(), own_random_numbers(config.evaluation.seed):
            self.drawn = make_drawn_env(config.task, seed=config.evaluation.seed)

    def record(self, policy: Policy, frames: int, *, log: Callable[[Path, int], object], stop: StopRequest) -> None:
        """Write a video, unless recording has ended.

        Args:
            policy: acts, against its newest self where there is self-play.
            frames: so far.
            log: gets the file, and the frames.
            stop: ends the video between two steps, if a user asks for that.

        Raises:
            StoppedBySignal: if it was stopped; there is no file then.
        """
        if (drawn := self.drawn) is None:
            return
        seed = self.config.evaluation.seed
        file = self.files.video_file(frames, default_suffix())
        with self._failure_warned():
            with own_random_numbers(seed), acting_alone(policy, episodes=1, device=drawn.env.device):
                drawn.env.set_seed(seed)
                write_video(file, self._pictures(policy, drawn, stop), fps=drawn.fps or DEFAULT_FPS)
            log(file, frames)

    def close(self) -> None:
        """Close the environment."""
        if self.drawn is not None:
            self.drawn.env.close(raise_if_closed=False)
            self.drawn = None

    def _pictures(self, policy: Policy, drawn: DrawnEnv, stop: StopRequest) -> Iterator[Picture]:
        played = Playback(
            policy if self.device == "cpu" else _OnDevice(policy, self.device),
            policy.groups,
            drawn,
            max_steps=step_limit(self.config.task),
            stochastic=self.config.evaluation.stochastic,
        )
        for picture in played:
            if stop.number is not None:
                raise StoppedBySignal(stop.number)
            yield picture

    @contextmanager
    def _failure_warned(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of an environment, a graphics library, a disk, a logger
            report = report_of(error)
            every = self.config.evaluation.video_every
            self._warn(f"videos are off (evaluation.video_every={every}): {report.message or report}")
            self.close()


class _OnDevice:
    """A policy on another device than the environment, whose data are on the CPU."""

    def __init__(self, policy: Policy, device: str) -> None:
        self.policy, self.device = policy, device
        self.begin, self.carry = policy.begin, policy.carry

    def __call__(self, tensordict: TensorDictBase) -> TensorDictBase:
        return self.policy(tensordict.to(self.device)).to("cpu")
