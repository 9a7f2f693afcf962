"""Topic: what is the sentence about? One sentence, four labels; a bag of words solves this one.

    sentence = [ aside ] , "the " , person , " " , verb , " the " , object , "." ;
    aside    = ( "after " | "before " | "during " ) , event , ", " ;

Person, verb and object come from the label's own words; the event of the aside from any topic's, so it
says nothing about the label.
"""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Topic:
    """The words of one topic."""

    name: str
    people: tuple[str, ...]
    verbs: tuple[str, ...]
    objects: tuple[str, ...]
    events: tuple[str, ...]


TOPICS = (
    Topic(
        "sport",
        ("striker", "goalkeeper", "coach", "runner", "boxer", "referee", "champion", "swimmer"),
        ("won", "lost", "joined", "watched", "left", "missed"),
        ("match", "race", "team", "final", "tournament", "league", "ball", "penalty"),
        ("the match", "the race", "the final"),
    ),
    Topic(
        "food",
        ("chef", "baker", "cook", "waiter", "butcher", "host", "guest", "grocer"),
        ("tasted", "served", "finished", "prepared", "ordered", "shared"),
        ("soup", "bread", "cake", "salad", "cheese", "stew", "pie", "sauce"),
        ("breakfast", "lunch", "dinner"),
    ),
    Topic(
        "money",
        ("banker", "investor", "broker", "accountant", "trader", "buyer", "seller", "lender"),
        ("paid", "checked", "raised", "signed", "lowered", "refused"),
        ("loan", "tax", "price", "debt", "budget", "invoice", "salary", "mortgage"),
        ("the auction", "the audit", "the sale"),
    ),
    Topic(
        "health",
        ("nurse", "doctor", "surgeon", "patient", "dentist", "therapist", "medic", "pharmacist"),
        ("treated", "feared", "described", "ignored", "studied", "survived"),
        ("fever", "wound", "infection", "disease", "injury", "allergy", "headache", "virus"),
        ("the operation", "the examination", "the treatment"),
    ),
)
EVENTS = tuple(event for topic in TOPICS for event in topic.events)


def texts(rng: Random, label: int) -> tuple[str]:
    """Draw a sentence about topic number ``label``."""
    topic = TOPICS[label]
    aside = f"{rng.choice(('after', 'before', 'during'))} {rng.choice(EVENTS)}, " if rng.random() < 0.5 else ""
    main = f"the {rng.choice(topic.people)} {rng.choice(topic.verbs)} the {rng.choice(topic.objects)}"
    return (f"{aside}{main}.",)
