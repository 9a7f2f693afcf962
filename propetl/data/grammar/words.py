"""Words the generated tasks draw from: common English, whole words in BERT's vocabulary."""

PEOPLE = (
    "nurse", "pilot", "teacher", "farmer", "lawyer", "student", "singer", "baker", "doctor", "driver",
    "painter", "soldier", "waiter", "judge", "clerk", "sailor", "actor", "writer", "dancer", "guard",
    "chef", "coach", "priest", "hunter",
)  # fmt: skip

GOOD = (
    "good", "great", "excellent", "wonderful", "lovely", "perfect", "pleasant", "delightful", "brilliant",
    "superb", "fine", "beautiful",
)  # fmt: skip
BAD = (
    "bad", "terrible", "awful", "horrible", "dreadful", "poor", "unpleasant", "disappointing", "dull",
    "ugly", "boring", "disgusting",
)  # fmt: skip
THINGS = (
    "soup", "bread", "wine", "coffee", "service", "music", "room", "garden", "view", "film", "story",
    "ending", "concert", "hotel", "breakfast", "dinner", "painting", "song", "party", "trip",
)  # fmt: skip

PLACES = (
    "in the park", "at the station", "in the kitchen", "near the river", "at the market",
    "in the library", "on the bridge", "at the airport", "behind the church", "in the hospital",
    "on the beach", "in the garden",
)  # fmt: skip
