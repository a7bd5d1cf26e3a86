"""A process that tries out one constraint and dies of it if need be, so that the worker does not.

A few characters of a grammar (two patterns that must hold together, a large multipleOf) can keep the library busy for
hours and take gigabytes; its own limits do not count that work, and it cannot be interrupted. So each new constraint is
compiled here first, against an alphabet of single bytes, which shows the cost and takes no time to set up.

Run by path, with the grammar on standard input; imports nothing of this house, for a start in well under 0.1 s.
Writes the library's objection, or nothing. Ends by signal or with another code than 0 when a limit is reached.
"""

import sys

CPU_SECONDS = 1
MEMORY = 2 << 30  # bytes of addresses, most of which are never touched
EOS = 256


class Bytes:
    """An alphabet as the library wants it: every byte a token, and an end."""

    eos_token_id = EOS
    bos_token_id = None
    tokens = [*(bytes([byte]) for byte in range(EOS)), b"<end>"]
    special_token_ids = [EOS]

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def limit() -> None:
    try:
        import resource
    except ImportError:  # not on every system; the caller's patience is a limit as well
        return
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    if sys.platform == "linux":  # elsewhere addresses cannot be limited, or are all taken from the start
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def objection(grammar: str) -> str:
    """Why the library does not take `grammar`; empty if it does."""
    from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

    matcher = LLMatcher(LLTokenizer(TokenizerWrapper(Bytes())), grammar, log_level=0)
    if not matcher.is_error():
        matcher.compute_bitmask()  # the first step is where some of the work is done
    return str(matcher.get_error())


if __name__ == "__main__":
    limit()
    sys.stdout.write(objection(sys.stdin.buffer.read().decode()))
