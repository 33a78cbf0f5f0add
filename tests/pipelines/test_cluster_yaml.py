"""ray_cluster.yaml is one that Ray accepts, and it stays closed to strangers."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "ray_cluster.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def check(config: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_ray_accepts_it(config):
    prepared = check(config)
    assert set(prepared["available_node_types"]) == {"head", "cpu_preprocess", "gpu_train"}


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ((), "max_worker", 3),
        ((), "head_node_type", "haed"),
        (("available_node_types", "gpu_train"), "min_worker", 1),
        (("docker",), "img", "x"),
        (("auth",), "ssh_key", "x"),
    ],
)
def test_ray_refuses_a_slip(config, where, key, value):
    """The check can fail: these are the mistakes it is there for."""
    place = config
    for name in where:
        place = place[name]
    place[key] = value
    with pytest.raises(Exception, match=r".+"):
        check(config)


def test_nothing_listens_to_strangers(config):
    start = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["provider"]["use_internal_ips"] is True
    assert "0.0.0.0" not in FILE.read_text()


def test_the_token_is_a_file_that_only_its_owner_reads(config):
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    gpu = config["available_node_types"]["gpu_train"]["worker_setup_commands"]
    for commands in (config["head_setup_commands"], config["worker_setup_commands"], gpu):
        assert commands[0] == "chmod 600 ~/.ray/auth_token"
    assert "RAY_AUTH_TOKEN=" not in FILE.read_text()


def test_every_node_is_private_by_default(config):
    for kind in config["available_node_types"].values():
        node: Mapping[str, Any] = kind["node_config"]
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"])
        assert node["IamInstanceProfile"]["Name"] != "ray-autoscaler-v1", "Ray's own profile may do everything"


def test_nodes_that_nothing_needs_are_not_started(config):
    workers = {k: v for k, v in config["available_node_types"].items() if k != config["head_node_type"]}
    assert {kind["min_workers"] for kind in workers.values()} == {0}
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}


def test_workers_are_spot_and_the_head_is_not(config):
    spot = {
        name: kind["node_config"].get("InstanceMarketOptions") for name, kind in config["available_node_types"].items()
    }
    assert spot == {"head": None, "cpu_preprocess": {"MarketType": "spot"}, "gpu_train": {"MarketType": "spot"}}


def test_all_nodes_run_the_pinned_ray(config):
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert config["docker"]["image"] == f"rayproject/ray:{pinned[1]}-py311"
