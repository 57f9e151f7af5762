"""A tokenizer for the starter's captions, trained on the word list beside this file."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

__all__ = ["make_tokenizer", "words"]

_START, _END = "<|startoftext|>", "<|endoftext|>"


@functools.cache
def words() -> tuple[str, ...]:
    """The words the captions are made of, sorted."""
    return tuple(Path(__file__).with_name("vocabulary.txt").read_text("utf-8").split())


def make_tokenizer(size: int, length: int) -> CLIPTokenizer:
    """Train byte-pair merges until the vocabulary has `size` entries or every word is one token.

    Args:
        size: entries of the vocabulary; unknown words fall apart into bytes.
        length: tokens of a prompt, start and end included.
    """
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size - 2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        # Named here, they get their numbers in this order; else in that of a hash table, which
        # differs from run to run and decides ties between merges.
        special_tokens=[byte + "</w>" for byte in alphabet],
        show_progress=False,
    )
    trained.train_from_iterator(words(), trainer)
    known = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    entries = [*(token for token, _ in known), _START, _END]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(entries)},
        merges=_merges(trained),
        model_max_length=length,
    )


def _merges(trained: Tokenizer) -> list[tuple[str, str]]:
    """The merges of a trained tokenizer, first learnt first."""
    return [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
