"""What may be champion beside a better number: licences, one policy a name, and the same answers in a clean process."""

import getpass
import json
import socket
from dataclasses import replace

import pytest
import torch

from aign.framework.errors import UserError
from aign.inference.package import WEIGHTS, load_package, save_package
from aign.registry import clean_check, promotion
from aign.registry.clean_check import clean_refusal
from aign.registry.client import client_of
from aign.registry.comparison import compare
from aign.registry.evidence import record_measured
from aign.registry.models import Candidate, list_models, register, show
from aign.registry.promotion import promote, roll_back
from tests.registry.samples import CARD, add, frames, make_package, measured
from tests.registry.test_models import aliases


@pytest.fixture
def clean(monkeypatch):
    monkeypatch.setattr(promotion, "clean_refusal", clean_refusal)


def relicensed(package, folder, *licences):
    lifter, card = load_package(package)
    save_package(folder, lifter, replace(card, licences=licences))
    return folder


def test_a_clean_process_answers_alike_before_anyone_is_champion(clean, tracking, run_id, package):
    done = add(tracking, run_id, package, "lifting", measured(80))
    assert done.promoted, done.reason
    assert aliases(tracking) == {"champion": 1}


@pytest.mark.parametrize("how", ["another model", "crash"])
def test_what_answers_otherwise_elsewhere_stays_challenger(
    clean, tracking, run_id, package, tmp_path, monkeypatch, how
):
    sent = clean_check.download

    def fetched(*given):
        """What this process fetches is not what the other one loads."""
        folder = sent(*given)
        if how == "another model":
            other = make_package(tmp_path / "other", seed=1)
            (folder / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
        return folder

    monkeypatch.setattr(clean_check, "download", fetched)
    if how == "crash":
        monkeypatch.setattr(clean_check.sys, "executable", "/bin/false")
    done = add(tracking, run_id, package, "lifting", measured(80))
    assert not done.promoted
    said = {
        "another model": "a clean process answers joints_cam_m differently, by up to",
        "crash": "a clean process cannot run it: exit code 1",
    }[how]
    assert said in done.reason
    assert aliases(tracking) == {"challenger": 1}
    assert not promote(tracking, "lifting", 1, force=True).promote, "force is about numbers alone"


def test_a_policy_is_of_the_name_and_never_mixed(tracking, run_id, package, tmp_path):
    restricted = relicensed(package, tmp_path / "restricted", "MIT", "AMASS licence (research only)")
    assert add(tracking, run_id, package, "open", measured(80)).promoted
    better = add(tracking, run_id, restricted, "open", measured(70))
    assert not better.promoted
    assert "policy is permissive, and it was trained on 'AMASS licence (research only)'" in better.reason
    assert "another name with --license-policy any" in better.reason
    assert aliases(tracking, "open") == {"champion": 1, "challenger": 2}
    candidate = Candidate(run_id=run_id, package=restricted, measured=measured(60), example=frames())
    with pytest.raises(UserError, match="got --license-policy any; open has permissive, and one name never mixes two"):
        register(tracking, candidate, "open", "any")
    assert len([row for row in list_models(tracking) if row.name == "open"]) == 2, "nothing was written"
    assert register(tracking, candidate, "mine").promoted, "a new name takes the policy that its first model fits"
    assert show(tracking, "models:/mine/1").policy == "any"
    strict = register(tracking, candidate, "strict", "permissive")
    assert not strict.promoted
    assert show(tracking, "models:/strict/1").policy == "permissive"


def test_show_tells_who_did_what_and_why(tracking, run_id, tmp_path):
    package = make_package(tmp_path / "package")
    lifter, card = load_package(package)
    save_package(package, lifter, replace(card, intended_use="For tests.", limits=("Not for people.", "Nor cats.")))
    for value in (80, 90, 70):
        add(tracking, run_id, package, "lifting", measured(value))
    promote(tracking, "lifting", 2, force=True)
    roll_back(tracking, "lifting")
    found = show(tracking, "models:/lifting/2")
    assert [(r.promote, r.user, r.host) for r in found.rulings] == [
        (False, getpass.getuser(), socket.gethostname()), (True, getpass.getuser(), socket.gethostname())
    ]  # fmt: skip
    assert "90.00 is not lower" in found.rulings[0].reason
    assert "forced, although: mpjpe_mm 90.00" in found.rulings[1].reason
    trail = [(m.alias, m.version, m.back) for m in found.moves]
    assert trail == [
        ("challenger", 1, False), ("champion", 1, False), ("challenger", 2, False), ("challenger", 3, False),
        ("champion", 3, False), ("champion", 2, False), ("champion", 3, True),
    ]  # fmt: skip
    assert all(m.at.endswith("Z") and m.reason and m.user and m.host for m in found.moves)
    assert found.moves[-1].reason == "rolled back from version 2"
    for text in ("For tests.", "- Not for people.", "- Nor cats.", "licence: Apache-2.0", "| mpjpe_mm | 80 |"):
        assert text in found.description
    kept = client_of(tracking.uri).get_model_version("lifting", "2").description
    assert kept == found.description
    (one,) = found.measured
    assert one == measured(90)


def test_compare(tracking, run_id, package):
    for value in (80, 70):
        add(tracking, run_id, package, "lifting", measured(value))
    found = compare(tracking, "models:/lifting/1", "models:/lifting@champion")
    assert (found.first, found.second) == ("lifting 1", "lifting 2")
    head, flips = found.rows
    assert (head.name, head.first, head.second) == ("mpjpe_mm", 80, 70)
    assert head.difference.significant
    assert head.difference.value == pytest.approx(-10, abs=0.1)
    assert (flips.name, flips.difference) == ("flip_rate", None)


def test_compare_of_what_was_not_measured_alike(tracking, run_id, package):
    add(tracking, run_id, package, "lifting", measured(80))
    add(tracking, run_id, package, "other", measured(70, store_hash="t" * 64))
    with pytest.raises(UserError, match=r"nothing was measured of .* alike: mpjpe_mm of open/x on store sss"):
        compare(tracking, "models:/lifting/1", "models:/other/1")
    record_measured(tracking, "lifting", 1, measured(75, store_hash="t" * 64))
    assert compare(tracking, "models:/lifting/1", "models:/other/1").rows[0].first == 75


def test_a_version_that_another_tool_made(tracking, run_id):
    client = client_of(tracking.uri)
    client.create_registered_model("foreign")
    client.create_model_version("foreign", "file:///nowhere", run_id=run_id)
    found = show(tracking, "models:/foreign/1")
    assert (found.description, found.measured, found.policy) == ("", (), "any")
    with pytest.raises(UserError, match="was not registered by aign"):
        record_measured(tracking, "foreign", 1, measured(1))


def test_a_card_of_before_limits_is_still_read(package, tmp_path):
    lifter, card = load_package(package)
    save_package(tmp_path / "old", lifter, CARD)
    path = tmp_path / "old" / "model.json"
    content = json.loads(path.read_text())
    del content["intended_use"], content["limits"]
    path.write_text(json.dumps(content))
    assert load_package(tmp_path / "old")[1] == card
    path.write_text(json.dumps({**content, "limits": [3]}))
    with pytest.raises(UserError, match="limits that are no text"):
        load_package(tmp_path / "old")


def test_weights_that_are_not_finite_are_no_candidate(tracking, run_id, package, tmp_path):
    lifter, card = load_package(package)
    next(lifter.parameters()).data[0] = torch.nan
    save_package(tmp_path / "bad", lifter, card)
    with pytest.raises(UserError, match="weights that are not finite"):
        add(tracking, run_id, tmp_path / "bad", "lifting", measured(1))
    assert list_models(tracking) == []
