"""What is refused, and where collectors are chosen."""

import importlib.util

import pytest
from hydra import compose, initialize_config_module

from masac.cli.presets import register_presets
from masac.cli.train_help import train_help
from masac.errors import ConfigError
from masac.training.collectors.config import CollectorConfig
from masac.training.collectors.ray_workers import check_cluster
from masac.training.config import read_config
from masac.training.trainer import Trainer
from tests.training.collectors.common import NAVIGATION, QUIET, experiment


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "threads"}, "collector.kind must be one of local, processes, ray; got 'threads'"),
        ({"kind": "ray", "num_workers": 0}, "collector.num_workers must be at least 1; got 0"),
        ({"num_workers": 2}, "collector.num_workers must be 1 with collector=local"),
        ({"kind": "ray", "max_lag": -1}, "collector.max_lag must be at least 0"),
        ({"kind": "ray", "push_every": 0}, "collector.push_every must be at least 1"),
        ({"kind": "ray", "max_restarts": -1}, "collector.max_restarts must be at least 0"),
        ({"kind": "processes", "address": "auto"}, "collector.address must be null with collector=processes"),
    ],
)
def test_values_that_cannot_be_meant_are_refused_by_name(fields, message):
    with pytest.raises(ConfigError, match=message):
        CollectorConfig(**fields)


def test_workers_that_do_not_divide_the_environments_are_refused():
    with pytest.raises(ConfigError, match=r"collector\.num_workers must divide task\.num_envs=4; got 3"):
        experiment(NAVIGATION, workers=3)


def test_the_command_line_chooses_a_collector():
    register_presets()
    words = ["task=pettingzoo/knights_archers_zombies", "collector=ray", "collector.num_workers=8"]
    with initialize_config_module("masac.conf", version_base="1.3"):
        config = read_config(compose("config", overrides=[*words, "collector.address=auto", "run_dir=r"]))
        default = read_config(compose("config", overrides=["run_dir=r"]))
    assert config.collector == CollectorConfig(kind="ray", num_workers=8, address="auto")
    assert default.collector == CollectorConfig()
    assert "collector.max_lag=1" in train_help()
    assert "collector=   local" in train_help()


def test_without_ray_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "masac.training.collectors.ray_workers.find_spec", lambda name: None if name == "ray" else found(name)
    )
    with pytest.raises(ConfigError, match=r'pip install "masac\[ray\]"'):
        Trainer(experiment(kind="ray"), tmp_path, console=QUIET)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("RPC error: InvalidAuthToken: Authentication token is missing", "asks for a token. Set RAY_AUTH_MODE=token"),
        ("Failed to connect to GCS", "none answers at '127.0.0.1:1'. Start one with ray start --head --port=1"),
    ],
)
def test_a_cluster_that_refuses_the_run_is_a_clear_error(monkeypatch, answer, message):
    pytest.importorskip("ray")
    monkeypatch.setattr("masac.training.collectors.ray_workers._fault", lambda address: answer)
    with pytest.raises(ConfigError, match=message):
        check_cluster("127.0.0.1:1")
