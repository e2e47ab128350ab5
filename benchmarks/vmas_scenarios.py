"""The scenarios of ``benchmarks.vmas_suite``, and what a run in them is.

They are VMAS's scenarios for a group that can be trained in 3 minutes, with BenchMARL's keywords and horizons (500
steps are 200 here, as an evaluation of 500 steps takes up to a minute). Left out:

- debug scenarios (asym_joint, circle_trajectory, diff_drive, drone, goal, het_mass, kinematic_bicycle, line_trajectory,
  pollock, vel_control, waterfall): tests of VMAS's physics; most have one agent or no task to learn.
- simple: one agent.
- football: episodes of 500 steps against a scripted team; its return says little before a policy scores.
- joint_passage: a step of 64 environments takes 170 ms, six times as long as one of joint_passage_size, which is a
  similar task.
- road_traffic: a step of 8 environments with its 20 agents takes seconds.

All actions are continuous, those that communicate too. Where groups play against each other, one side learns and the
other acts at random in training and evaluation: the return of two sides that both learn says nothing about either.

Frames are chosen so that a run of ``algorithm=isac`` takes at most about 3 minutes on one thread of a machine that does
nothing else, from the time of a step and 10 ms per update; they are fixed so that runs can be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CHOOSING, HELD_OUT = "choosing", "held out"
"""The halves: settings are chosen on the first one and reported on both."""

FEWEST_FRAMES = 1_000
"""Between evaluations of a trial with few frames: the first iteration must not have one."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What a run in a scenario is.

    Args:
        half: of the suite.
        agents: by group, those that learn.
        frames: of a run.
        evaluations: of a run, in equal distances, the last one at the end.
        horizon: steps of an episode.
        kwargs: of the scenario.
        opponents: groups that act at random.
    """

    half: str
    agents: Mapping[str, int]
    frames: int = 100_000
    evaluations: int = 10
    horizon: int = 100
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    opponents: Sequence[str] = ()

    def overrides(self, name: str, *, scale: float = 1.0) -> list[str]:
        """Arguments of ``masac train``, with the frames times ``scale``.

        Args:
            name: of the scenario.
            scale: of the frames.
        """
        frames = max(round(self.frames * scale), 1)
        words = [
            f"task.scenario={name}",
            f"task.horizon={self.horizon}",
            *(f"task.kwargs.{key}={_word(value)}" for key, value in self.kwargs.items()),
            f"training.total_frames={frames}",
            f"evaluation.every_frames={max(frames // self.evaluations, FEWEST_FRAMES)}",
        ]
        return [*words, f"training.learning_groups=[{','.join(self.agents)}]"] if self.opponents else words


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


SCENARIOS: dict[str, Scenario] = {
    # Settings are chosen on these.
    "balance": Scenario(
        half=CHOOSING,
        agents={"agents": 4},
        kwargs={"n_agents": 4, "random_package_pos_on_line": True, "package_mass": 5},
    ),
    "ball_passage": Scenario(
        half=CHOOSING,
        agents={"agents": 2},
        frames=50_000,
        evaluations=5,
        horizon=200,
        kwargs={"n_passages": 1, "fixed_passage": False, "random_start_angle": True},
    ),
    "ball_trajectory": Scenario(
        half=CHOOSING, agents={"agents": 2}, frames=60_000, evaluations=6, kwargs={"joints": True}
    ),
    "flocking": Scenario(
        half=CHOOSING, agents={"agents": 4}, kwargs={"n_agents": 4, "n_obstacles": 5, "collision_reward": -0.1}
    ),
    "give_way": Scenario(
        half=CHOOSING,
        agents={"agents": 2},
        frames=80_000,
        evaluations=8,
        kwargs={
            "mirror_passage": False,
            "observe_rel_pos": False,
            "done_on_completion": False,
            "final_reward": 0.01,
        },
    ),
    "joint_passage_size": Scenario(
        half=CHOOSING,
        agents={"agents": 2},
        evaluations=5,
        horizon=200,
        kwargs={
            "n_passages": 3,
            "fixed_passage": False,
            "random_start_angle": False,
            "random_goal_angle": False,
            "observe_joint_angle": False,
        },
    ),
    "navigation": Scenario(
        half=CHOOSING,
        agents={"agents": 3},
        kwargs={
            "n_agents": 3,
            "collisions": True,
            "agents_with_same_goal": 1,
            "split_goals": False,
            "observe_all_goals": False,
            "shared_rew": False,
            "lidar_range": 0.35,
            "agent_radius": 0.1,
        },
    ),
    "sampling": Scenario(
        half=CHOOSING,
        agents={"agents": 3},
        frames=50_000,
        evaluations=5,
        kwargs={
            "n_agents": 3,
            "shared_rew": False,
            "n_gaussians": 3,
            "lidar_range": 0.2,
            "cov": 0.05,
            "collisions": True,
            "spawn_same_pos": False,
        },
    ),
    "simple_adversary": Scenario(
        half=CHOOSING, agents={"agent": 2}, opponents=["adversary"], kwargs={"n_agents": 3, "n_adversaries": 1}
    ),
    "simple_speaker_listener": Scenario(half=CHOOSING, agents={"speaker": 1, "listener": 1}),
    "simple_spread": Scenario(half=CHOOSING, agents={"agents": 3}, kwargs={"n_agents": 3, "obs_agents": True}),
    "simple_tag": Scenario(
        half=CHOOSING,
        agents={"adversary": 3},
        opponents=["agent"],
        kwargs={
            "num_good_agents": 1,
            "num_adversaries": 3,
            "num_landmarks": 2,
            "shape_agent_rew": False,
            "shape_adversary_rew": False,
            "agents_share_rew": False,
            "adversaries_share_rew": True,
            "observe_same_team": True,
            "observe_pos": True,
            "observe_vel": True,
            "bound": 1.0,
            "respawn_at_catch": False,
        },
    ),
    "transport": Scenario(
        half=CHOOSING,
        agents={"agents": 4},
        kwargs={"n_agents": 4, "n_packages": 1, "package_width": 0.15, "package_length": 0.15, "package_mass": 50},
    ),
    # On these they are only reported.
    "buzz_wire": Scenario(
        half=HELD_OUT,
        agents={"agents": 2},
        frames=30_000,
        evaluations=5,
        kwargs={"random_start_angle": True, "collision_reward": -10},
    ),
    "discovery": Scenario(
        half=HELD_OUT,
        agents={"agents": 5},
        kwargs={
            "n_agents": 5,
            "n_targets": 7,
            "lidar_range": 0.35,
            "covering_range": 0.25,
            "agents_per_target": 2,
            "targets_respawn": True,
            "shared_reward": True,
        },
    ),
    "dispersion": Scenario(
        half=HELD_OUT,
        agents={"agents": 4},
        kwargs={"n_agents": 4, "n_food": 4, "share_reward": True, "food_radius": 0.02, "penalise_by_time": False},
    ),
    "dropout": Scenario(
        half=HELD_OUT,
        agents={"agents": 4},
        kwargs={"n_agents": 4, "energy_coeff": 0.02, "start_same_point": False},
    ),
    "multi_give_way": Scenario(
        half=HELD_OUT,
        agents={"agents": 4},
        frames=60_000,
        evaluations=5,
        horizon=200,
        kwargs={"agent_collision_penalty": -0.1},
    ),
    "passage": Scenario(
        half=HELD_OUT,
        agents={"agents": 5},
        frames=30_000,
        evaluations=3,
        horizon=200,
        kwargs={"n_passages": 1, "shared_reward": True},
    ),
    "reverse_transport": Scenario(
        half=HELD_OUT,
        agents={"agents": 4},
        kwargs={"n_agents": 4, "package_width": 0.6, "package_length": 0.6, "package_mass": 50},
    ),
    "simple_crypto": Scenario(half=HELD_OUT, agents={"alice": 1, "bob": 1}, opponents=["eve"], kwargs={"dim_c": 4}),
    "simple_push": Scenario(half=HELD_OUT, agents={"agent": 1}, opponents=["adversary"]),
    "simple_reference": Scenario(half=HELD_OUT, agents={"agents": 2}),
    "simple_world_comm": Scenario(
        half=HELD_OUT,
        agents={"lead_adversary": 1, "adversary": 3},
        opponents=["agent"],
        frames=60_000,
        evaluations=6,
        kwargs={"num_good_agents": 2, "num_adversaries": 4, "num_landmarks": 1, "num_food": 2, "num_forests": 2},
    ),
    "wheel": Scenario(
        half=HELD_OUT,
        agents={"agents": 4},
        kwargs={"n_agents": 4, "line_length": 1, "line_mass": 30, "desired_velocity": 0.05},
    ),
    "wind_flocking": Scenario(
        half=HELD_OUT,
        agents={"agents": 2},
        kwargs={
            "horizon": 100,
            "dist_shaping_factor": 1,
            "vel_shaping_factor": 1,
            "wind_shaping_factor": 1,
            "rot_shaping_factor": 0,
            "pos_shaping_factor": 0,
            "energy_shaping_factor": 0,
            "wind": 0,
            "cover_angle_tolerance": 1,
            "observe_rel_pos": True,
            "observe_rel_vel": True,
            "observe_pos": False,
            "desired_vel": 0.4,
        },
    ),
}
