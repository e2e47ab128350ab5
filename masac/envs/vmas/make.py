"""Makes the environments of a task of the vmas suite."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any, cast

from torchrl.envs import EnvBase
from vmas.scenarios import load
from vmas.simulator.scenario import BaseScenario

from masac.envs.config import TaskConfig
from masac.envs.environment_warnings import in_main_process, warn_of_ignored_seed, warn_of_unused_keywords
from masac.envs.unused_keywords import unused_keywords, watched
from masac.envs.vmas.environment import VmasVectorEnv
from masac.envs.vmas.names import close_names, vmas_scenarios
from masac.errors import ConfigError
from masac.named_objects import find_object
from masac.process.tracebacks import construction_error


def make_vmas_env(task: TaskConfig, *, num_envs: int, seed: int, device: str = "cpu", warns: bool = False) -> EnvBase:
    """A vectorised VMAS environment.

    Args:
        task: scenario, its keywords and the horizon.
        num_envs: environments stepped at once.
        seed: of everything random in it.
        device: where VMAS computes.
        warns: whether to warn of an ignored seed, which takes two resets, and of keywords that seem not to be used.

    Raises:
        ConfigError: for an unknown scenario or keyword.
    """
    scenario = _find_scenario(task.scenario or "")
    kwargs = watched(task.kwargs)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Scenario kwargs: .* passed but not used")
        try:
            env = VmasVectorEnv(
                scenario,
                horizon=cast(int, task.horizon),
                num_envs=num_envs,
                continuous_actions=task.continuous_actions,
                device=device,
                seed=seed,
                scenario_kwargs=kwargs,
                joint_resets=task.joint_resets,
            )
        except UserWarning as warning:
            if "passed but not used" not in str(warning):
                raise  # another warning, if warnings are errors
            made = scenario if isinstance(scenario, BaseScenario) else load(f"{scenario}.py").Scenario()
            raise unused_keywords(kwargs, f"the scenario {task.scenario!r}", _makers_of(type(made))) from None
        except (TypeError, AssertionError) as error:
            raise ConfigError(
                f"task.kwargs must fit the scenario {task.scenario!r}; got {dict(task.kwargs)}, for which it raised "
                f"{type(error).__name__}: {error}"
            ) from error
        except ConfigError:
            raise
        except Exception as error:
            raise construction_error(f"task.scenario={task.scenario}", error, dict(task.kwargs)) from error
    if warns and in_main_process():
        name = f"the scenario {task.scenario!r}"
        warn_of_unused_keywords(kwargs, name, _makers_of(type(env.vmas.scenario)))
        drawn = env.random_stream.state
        warn_of_ignored_seed(env, name)
        env.random_stream.state = drawn
    return env


def _makers_of(scenario: type[BaseScenario]) -> list[Callable[..., Any]]:
    """The methods that receive the keywords of a scenario, inherited ones too."""
    classes = [one for one in scenario.__mro__ if issubclass(one, BaseScenario) and one is not BaseScenario]
    names = ("make_world", "env_make_world")
    return [vars(one)[name] for one in classes for name in names if name in vars(one)]


def _find_scenario(name: str) -> str | BaseScenario:
    if ":" not in name:
        names = vmas_scenarios()
        if name not in names:
            raise ConfigError(f"task.scenario must be a VMAS scenario; got {name!r}. {close_names(name, names)}")
        return name
    scenario = find_object(name, "task.scenario", "Class")
    if not (inspect.isclass(scenario) and issubclass(scenario, BaseScenario)):
        raise ConfigError(f"task.scenario must name a subclass of vmas's BaseScenario; got {scenario!r}.")
    return scenario()
