"""One run of BenchMARL, described by a JSON file: python -I benchmarl/run.py JOB.json FOLDER.

``against_benchmarl``, ``inside_benchmarl`` and ``vmas_suite`` run this script with the Python of BenchMARL's
environment, without masac; an algorithm of masac is imported from the job's ``checkout``. The script writes to FOLDER
an actor-FRAMES.pt at the end, and result.json. The clock starts when the first batch has been collected, and pauses
while an actor is written.

With ``seconds`` in the job the run ends after the first iteration that reaches them. The clock then starts with the
first batch, which is long with some settings, and actors are also written before the first update (as of 0 frames) and
every ``every_seconds``.
"""

from __future__ import annotations

import json
import math
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from benchmarl.algorithms import IddpgConfig, IppoConfig, IsacConfig, MaddpgConfig, MappoConfig, MasacConfig
from benchmarl.environments import VmasTask
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from tensordict import TensorDict, TensorDictBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

GROUP = "agents"

CONFIGS = {
    "isac": IsacConfig,
    "masac": MasacConfig,
    "iddpg": IddpgConfig,
    "maddpg": MaddpgConfig,
    "ippo": IppoConfig,
    "mappo": MappoConfig,
}


class TimeIsUpError(Exception):
    """The run has had its seconds."""


class TimedExperiment(Experiment):
    """A BenchMARL experiment with a clock and with as many updates as masac.

    Args:
        job: the settings. Updates begin after ``warmup_frames`` (BenchMARL begins while actions are still random).
        folder: where actors are written.
    """

    def __init__(self, job: dict[str, Any], folder: Path) -> None:
        self.job = job
        self.folder = folder
        self.updates = 0
        self.started: float | None = None
        self.seconds = self.paused = 0.0
        self.actors: list[dict[str, Any]] = []
        super().__init__(**experiment_arguments(job, folder))

    def _collection_loop(self) -> None:
        if "seconds" in self.job:
            self.started = time.perf_counter()
        super()._collection_loop()

    def _on_batch_collected(self, batch: TensorDictBase) -> None:
        if self.started is None:
            self.started = time.perf_counter()
        self.observed = batch[GROUP, "observation"].flatten(0, 1)[:64].clone()
        if "seconds" in self.job and not self.actors:
            self._write_actor(frames=0)
        super()._on_batch_collected(batch)

    def _optimizer_loop(self, group: str) -> TensorDictBase:
        if self.total_frames <= self.job["warmup_frames"]:
            return TensorDict({}, [])
        self.updates += 1
        return super()._optimizer_loop(group)

    def _on_train_end(self, training_td: TensorDictBase, group: str) -> None:
        super()._on_train_end(training_td, group)
        assert self.started is not None
        now = time.perf_counter()
        last, self.seconds = self.seconds, now - self.started - self.paused
        time_is_up = self.seconds >= self.job.get("seconds", math.inf)
        if time_is_up or self.total_frames >= self.job["frames"] or self._is_due(last):
            self._write_actor(frames=self.total_frames)
        self.paused += time.perf_counter() - now
        if time_is_up:
            raise TimeIsUpError

    def _is_due(self, last: float) -> bool:
        """Whether an actor is written after this iteration; at the one before the clock showed ``last``."""
        every = self.job.get("every_seconds", math.inf)
        return self.seconds // every > last // every

    @torch.no_grad()
    def _write_actor(self, *, frames: int) -> None:
        """Write the actor's layers, and its actions without noise in a few states."""
        state = TensorDict(
            {GROUP: TensorDict({"observation": self.observed}, self.observed.shape[:2])}, self.observed.shape[:1]
        )
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            action = self.policy(state)[GROUP, "action"]
        space = self.action_spec[GROUP, "action"].space
        network = self.group_policies[GROUP]
        while not hasattr(network, "mlp"):
            network = network[0]  # behind it are the distribution and the noise
        params = network.mlp.params.flatten_keys(".")
        name = f"actor-{frames}.pt"
        tensors = {
            **{f"layer.{key}": value.detach().clone() for key, value in params.items()},
            "low": space.low.clone(),
            "high": space.high.clone(),
            "observation": self.observed,
            "action": action,
        }
        torch.save(tensors, self.folder / name)
        self.actors.append({"file": name, "frames": frames, "seconds": self.seconds})


