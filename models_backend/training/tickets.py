"""Makes the rows of `tickets`: a support message becomes JSON with the keys product, problem, urgency, wants.

Messages are put together from slots by a seeded generator, so the right JSON is known exactly. Held-out rows use the
same labels, but some products and some wordings that no training row has. Knows nothing about models.
"""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from models_backend.training.rows import Row, chat

SYSTEM = "Turn the support message into JSON with the keys product, problem, urgency, wants."
SEED = 135
TRAIN_ROWS, VALID_ROWS = 1600, 200
# The held-out wording of each label comes last in its list: only held-out rows may use the last HELD_OUT entries.
HELD_OUT = 1
UNSEEN_SHARE = 0.25  # of held-out rows have a product, and as many a wording, that training never shows

PRODUCTS = (
    "kettle", "toaster", "desk lamp", "backpack", "keyboard", "coffee grinder", "office chair", "tent", "bicycle pump",
    "water bottle", "blender", "alarm clock", "rain jacket", "suitcase", "camera bag", "phone case", "power bank",
    "yoga mat", "frying pan", "bread knife", "bookshelf", "garden hose", "electric drill", "sleeping bag", "monitor",
    "microphone", "printer", "vacuum cleaner", "wall clock", "mirror", "ceiling fan", "heater", "record player",
    "sewing machine", "thermometer", "radio", "webcam", "router", "tablet", "lunch box",
)  # fmt: skip
UNSEEN_PRODUCTS = ("rice cooker", "picnic blanket", "guitar stand", "hair dryer", "folding table", "bird feeder")

PROBLEMS: Mapping[str, Sequence[str]] = {
    "broken": (
        "The {p} arrived with a crack across the side.",
        "My {p} stopped working after two days.",
        "The {p} fell apart the first time I used it.",
        "I unpacked the {p} and it was in pieces.",
        "Your {p} does not turn on any more.",
        "Since this morning the {p} is completely dead.",
        "The {p} I bought from you broke within a week.",
        "There is a big hole in the {p} I received.",
        "The {p} snapped in two when I picked it up.",
    ),
    "late": (
        "The {p} was due on {date} and it is still not here.",
        "I ordered a {p} on {date} and nothing has arrived.",
        "I am still waiting for the {p}.",
        "The {p} has been stuck at the depot since {date}.",
        "Tracking for my {p} has not moved for nine days.",
        "You promised the {p} for {date}, but the parcel never came.",
        "Where is my {p}? It should have come on {date}.",
        "The delivery of the {p} is now two weeks behind.",
        "{date} was the delivery day for my {p}, and the doorbell never rang.",
    ),
    "wrong item": (
        "I ordered a {p} and you sent me something else.",
        "Instead of the {p} there was {other} in the box.",
        "The box said {p}, but inside I found {other}.",
        "This is not the {p} I chose, it is a different model.",
        "I got {other}, but I had paid for a {p}.",
        "You mixed up my order: I wanted a {p}, not {other}.",
        "Somebody packed the wrong article, I asked for the {p}.",
        "The {p} in the parcel is red and I had picked the blue one.",
        "My parcel holds {other} where the {p} should be.",
    ),
    "missing part": (
        "The {p} came without its manual and screws.",
        "One part of the {p} was not in the box.",
        "The lid of the {p} is missing.",
        "I cannot put the {p} together because two pieces are missing.",
        "The {p} was delivered, but its cable was not included.",
        "There is no handle with my {p}.",
        "The bag of small parts for the {p} was empty.",
        "I unpacked the {p} and found that the strap is not there.",
        "The {p} reached me incomplete.",
    ),
    "overcharged": (
        "I paid for the {p} twice.",
        "My card was charged {money} too much for the {p}.",
        "The {p} was on sale, but you billed the full price.",
        "The invoice for the {p} shows two of them, and I bought one.",
        "You took {money} twice for one {p}.",
        "The discount code was not applied to the {p}.",
        "Why does the bill say {money} when the {p} costs half of that?",
        "I see two payments for the same {p} on my account.",
        "The price of the {p} on my bill is higher than on your site.",
    ),
}

