"""A tokenizer of bytes and a few longer pieces: fast to follow, and most texts can be written in several ways."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END = "<end>"
PIECES = ("ab", "{}", '":', "tr", "ue", "true", "nu", "ll", "null", "Ġy", "es", "Ġyes", "yes", "no", "12", "é"[:1])


def tokenizer() -> PreTrainedTokenizerFast:
    """256 bytes, some of `PIECES` and an end; the vocabulary is below 300."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    merges = []
    for piece in PIECES:
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary and piece not in vocabulary:
                vocabulary[piece] = len(vocabulary)
                merges.append((left, right))
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END)
