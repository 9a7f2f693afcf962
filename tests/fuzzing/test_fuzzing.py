"""Damaged files: a short campaign over every kind of file, and that a campaign finds what it is made for."""

import json
from collections import Counter
from random import Random

import pytest

from tests.fuzzing import faulty_worker, isolated
from tests.fuzzing.campaign import ACCEPTED, CHANGED, CRASH, EXCEPTION, HANG, REFUSED, SAME, Tally
from tests.fuzzing.isolated import Isolated
from tests.fuzzing.mutate import BYTE_CHANGES, damaged, damaged_json
from tests.fuzzing.mutate_files import damaged_tensors
from tests.runtime.tiny_artifact import TASKS
from tests.runtime.tiny_model import TinyModel

MUTANTS = 1500
SEED = 11



@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What becomes of some mutants; ``benchmarks/fuzz.py`` reads a million."""
    folder = tmp_path_factory.mktemp("fuzzing")
    with Isolated(folder, SEED) as worker:
        return worker.run(0, MUTANTS)


def test_every_damaged_file_is_refused_in_one_line_or_means_what_it_did(found):
    assert found.failures == []
    assert sum(found.counts.values()) == MUTANTS


def test_every_kind_of_file_was_damaged_and_refused(found):
    refused = {target for target, outcome in found.counts if outcome == REFUSED}
    kept = {target for target in refused if target.endswith(", hashes kept")}
    assert len(kept) == 7 and len(refused - kept) == 11
    accepted = Counter(outcome for _, outcome in found.counts.elements())
    assert accepted[SAME] > 0 and accepted[ACCEPTED] > 0  # mutants are not all nonsense


@pytest.mark.parametrize(
    ("mutant", "kept", "outcome"),
    [
        (0, True, SAME),
        (1, True, REFUSED),
        (2, True, EXCEPTION),
        (3, True, EXCEPTION),
        (4, True, EXCEPTION),
        (5, True, CHANGED),
        (5, False, ACCEPTED),
    ],
)
def test_a_campaign_tells_defects_from_refusals(tmp_path, mutant, kept, outcome):
    campaign = faulty_worker.faulty_campaign(tmp_path, 0, kept)
    number = next(number for number in range(1000) if _mutant(campaign, number) == mutant)
    assert campaign.outcome(number)[1] == outcome


def test_what_ends_or_holds_up_a_process_is_counted_and_passed(tmp_path, monkeypatch):
    monkeypatch.setattr(isolated, "PATIENCE", 5.0)
    campaign = faulty_worker.faulty_campaign(tmp_path, 0)
    mutants = [_mutant(campaign, 0)]
    while not {6, 7} <= set(mutants):
        mutants.append(_mutant(campaign, len(mutants)))
    with Isolated(tmp_path, 0, "tests.fuzzing.faulty_worker") as worker:
        tally = worker.run(0, len(mutants))
    outcomes = Counter(outcome for _, outcome in tally.counts.elements())
    assert outcomes[CRASH] == mutants.count(6) and outcomes[HANG] == mutants.count(7)
    assert sum(tally.counts.values()) == len(mutants)
    assert {number for number, _, outcome, _ in tally.failures if outcome == CRASH} == {
        number for number, mutant in enumerate(mutants) if mutant == 6
    }
    assert Tally.from_json(json.loads(json.dumps(tally.to_json()))) == tally


def test_mutants_are_drawn_the_same_way_again_and_differ():
    content = TinyModel().pack("mood", TASKS["mood"], 1).to_bytes()
    value = {"a": [1, {"b": "c"}], "d": {"e": None}}
    for number in range(200):
        assert damaged(content, Random(number)) == damaged(content, Random(number))
        assert damaged_tensors(content, Random(number)) == damaged_tensors(content, Random(number))
        assert damaged_json(value, Random(number)) == damaged_json(value, Random(number))
    assert len({damaged_tensors(content, Random(number)) for number in range(200)}) > 150
    assert len({damaged_json(value, Random(number)) for number in range(200)}) > 100
    assert all(change(b"", Random(1)) is not None for change in BYTE_CHANGES)


def _mutant(campaign, number):
    target, random = campaign._drawn(number)
    return target.mutant(random)
