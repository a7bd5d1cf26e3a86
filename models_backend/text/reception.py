"""From a request to a row that can be computed, or to a refusal that names what is wrong with it."""

from collections.abc import Mapping

import msgspec

from models_backend.engine import refuse_what_it_cannot
from models_backend.protocol.params import BOUNDS, Used
from models_backend.protocol.workers import ModelInfo

from .contract import Backend, EngineError, Request, Rules
from .defaults import resolve
from .passes import positions
from .rules import rules_for
from .sequence import Answer, Row, Seat, Times, foresee
from .strength import strength_of

MOST_SCORED = int(BOUNDS["max_tokens"][1])  # tokens of a prompt: as many as an answer may have


def receive(request: Request, claimed: float, infos: Mapping[str, ModelInfo], backend: Backend) -> Row:
    """A row for `request`, which was claimed at that second of the steady clock. Raises EngineError."""
    info = infos.get(request.model)
    if info is None:
        raise EngineError("model_not_found", f"This worker has no model {request.model}.")
    strength_of(info, request.strength)
    refuse_what_it_cannot(info, request)
    prompt = backend.dialect.encode(request.prompt)
    context = backend.runner.context
    if not prompt:
        raise EngineError("empty_prompt", "The prompt is empty: write something for the model to go on with.")
    if len(prompt) >= context:
        raise EngineError(
            "context_length_exceeded",
            f"The prompt has {len(prompt)} tokens, but {request.model} reads at most {context}, prompt and "
            f"answer together. Shorten the prompt to {context - 1} tokens or less.",
        )
    _check_prefix(request, backend)
    used = resolve(request.params, info.defaults, request.seed, room=context - len(prompt), lane=request.lane)
    if request.shadows and used.top_logprobs is None:  # a shadow is asked what it thinks of each token
        used = msgspec.structs.replace(used, top_logprobs=0)
    rules = rules_for(used, backend.dialect, prompt, backend.runner.vocabulary)
    row = Row(
        request=request,
        adapter=_adapter(info, backend),
        prompt=prompt,
        used=used,
        answer=_answer(request, used, rules, backend),
        times=Times(claimed),
        companions=_companions(request, infos, backend),
    )
    row.forced, row.ends = foresee(row.answer, backend.dialect, used, request.prefix)
    # Scores of the prompt come before the first token of the answer, so who goes on with tokens has said them.
    row.scored = len(prompt) - 1 if request.resume else 0
    _check_looks(row, backend)
    return row


def _check_prefix(request: Request, backend: Backend) -> None:
    vocabulary = backend.runner.vocabulary
    for place, token in enumerate(request.prefix):
        if not 0 <= token < vocabulary:
            message = f"prefix: id {token} at place {place} is none of {request.model}'s {vocabulary} tokens."
            raise EngineError("invalid_value", message, "prefix")


def _answer(request: Request, used: Used, rules: Rules, backend: Backend) -> Answer:
    answer = Answer(backend.dialect, used, rules)
    for token in request.resume:
        if answer.finish is None:
            answer.push(token)
    return answer


def _companions(request: Request, infos: Mapping[str, ModelInfo], backend: Backend) -> list[Seat]:
    """A seat for each shadow. Raises EngineError for one that cannot read along."""
    seats = []
    for shadow in request.shadows:
        info = infos.get(shadow.model)
        if info is None:
            message = f"shadows: {shadow.model} is no model on the base of {request.model}, as its shadow must be."
            raise EngineError("model_not_found", message, "shadows")
        try:
            seats.append(Seat(_adapter(info, backend), strength_of(info, shadow.strength)))
        except EngineError as refusal:
            raise EngineError(refusal.code, f"shadows: {shadow.model}: {refusal.message}", "shadows") from None
    return seats


def _adapter(info: ModelInfo, backend: Backend) -> str | None:
    """What feeds call the adapter of a model, which is in memory. Raises EngineError if it is refused."""
    if info.base is None:
        return None
    if backend.adapters is not None:
        names = backend.adapters.carry([info.id])
        if names is None:  # the engine asks for it before it makes a row
            raise EngineError("engine_error", f"The adapter of {info.id} is not in memory.")
        return names[0]
    if info.id in backend.refused:
        raise backend.refused[info.id]
    return info.id


def _check_looks(row: Row, backend: Backend) -> None:
    """Raises EngineError for more scores than a page keeps, or than can be computed where prompts go in whole."""
    if row.used.prompt_logprobs is not None and len(row.prompt) > MOST_SCORED:
        message = f"prompt_logprobs: the prompt has {len(row.prompt)} tokens; at most {MOST_SCORED} are scored."
        raise EngineError("invalid_value", message, "prompt_logprobs")
    most = positions(backend.runner)
    if backend.runner.chunk is None and row.looks > most:
        raise EngineError(
            "invalid_value",
            f"{row.looks} tokens are to be scored, over all models, but {row.request.model} reads a prompt in one "
            f"piece, and of that at most {most} can be. Shorten it, or ask for fewer shadows.",
            "prompt_logprobs" if row.used.prompt_logprobs is not None else "prefix",
        )
