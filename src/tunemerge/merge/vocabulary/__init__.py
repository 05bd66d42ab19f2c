"""Models with different tokenizers, brought to one vocabulary: the output's tokenizer, and rows that mean the same.

`parse_tokenizer` reads the recipe's keys into a `TokenizerRequest`; `plan_vocabulary` reads the tokenizers and plans;
`Vocabulary.apply` gives the models as they look through it, `Vocabulary.write` the tokenizer's files and
`Vocabulary.config_changes` what config.json must say, which `with_changes` applies.
"""

from tunemerge.merge.vocabulary.config import with_changes
from tunemerge.merge.vocabulary.plan import plan_vocabulary
from tunemerge.merge.vocabulary.request import ModelToken, TokenizerRequest, TokenRule, parse_tokenizer
from tunemerge.merge.vocabulary.view import RemappedModel
from tunemerge.merge.vocabulary.vocabulary import Vocabulary

__all__ = [
    "ModelToken",
    "RemappedModel",
    "TokenRule",
    "TokenizerRequest",
    "Vocabulary",
    "parse_tokenizer",
    "plan_vocabulary",
    "with_changes",
]
