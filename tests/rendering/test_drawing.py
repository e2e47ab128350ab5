"""Pictures of environments, without a screen."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from masac.envs.vmas.drawing import GL_PACKAGES
from masac.errors import ConfigError, RunFailedError
from masac.rendering.drawing import can_draw, make_drawn_env
from tests.envs.egl import needs_egl
from tests.training.policies.common import NAVIGATION, pettingzoo, save_run

ROOT = Path(__file__).parents[2]


def pictures(task, steps):
    drawn = make_drawn_env(task, seed=0)
    data = drawn.env.reset()
    out = [drawn.draw()]
    for _ in range(steps):
        data = drawn.env.rand_step(data)["next"].exclude("reward")
        out.append(drawn.draw())
    drawn.env.close(raise_if_closed=False)
    for picture in out:
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[-1] == 3
    return out, drawn.fps


@needs_egl
def test_vmas_draws_agents_that_move():
    drawn, fps = pictures(NAVIGATION, steps=3)
    assert fps is None
    assert drawn[0].shape == (700, 700, 3)
    assert (drawn[0][0, 0] == 255).all()  # a white corner
    assert not np.array_equal(drawn[0], drawn[-1])


@needs_egl
def test_a_factory_of_ones_own_may_make_vmas():
    drawn, _ = pictures(pettingzoo(factory="tests.envs.factories:torch_batch", horizon=5), steps=1)
    assert drawn[0].shape == (700, 700, 3)


@needs_egl
def test_vmas_draws_text():
    # simple_reference's agents speak, which is written below them; fonts are loaded for that.
    drawn, _ = pictures(replace(NAVIGATION, scenario="simple_reference", kwargs={}), steps=1)
    assert len(drawn) == 2


@pytest.mark.slow
@needs_egl
def test_vmas_draws_densities():
    # With matplotlib.cm.get_cmap, which Matplotlib has no more.
    from matplotlib import cm

    there = "get_cmap" in vars(cm)
    drawn, _ = pictures(replace(NAVIGATION, scenario="sampling", kwargs={}), steps=1)
    assert len(drawn) == 2
    assert ("get_cmap" in vars(cm)) == there


@pytest.mark.parametrize("scenario", ["mpe2.simple_spread_v3", "pettingzoo.butterfly.knights_archers_zombies_v11"])
def test_pettingzoo_draws_agents_that_move(scenario):
    drawn, fps = pictures(pettingzoo(scenario), steps=3)
    assert fps is not None
    assert not np.array_equal(drawn[0], drawn[-1])


@pytest.mark.parametrize("factory", ["counting", "passing_on"])
def test_a_factory_that_takes_render_mode_gets_it(factory):
    drawn, fps = pictures(pettingzoo(factory=f"tests.envs.pictured:{factory}"), steps=2)
    assert fps == 4
    assert [int(picture[0, 0, 0]) for picture in drawn] == [0, 20, 40]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("tests.envs.pictured:never_drawn", "render_mode='rgb_array' to be drawn; got None. Give the function"),
        ("tests.envs.factories:differing", "render_mode='rgb_array' to be drawn; got None. Give the function"),
        ("tests.envs.factories:torch_env", "must make a PettingZoo environment or TorchRL's VmasEnv"),
    ],
)
def test_an_environment_that_cannot_be_drawn_says_what_to_do(factory, message):
    with pytest.raises(ConfigError, match=message):
        make_drawn_env(pettingzoo(factory=factory), seed=0)
    assert not can_draw(pettingzoo(factory=factory))


def test_environments_with_pictures_can_be_drawn():
    assert can_draw(NAVIGATION)
    assert can_draw(pettingzoo(factory="tests.envs.pictured:counting"))


def test_pictures_of_another_shape_are_named():
    with pytest.raises(RunFailedError, match=r"picture \[H, W, 3\] of bytes; got ndarray of shape \[31, 45, 1\]"):
        pictures(pettingzoo(factory="tests.envs.pictured:gray"), steps=0)


def run(code, *arguments, **variables):
    """In a process of its own without a display, as pyglet reads its options once."""
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


DRAW = """
from masac.rendering.drawing import make_drawn_env
from tests.training.policies.common import NAVIGATION
print(make_drawn_env(NAVIGATION, seed=0).draw().shape)
"""


@pytest.mark.slow
@needs_egl
def test_the_number_of_a_gpu_is_none_of_what_draws():
    done = run(DRAW, CUDA_VISIBLE_DEVICES="7")  # VMAS takes it for that of an EGL device
    assert done.stdout == "(700, 700, 3)\n", done.stderr


WITHOUT_LIBRARIES = """
import ctypes, sys
from masac.cli.main import main

load = ctypes.cdll.LoadLibrary
def refuse(name):
    if any(library in name for library in sys.argv[2].split()):
        raise OSError(f"{name}: cannot open shared object file")
    return load(name)
ctypes.cdll.LoadLibrary = refuse

from masac.envs.vmas.make import make_vmas_env
from tests.training.policies.common import NAVIGATION
make_vmas_env(NAVIGATION, num_envs=2, seed=0).rollout(3)
print("stepped")
main(["render", sys.argv[1], "-o", sys.argv[1] + "/x.gif"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere windows need no EGL")
def test_missing_libraries_stop_drawing_not_training(tmp_path):
    save_run(tmp_path, NAVIGATION)
    done = run(WITHOUT_LIBRARIES, str(tmp_path), "libEGL libGLU")
    assert done.stdout == "stepped\n"
    assert done.returncode == 1
    assert "not found: libEGL, libGLU." in done.stderr
    assert f"apt-get install {GL_PACKAGES}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "x.gif").exists()
