"""The words that the generated tasks use, with their inflections, their synonyms and the classes of nouns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """The forms of one verb; `past` is also its participle."""

    base: str
    third: str
    past: str
    progressive: str


def _verbs(table: str) -> tuple[tuple[Verb, ...], ...]:
    """Read groups of synonyms from a table: one group a line, each verb as base/third/past/progressive."""
    return tuple(tuple(Verb(*word.split("/")) for word in line.split()) for line in table.strip().splitlines())


def _groups(table: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(line.split()) for line in table.strip().splitlines())


ACTIONS = _verbs("""
help/helps/helped/helping assist/assists/assisted/assisting
follow/follows/followed/following trail/trails/trailed/trailing
watch/watches/watched/watching observe/observes/observed/observing
praise/praises/praised/praising applaud/applauds/applauded/applauding
scare/scares/scared/scaring frighten/frightens/frightened/frightening
hire/hires/hired/hiring employ/employs/employed/employing
greet/greets/greeted/greeting welcome/welcomes/welcomed/welcoming
save/saves/saved/saving rescue/rescues/rescued/rescuing
""")  # what somebody does to somebody
DEEDS = _verbs("""
fix/fixes/fixed/fixing repair/repairs/repaired/repairing
buy/buys/bought/buying purchase/purchases/purchased/purchasing
clean/cleans/cleaned/cleaning wash/washes/washed/washing
store/stores/stored/storing stash/stashes/stashed/stashing
sell/sells/sold/selling trade/trades/traded/trading
paint/paints/painted/painting color/colors/colored/coloring
""")  # what somebody does to something
MOTIONS = _verbs("""
sleep/sleeps/slept/sleeping doze/dozes/dozed/dozing
laugh/laughs/laughed/laughing giggle/giggles/giggled/giggling
run/runs/ran/running sprint/sprints/sprinted/sprinting
fall/falls/fell/falling tumble/tumbles/tumbled/tumbling
leave/leaves/left/leaving depart/departs/departed/departing
smile/smiles/smiled/smiling grin/grins/grinned/grinning
""")  # what somebody does

HYPERNYMS = {
    "person": (
        "teacher",
        "doctor",
        "farmer",
        "driver",
        "singer",
        "baker",
        "nurse",
        "pilot",
        "painter",
        "lawyer",
    ),
    "animal": ("dog", "cat", "horse", "rabbit", "bear", "goat", "duck", "tiger"),
    "vehicle": ("car", "truck", "boat", "wagon"),
    "tool": ("hammer", "shovel", "ladder", "knife"),
    "instrument": ("guitar", "piano", "violin", "drum"),
}
PEOPLE = HYPERNYMS["person"]
ANIMALS = HYPERNYMS["animal"]
BEINGS = PEOPLE + ANIMALS
THINGS = HYPERNYMS["vehicle"] + HYPERNYMS["tool"] + HYPERNYMS["instrument"]
PLURALS = {"person": "people", "knife": "knives"}

NAMES = (
    "anna",
    "ben",
    "carl",
    "dora",
    "emil",
    "fiona",
    "george",
    "helen",
    "ivan",
    "julia",
    "kevin",
    "laura",
    "martin",
    "nina",
)
CITIES = ("paris", "london", "rome", "oslo", "cairo", "lima", "delhi", "tokyo", "madrid")

QUALITIES = _groups("""
small little
big large
happy glad
rich wealthy
tired sleepy
clever smart
sick ill
famous renowned
""")  # adjectives, a group of synonyms a line
COLORS = ("red", "blue", "green", "white", "black", "brown")
PLACES = ("park", "garden", "market", "station", "kitchen", "school", "forest", "harbor", "museum", "library")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
CAUSES = ("rain", "storm", "noise", "strike", "heat", "snow", "smoke", "wind")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

TOPICS = (
    "film",
    "story",
    "plot",
    "acting",
    "cast",
    "music",
    "ending",
    "script",
    "book",
    "show",
    "dinner",
    "service",
)
PRAISE = (
    "great",
    "wonderful",
    "brilliant",
    "charming",
    "funny",
    "moving",
    "superb",
    "fresh",
    "lovely",
    "excellent",
)
BLAME = ("awful", "terrible", "boring", "dull", "weak", "clumsy", "bland", "horrible", "shallow", "messy")


def plural(noun: str) -> str:
    """The plural of a noun of this lexicon."""
    return PLURALS.get(noun, noun + "s")


def kinds() -> tuple[tuple[str, ...], ...]:
    """Groups of words that can take each other's place in a sentence; for verbs, also the form of the wrong number."""
    verbs = tuple(
        tuple(getattr(verb, form) for group in table for verb in group for form in forms)
        for table in (ACTIONS, DEEDS, MOTIONS)
        for forms in (("base", "third"), ("past",), ("progressive",))
    )
    beings = (BEINGS, tuple(plural(noun) for noun in (*BEINGS, "person", "animal")))
    qualities = (tuple(word for group in QUALITIES for word in group), COLORS)
    names = (NAMES, CITIES, PLACES, DAYS, CAUSES, NUMBERS, THINGS)
    remarks = (TOPICS, PRAISE + BLAME, ("not", "very", "truly", "quite", "always", "never", "hardly"))
    marks = (
        ("some", "all", "no"),
        ("where", "when", "why"),
        ("and", "or"),
        ("managed", "failed", "wanted", "refused"),
    )
    return verbs + beings + qualities + names + remarks + marks
