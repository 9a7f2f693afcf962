"""Likeness: how much of the first sentence does the second repeat? A pair, a score from 0 to 5.

    sentence1 = "the " , agent , " " , action , " the " , patient , " " , place , "." ;
    sentence2 = sentence1's form | place , ", the " , agent , " " , action , " the " , patient , "." ;
    score     = 2 same action + 1 same agent + 1 same patient + 1 same place ;

The action may be repeated by a synonym. Where neither agent nor patient is repeated, half of the
pairs exchange the two: the same words, another score.
"""

from dataclasses import dataclass
from random import Random

from propetl.data.grammar.words import PEOPLE, PLACES

ACTIONS = (
    ("helped", "assisted"),
    ("called", "phoned"),
    ("thanked", "praised"),
    ("hit", "punched"),
    ("followed", "chased"),
    ("saw", "noticed"),
    ("taught", "trained"),
    ("paid", "hired"),
    ("kissed", "hugged"),
    ("mocked", "insulted"),
)
WEIGHTS = {"action": 2, "agent": 1, "patient": 1, "place": 1}


@dataclass(frozen=True)
class Event:
    """Who did what to whom, and where."""

    agent: str
    action: int
    patient: str
    place: str

    def told(self, rng: Random, place_first: bool) -> str:
        """The event as a sentence, its action by either synonym."""
        deed = f"the {self.agent} {rng.choice(ACTIONS[self.action])} the {self.patient}"
        return f"{self.place}, {deed}." if place_first else f"{deed} {self.place}."


def kept_parts(rng: Random, score: int) -> frozenset[str]:
    """Draw a set of parts whose weights add up to ``score``."""
    singles = ["agent", "patient", "place"]
    with_action = score > 3 or (score >= 2 and rng.random() < 0.5)
    count = score - 2 if with_action else score
    return frozenset(rng.sample(singles, count)) | ({"action"} if with_action else set())


def texts(rng: Random, label: int) -> tuple[str, str]:
    """Draw a pair that scores ``label`` (0 to 5)."""
    kept = kept_parts(rng, label)
    agent, patient, *others = rng.sample(PEOPLE, 4)
    action, other_action = rng.sample(range(len(ACTIONS)), 2)
    place, other_place = rng.sample(PLACES, 2)
    if not kept & {"agent", "patient"} and rng.random() < 0.5:
        others = [patient, agent]
    second = Event(
        agent=agent if "agent" in kept else others[0],
        action=action if "action" in kept else other_action,
        patient=patient if "patient" in kept else others[1],
        place=place if "place" in kept else other_place,
    )
    first = Event(agent, action, patient, place)
    return first.told(rng, place_first=False), second.told(rng, place_first=rng.random() < 0.5)