URGENCIES: Mapping[str, Sequence[str]] = {
    "high": (
        "This is urgent.",
        "I need this solved today.",
        "Please hurry, we leave tomorrow morning.",
        "I must have an answer within the hour.",
        "Please treat this as an emergency.",
        "I need it by tomorrow at the latest.",
        "Answer me right away, please.",
        "It cannot wait.",
        "Every hour counts here.",
    ),
    "normal": (
        "",
        "",
        "",
        "I would be glad to hear from you this week.",
        "A reply in the next few days would be fine.",
        "I hope you can look at it this week.",
        "Please answer within a few days.",
        "Let me hear from you in the coming days.",
    ),
    "low": (
        "There is no hurry.",
        "Take your time.",
        "It is not urgent at all.",
        "No rush, I can wait.",
        "Whenever you get around to it is fine.",
        "I can easily wait a month for this.",
        "This has a low priority for me.",
        "Any time next month will do.",
        "Do it when you have nothing better to do.",
    ),
}

WANTS: Mapping[str, Sequence[str]] = {
    "refund": (
        "I would like my money back.",
        "Please refund me.",
        "I want a refund.",
        "Please return the money to my card.",
        "Send the amount back to my account.",
        "I ask you to pay me back.",
        "Kindly reimburse me.",
        "How do I get my money back?",
        "Please transfer what I paid back to me.",
    ),
    "replacement": (
        "Please send me a new one.",
        "I would like a replacement.",
        "Can you exchange it?",
        "Send another one, please.",
        "I want you to replace it.",
        "Could I get a fresh one instead?",
        "Please swap it for a new one.",
        "Ship me a new one, please.",
        "Let me have another one in its place.",
    ),
    "repair": (
        "Can you repair it?",
        "I would like to have it fixed.",
        "Please fix it.",
        "Where can I send it for repair?",
        "I want it repaired.",
        "Could a technician mend it?",
        "Is there a workshop that can fix this?",
        "Please get it working again.",
        "Could somebody of yours put it right with a few tools?",
    ),
    "explanation": (
        "Please explain what happened.",
        "I just want to know why.",
        "Can you tell me how this could happen?",
        "I would like an explanation.",
        "All I want is an answer to why this went wrong.",
        "Tell me the reason, please.",
        "What went wrong here?",
        "I only want to understand what happened.",
        "Please let me know the cause.",
    ),
}

# What people ask for: nobody wants a late parcel repaired.
WANTS_OF: Mapping[str, Sequence[str]] = {
    "broken": ("refund", "replacement", "repair", "explanation"),
    "late": ("refund", "replacement", "explanation"),
    "wrong item": ("refund", "replacement", "explanation"),
    "missing part": ("refund", "replacement", "repair"),
    "overcharged": ("refund", "explanation"),
}

NOISE = (
    "My order number is {number}.",
    "I have been a customer since {year}.",
    "I bought it as a present for my {relative}.",
    "The {spare} I got from you last year is still great.",
    "My {relative} recommended your shop.",
    "I already tried to call you.",
    "I also own your {spare} and like it.",
    "The parcel had the number {number}.",
    "We live in {city} now.",
    "I paid by card.",
    "The driver was friendly.",
    "Your shop in {city} could not help me.",
)
GREETINGS = ("", "", "Hello,", "Hi,", "Hi there,", "Dear team,", "Good morning,", "Good evening,", "Dear support,")
NAMES = ("Ana", "Ben", "Chloe", "David", "Elif", "Farid", "Grace", "Hiro", "Ines", "Jonas", "Kofi", "Lena", "Mina",
         "Noor", "Oscar", "Priya", "Rosa", "Sven", "Tomas", "Yara")  # fmt: skip
