"""Runs of BenchMARL in its own virtual environment, evaluated by masac's code."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.benchmarl.actor import read_benchmarl_policy
from benchmarks.masac_runs import ONE_AT_A_TIME, wait_for
from masac.groups import read_groups
from masac.training.config import ExperimentConfig
from masac.training.evaluator import Evaluator
from masac.training.policies.policy import Policy

_evaluators: dict[str, Evaluator] = {}

Run = dict[str, Any]


def run_benchmarl(job: dict[str, Any], config: ExperimentConfig, python: Path, folder: Path) -> Run:
    """Run a job with ``benchmarl/run.py`` and evaluate its actors.

    Args:
        job: see ``benchmarl_job``.
        config: masac's config, which defines the evaluation.
        python: the Python of BenchMARL's environment.
        folder: an empty folder for the run's files.

    Raises:
        RuntimeError: if the run fails or its target entropy differs from masac's.
    """
    job_file, out = folder / "job.json", folder / "run"
    job_file.write_text(json.dumps(job))
    out.mkdir()
    script = Path(__file__).resolve().with_name("run.py")
    start([str(python), "-I", str(script), str(job_file), str(out)], folder / "log")
    result = json.loads((out / "result.json").read_text())
    if result["target_entropy"] not in (None, -result["action_dim"]):
        raise RuntimeError(f"BenchMARL's target entropy must be masac's; got {result['target_entropy']}.")
    evaluations = []
    for actor in result["actors"]:
        with ONE_AT_A_TIME:
            groups = read_groups(_evaluator(config).env)
        policy = read_benchmarl_policy(out / actor["file"], job["activation"], groups)
        evaluations.append({"frames": actor["frames"], "seconds": actor["seconds"], **evaluate(policy, config)})
    return {
        "seconds": result["seconds"],
        "frames": result["frames"],
        "updates": result["updates"],
        "evaluations": evaluations,
        "settings": job,
        "versions": result["versions"],
        "threads": result["threads"],
    }


def evaluate(policy: Policy, config: ExperimentConfig) -> dict[str, float | None]:
    """The mean return per agent and the success rate on the config's evaluation episodes."""
    with ONE_AT_A_TIME:
        evaluation = _evaluator(config).evaluate(policy)
    return {
        "return": evaluation.episode_returns(list(evaluation.returns)).mean().item(),
        "success": None if evaluation.successes is None else evaluation.successes.double().mean().item(),
    }


def _evaluator(config: ExperimentConfig) -> Evaluator:
    """An evaluator whose episodes are the same for all libraries, algorithms and seeds."""
    evaluation = replace(config.evaluation, stochastic=False)
    task = replace(config.task, num_envs=1)  # of the training, which the episodes do not depend on
    key = repr((task, evaluation.episodes, evaluation.seed))
    if key not in _evaluators:
        _evaluators[key] = Evaluator(replace(config, evaluation=evaluation), device="cpu")
    return _evaluators[key]


def start(command: list[str], log: Path) -> None:
    """Run a process to its end.

    Raises:
        RuntimeError: if it fails, with the end of its output.
    """
    with log.open("w") as file:
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        child = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, text=True, env=environment)
        wait_for(child)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} failed:\n{log.read_text()[-3000:]}")
