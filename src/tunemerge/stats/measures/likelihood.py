"""Of texts: outputs [n, 3] are minus the log likelihood of a text in nats, its tokens, its bytes. Of completions the
same and, where an answer was generated, two columns more: its exact match and ROUGE-L. Of documents
of the evaluation harness one column more: its own score."""

from __future__ import annotations

import numpy as np

from tunemerge.stats.metrics import METRICS, Floats, Metric, mean_of


def _nll(target: Floats, likelihood: Floats, weights: Floats) -> Floats:
    """Nats a token; comparable under one tokenizer alone."""
    return np.asarray(weights @ likelihood[:, 0] / (weights @ likelihood[:, 1]), np.float64)


def _perplexity(target: Floats, likelihood: Floats, weights: Floats) -> Floats:
    return np.asarray(np.exp(np.minimum(_nll(target, likelihood, weights), 700.0)), np.float64)


def _bits_per_byte(target: Floats, likelihood: Floats, weights: Floats) -> Floats:
    """What is needed to send the text: comparable across tokenizers, which nats a token are not."""
    return np.asarray(weights @ likelihood[:, 0] / (np.log(2.0) * (weights @ likelihood[:, 2])), np.float64)


def _exact_match(target: Floats, completion: Floats) -> Floats:
    return completion[:, 3]


def _harness_score(target: Floats, answers: Floats) -> Floats:
    return answers[:, 3]


def _rouge_l(target: Floats, completion: Floats) -> Floats:
    return completion[:, 4]


for _metric in (
    Metric("bits_per_byte", False, _bits_per_byte, upper=np.inf, prediction="likelihood"),
    Metric("nll_per_token", False, _nll, upper=np.inf, prediction="likelihood"),
    Metric("perplexity", False, _perplexity, lower=1.0, upper=np.inf, prediction="likelihood"),
    Metric("completion_bits_per_byte", False, _bits_per_byte, upper=np.inf, prediction="completion"),
    Metric("completion_nll", False, _nll, upper=np.inf, prediction="completion"),
    Metric("exact_match", True, mean_of(_exact_match), _exact_match, prediction="completion", generated=True),
    Metric("rouge_l", True, mean_of(_rouge_l), _rouge_l, prediction="completion", generated=True),
    Metric("lm_eval_nll", False, _nll, upper=np.inf, prediction="harness"),
    Metric(
        "lm_eval", True, mean_of(_harness_score), _harness_score, -np.inf, np.inf, prediction="harness", generated=True
    ),
):
    METRICS.add(_metric.name, _metric)
