"""Roles: does sentence 2 follow from sentence 1? A pair; ``entailment``, ``neutral`` or ``contradiction``.

    sentence1 = [ place , ", " ] , "the " , a , " " , relation , " the " , b , "." ;
    sentence2 = "the " , x , " is the " , role , "." ;

A relation gives its first person a role that the second cannot have: if A is older than B, A is the
older one.

    entailment     x = a, the role of the relation
    contradiction  x = b, the role of the relation
    neutral        x = somebody else, the role of the relation; or x = a or b, another role

No word leans to a label: who stands on which side of the relation decides.
"""

from random import Random

from propetl.data.grammar.words import PEOPLE, PLACES

ROLES = {
    "is older than": "older one",
    "is younger than": "younger one",
    "is taller than": "taller one",
    "is richer than": "richer one",
    "is stronger than": "stronger one",
    "is weaker than": "weaker one",
    "is faster than": "faster one",
    "is smarter than": "smarter one",
    "beat": "winner",
    "robbed": "thief",
    "saved": "hero",
    "lost to": "loser",
}
"""Relation -> the role it gives to its first person."""


def texts(rng: Random, label: int) -> tuple[str, str]:
    """Draw a pair with the given label (0 entailment, 1 neutral, 2 contradiction)."""
    a, b, somebody_else = rng.sample(PEOPLE, 3)
    relation, other = rng.sample(list(ROLES), 2)
    x, role = (b if label == 2 else a), ROLES[relation]
    if label == 1 and rng.random() < 0.5:
        x = somebody_else
    elif label == 1:
        x, role = rng.choice((a, b)), ROLES[other]
    place = f"{rng.choice(PLACES)}, " if rng.random() < 0.5 else ""
    return f"{place}the {a} {relation} the {b}.", f"the {x} is the {role}."
