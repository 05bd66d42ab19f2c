"""A control for instructions that needs no model: the answers of the most similar prompts in the training rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunemerge.tasks.generation import exact_match, rouge_l
from tunemerge.tasks.ngrams import byte_ngrams

_NEIGHBOURS = 10
_NEW = 0.1  # the share of the probability that an answer is none of the neighbours'
_ORDER = 6


def nearest_answers(
    prompts: Sequence[str], answers: Sequence[str], asked: Sequence[str], right: Sequence[str]
) -> np.ndarray:
    """For each of `asked`: minus the log likelihood of its right answer in nats, exact match and ROUGE-L of the answer
    that most of the 10 nearest prompts have, float64 (n, 3).

    Near are prompts by the cosine of their TF-IDF of words and pairs of words. An answer has its share among the
    neighbours' answers, weighted by similarity, and a tenth of what counts of bytes in all training answers give it.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")
    near = np.asarray((words.fit(prompts).transform(asked) @ words.transform(prompts).T).todense())
    free = byte_ngrams(answers, right, _ORDER)
    out = np.empty((len(asked), 3))
    for row, (similar, wanted) in enumerate(zip(near, right, strict=True)):
        shares: dict[str, float] = {}
        for index in np.argsort(-similar, kind="stable")[:_NEIGHBOURS]:
            shares[answers[index]] = shares.get(answers[index], 0.0) + float(similar[index]) + 1e-6
        best = max(shares, key=lambda text: shares[text])
        likely = (1 - _NEW) * shares.get(wanted, 0.0) / sum(shares.values()) + _NEW * np.exp(-free[row])
        nats = -np.log(likely) if likely > 0 else free[row] - np.log(_NEW)
        out[row] = nats, exact_match(best, wanted), rouge_l(best, wanted)
    return out
