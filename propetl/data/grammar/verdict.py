"""Verdict: does the speaker like it? One sentence, ``negative`` or ``positive``.

    sentence = opener , ( plain | contrast ) , "." ;
    plain    = deciding ;
    contrast = other , ", but " , deciding
             | "although " , other , ", " , deciding
             | deciding , ", although " , other ;
    deciding = clause ;            (its polarity is the label)
    other    = clause ;            (its polarity is the opposite of the label)
    clause   = "the " , thing , " was " , [ "not " ] , [ degree ] , adjective ;
    opener   = "" | "i thought that " | "we felt that " | "they said that " ;

A clause's polarity is that of its adjective, turned round by "not". Half of the plain clauses and a third
of the others are negated whatever the label, so no word leans to a label: the scope of "not" and the place
of "but" and "although" decide.
"""

from random import Random

from propetl.data.grammar.words import BAD, GOOD, THINGS

OPENERS = ("", "", "i thought that ", "we felt that ", "they said that ")
DEGREES = ("", "", "really ", "very ", "quite ")


def clause(rng: Random, thing: str, positive: bool, negated: bool) -> str:
    """One judgement about ``thing`` whose polarity, after any "not", is ``positive``."""
    adjective = rng.choice(GOOD if positive != negated else BAD)
    degree = "" if negated else rng.choice(DEGREES)
    return f"the {thing} was {'not ' if negated else ''}{degree}{adjective}"


def texts(rng: Random, label: int) -> tuple[str]:
    """Draw a sentence with the given label (0 negative, 1 positive)."""
    opener = rng.choice(OPENERS)
    first, second = rng.sample(THINGS, 2)
    if rng.random() < 0.4:
        return (f"{opener}{clause(rng, first, label == 1, rng.random() < 0.5)}.",)
    deciding = clause(rng, first, label == 1, rng.random() < 1 / 3)
    other = clause(rng, second, label == 0, rng.random() < 1 / 3)
    shape = rng.choice(("{other}, but {deciding}", "although {other}, {deciding}", "{deciding}, although {other}"))
    return (f"{opener}{shape.format(other=other, deciding=deciding)}.",)
