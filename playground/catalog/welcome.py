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
                "content": "Hi, the espresso machine I bought from you broke within a week. I need it by tomorrow at "
                "the latest, so please send me a new one. Thanks, Ana",
            },
        ],
    },
    "lanes": [{"model": BASE}, {"model": TUNED}],
    "params": {"max_tokens": 128},
}

# What a first visit to the X-ray reads: an answer that the fine-tuned model expects, and its base does not.
XRAY: dict[str, Any] = {
    "prompt": {
        "mode": "chat",
        "messages": [
            *SPEC["prompt"]["messages"],
            {
                "role": "assistant",
                "content": '{"product": "espresso machine", "problem": "broken", "urgency": "high", "wants": '
                '"replacement"}',
            },
        ],
        "continue_final": True,  # the text ends with this message, not with the beginning of the next
    },
    "lanes": [{"model": BASE, "shadows": [{"model": TUNED}]}, {"model": TUNED, "shadows": [{"model": BASE}]}],
    "params": {"max_tokens": 0, "prompt_logprobs": 5},
}
