"""How far what runs by default is from the plain float32 model, token for token on fixed texts.

Both ways in which the engine computes are looked at, for they may use other kernels: a text read in one piece, and the
same text fed one token at a time, all texts side by side.
"""

from typing import Any

from models_backend import registry
from models_backend.bench.contestant import Jobs
from models_backend.bench.texts import known
from models_backend.config import Settings
from models_backend.text import threads

LONGEST = 96  # tokens of each text
HEAD = 8  # tokens that are read in one piece before single ones follow


def jobs(options: dict[str, Any]) -> Jobs:
    settings = Settings()
    threads.configure(settings)
    return {"compare": lambda: compare(settings, options["model"])}


def compare(settings: Settings, model: str) -> dict[str, Any]:
    """Mean KL(float32 || what runs) in nats and the share of equal top tokens, for `read` and `decoded` text."""
    import torch
    from transformers import AutoModelForCausalLM

    from models_backend.protocol.runs import Completion
    from models_backend.text.loader import load, pick_device

    device = pick_device(settings.device)
    base = registry.find(model, settings.home)
    backend = load(base, [], settings, lambda text: None)
    runner: Any = backend.runner
    plain: Any = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32, local_files_only=True).eval()
    plain = plain.to(device)
    texts = [backend.dialect.encode(Completion(text))[:LONGEST] for text in known()]
    with torch.inference_mode():
        expected = [plain(torch.tensor([ids], device=device)).logits[0, :-1].float().cpu() for ids in texts]
        read = [_read(runner, ids) for ids in texts]
        decoded = _decoded(runner, texts)
    return {
        "precision": runner.precision,
        "positions": sum(len(one) for one in expected),
        "read": distance(torch.cat(expected), torch.cat(read)),
        "decoded": distance(torch.cat([one[HEAD - 1 :] for one in expected]), torch.cat(decoded)),
    }


def distance(expected: Any, found: Any) -> dict[str, float]:
    """Both are logits [positions, vocabulary]. `kl` in nats, `top1` the share of positions with the same top token."""
    import torch

    p, q = (torch.log_softmax(logits.double(), dim=-1) for logits in (expected, found))
    kl = (p.exp() * (p - q)).sum(-1)
    same = expected.argmax(-1) == found.argmax(-1)
    return {"kl": float(kl.mean()), "worst_kl": float(kl.max()), "top1": float(same.double().mean())}


def _read(runner: Any, ids: list[int]) -> Any:
    """[len(ids) - 1, vocabulary]"""
    from models_backend.text.contract import Feed, Score

    logits = runner.logits([Feed(0, None, 0, ids[:-1], None, score=Score(ids[1:], 0))]).float().cpu()
    runner.release(0)
    return logits


def _decoded(runner: Any, texts: list[list[int]]) -> list[Any]:
    """For each text [len(ids) - HEAD, vocabulary]: what follows its first HEAD tokens, HEAD + 1 tokens ..."""
    import torch

    from models_backend.text.contract import Feed, Score

    found: list[list[Any]] = [[] for _ in texts]
    places = range(HEAD, max(map(len, texts)))
    for group in range(0, len(texts), runner.slots):
        rows = list(enumerate(texts[group : group + runner.slots]))
        for place in places:
            start = 0 if place == HEAD else place - 1
            feeds = [
                (group + slot, Feed(slot, None, start, ids[start:place], None, score=Score(ids[place : place + 1], 0)))
                for slot, ids in rows
                if place < len(ids)
            ]
            logits = runner.logits([feed for _, feed in feeds]).float().cpu()
            for (text, _), row in zip(feeds, logits, strict=True):
                found[text].append(row)
        for slot, _ in rows:
            runner.release(slot)
    return [torch.stack(rows) for rows in found]