GOODBYES = ("", "", "Thanks, {name}", "Best, {name}", "Regards, {name}", "{name}", "Thank you!", "Yours, {name}")
CITIES = ("Porto", "Leeds", "Utrecht", "Graz", "Lyon", "Turin", "Aarhus", "Galway", "Malmo", "Bern")
RELATIVES = ("sister", "brother", "mother", "father", "neighbour", "colleague", "daughter", "son", "aunt")
MONTHS = ("January", "March", "April", "May", "June", "August", "October", "December")


def generate(seed: int = SEED) -> tuple[list[Row], list[Row]]:
    """Training rows and held-out rows. The same seed gives the same rows; no message is in both."""
    dice = random.Random(seed)
    seen: set[str] = set()
    train = [_row(dice, seen, held_out=False) for _ in range(TRAIN_ROWS)]
    valid = [_row(dice, seen, held_out=True) for _ in range(VALID_ROWS)]
    return train, valid


def matches(answer: str, expected: str) -> bool:
    """Exact match: the answer is JSON and equal to the expected JSON, whatever its spaces and order of keys."""
    return bool(_parsed(answer) == json.loads(expected))


def _parsed(answer: str) -> Any:
    try:
        return json.loads(answer)
    except json.JSONDecodeError:
        return None


def _row(dice: random.Random, seen: set[str], *, held_out: bool) -> Row:
    while True:
        problem = dice.choice(tuple(PROBLEMS))
        facts = {
            "product": dice.choice(UNSEEN_PRODUCTS if held_out and dice.random() < UNSEEN_SHARE else PRODUCTS),
            "problem": problem,
            "urgency": dice.choice(tuple(URGENCIES)),
            "wants": dice.choice(WANTS_OF[problem]),
        }
        text = _message(dice, facts, unseen_wording=held_out and dice.random() < UNSEEN_SHARE)
        if text not in seen:
            seen.add(text)
            return chat(text, json.dumps(facts), SYSTEM)


def _message(dice: random.Random, facts: Mapping[str, str], *, unseen_wording: bool) -> str:
    """One support message that says the facts, between sentences that mean nothing for them."""
    # Of the three sentences that carry a label, at most one has an unseen wording.
    unseen = dice.choice(("problem", "urgency", "wants")) if unseen_wording else ""
    problem = _pick(dice, PROBLEMS[facts["problem"]], unseen == "problem")
    wants = _pick(dice, WANTS[facts["wants"]], unseen == "wants")
    urgency = _pick(dice, URGENCIES[facts["urgency"]], unseen == "urgency")
    tail = [wants, urgency, *dice.sample(NOISE, dice.choice((0, 1, 1, 2)))]
    dice.shuffle(tail)
    body = [problem, *tail]
    if dice.random() < 0.2:  # some people begin with something else
        body.insert(0, body.pop())
    spare, other = dice.sample([name for name in PRODUCTS if name != facts["product"]], 2)
    slots = {
        "p": facts["product"], "other": f"{'an' if other[0] in 'aeio' else 'a'} {other}", "spare": spare,
        "date": f"{dice.randint(1, 28)} {dice.choice(MONTHS)}", "money": f"{dice.randint(9, 180)} euros",
        "number": str(dice.randint(10_000, 99_999)), "year": str(dice.randint(2009, 2024)),
        "city": dice.choice(CITIES), "relative": dice.choice(RELATIVES), "name": dice.choice(NAMES),
    }  # fmt: skip
    parts = [dice.choice(GREETINGS), *body, dice.choice(GOODBYES)]
    text = " ".join(part.format_map(slots) for part in parts if part)
    return text.lower() if dice.random() < 0.1 else text


def _pick(dice: random.Random, wordings: Sequence[str], unseen: bool) -> str:
    return dice.choice(wordings[-HELD_OUT:] if unseen else wordings[:-HELD_OUT])