def experiment_arguments(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """BenchMARL's configs for a job: its defaults, except for the job's settings."""
    task = VmasTask[job["task"].upper()].get_from_yaml()
    task.config = job["task_kwargs"]
    algorithm = algorithm_config(job["algorithm"], job.get("checkout"))
    algorithm.share_param_critic = job["share_critic"]
    for name in ("num_qvalue_nets", "loss_function", "alpha_init"):
        if hasattr(algorithm, name):  # those of Soft Actor-Critic, and some of DDPG's
            setattr(algorithm, name, job[name])
    for name, value in job.get("algorithm_fields", {}).items():
        setattr(algorithm, name, value)
    models = []
    for _ in range(2):
        model = MlpConfig.get_from_yaml()
        model.num_cells = job["hidden"]
        model.activation_class = getattr(torch.nn, job["activation"])
        models.append(model)
    config = ExperimentConfig.get_from_yaml()
    settings = {
        "gamma": job["gamma"],
        "lr": job["lr"],
        "adam_eps": job["adam_eps"],
        "clip_grad_norm": True,
        "clip_grad_val": job["max_grad_norm"],
        "polyak_tau": job["tau"],
        "max_n_frames": job["frames"],
        "exploration_anneal_frames": job.get("anneal_frames"),
        "on_policy_collected_frames_per_batch": job["frames_per_batch"],
        "on_policy_n_envs_per_worker": job["num_envs"],
        "on_policy_n_minibatch_iters": job["updates_per_batch"],
        "on_policy_minibatch_size": job["batch_size"],
        "off_policy_collected_frames_per_batch": job["frames_per_batch"],
        "off_policy_n_envs_per_worker": job["num_envs"],
        "off_policy_n_optimizer_steps": job["updates_per_batch"],
        "off_policy_train_batch_size": job["batch_size"],
        "off_policy_memory_size": job["buffer_size"],
        "off_policy_init_random_frames": job["warmup_frames"],
        "evaluation": False,
        "render": False,
        "loggers": [],
        "create_json": False,
        "save_folder": str(folder),
    }
    for name, value in settings.items():
        setattr(config, name, value)
    return {
        "task": task,
        "algorithm_config": algorithm,
        "model_config": models[0],
        "critic_model_config": models[1],
        "seed": job["seed"],
        "config": config,
    }


def algorithm_config(name: str, checkout: str | None) -> Any:
    """The config of BenchMARL's algorithm of this name, or of masac's from a checkout of masac."""
    if checkout is None:
        return CONFIGS[name].get_from_yaml()
    sys.path.insert(0, checkout)
    from masac.integrations import benchmarl

    return benchmarl.CONFIGS[name].get_from_yaml()


def main() -> None:
    """Run the job."""
    job, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    if "threads" in job:
        torch.set_num_threads(job["threads"])
    experiment = TimedExperiment(job, folder)
    entropy = getattr(experiment.losses[GROUP], "target_entropy", None)  # of Soft Actor-Critic
    with suppress(TimeIsUpError):
        experiment.run()
    packages = ("benchmarl", "torch", "torchrl", "tensordict", "vmas")
    result = {
        "seconds": experiment.seconds,
        "frames": experiment.total_frames,
        "updates": experiment.updates,
        "actors": experiment.actors,
        "target_entropy": None if entropy is None else float(entropy),
        "action_dim": experiment.action_spec[GROUP, "action"].shape[-1],
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in packages},
    }
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
