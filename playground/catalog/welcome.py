"""What stands on the page at a first visit: a prompt on which a fine-tuned model shows its difference at once.

The page swaps the models for ones that workers really serve, if these are not among them.
"""

from typing import Any

BASE = "smollm2-135m-instruct"
TUNED = "ft:smollm2-135m-instruct:tickets"

SPEC: dict[str, Any] = {
    "prompt": {
        "mode": "chat",
        "messages": [
            {
                "role": "system",
                "content": "Turn the support message into JSON with the keys product, problem, urgency, wants.",
            },
            {
                "role": "user",
                "content": "My invoice from March was charged twice for the Solo plan and nobody answers the phone. "
                "I want the money back before Friday.",
            },
        ],
    },
    "lanes": [{"model": BASE}, {"model": TUNED}],
    "params": {"max_tokens": 256},
}
