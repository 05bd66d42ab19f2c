"""A small CLIP that has seen general images (CIFAR-10) learns clothes, digits and medical scans, and answers all three.

    python examples/captions/run.py --data DIR

Makes what is missing in work/, runs study.yaml, and puts results.json and results.md beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import yaml

import tunemerge

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from small_lm import find_data  # noqa: E402

CIFAR = "cifar10_10k/cifar10_10k.npz"
ARRAYS = "x_train, y_train, x_test, y_test, uint8"
FILES = {
    CIFAR: f"10,000 images of CIFAR-10 (cs.toronto.edu/~kriz/cifar.html), no formal licence: {ARRAYS} (n, 32, 32, 3)",
    "fashion_mnist_14k/fashion_mnist_14k.npz": "14,000 images of Fashion-MNIST (github.com/zalandoresearch/"
    f"fashion-mnist), MIT: {ARRAYS} (n, 28, 28), with 2,000 of them as x_test",
    "mnist_10k/mnist_10k.npz": "the 10,000 test digits of MNIST (yann.lecun.org/exdb/mnist), CC BY-SA 3.0: the same "
    "arrays, with 2,000 of them as x_test",
    "medical_mnist_28/medical_mnist_28.npz": "Medical MNIST (github.com/apolanco3225/Medical-MNIST-Classification), "
    "CC BY-SA 4.0, at 28 x 28: the same arrays, with 1,800 of them as x_test",
}
SEEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CAPTION = "a photo of a {label}"
MARKS = ["<pad>", "<unk>", "<start>", "<end>"]
VISION = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
TEXT = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}


def captions() -> list[str]:
    """Of CIFAR-10 and of all tasks of the study."""
    tasks = yaml.safe_load((HERE / "study.yaml").read_text("utf-8"))["tasks"].values()
    own = [task["caption"].replace("{label}", label) for task in tasks for label in task["labels"].values()]
    return [CAPTION.replace("{label}", label) for label in SEEN] + own


def write_start(out: Path) -> None:
    """A CLIP of random weights, for grey images of 28 x 28, and a tokenizer with a token for each word of a caption."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    words = dict.fromkeys(word for caption in captions() for word in caption.split())
    tokens = {word: i for i, word in enumerate([*MARKS, *words])}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[(mark, tokens[mark]) for mark in ("<start>", "<end>")]
    )
    named = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<start>", "eos_token": "<end>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=16, **named).save_pretrained(out)
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = CLIPConfig(
        text_config={**TEXT, **ids, "vocab_size": len(tokens), "max_position_embeddings": 16},
        vision_config={**VISION, "image_size": 28, "patch_size": 7, "num_channels": 1},
        projection_dim=64,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(out)


def make_base(data: Path, out: Path) -> None:
    """CIFAR-10's training images in grey by their captions."""
    write_start(out.with_name("untrained"))
    with np.load(data / CIFAR) as file:
        np.savez(out.with_name("cifar.npz"), image=file["x_train"], label=np.array(SEEN)[file["y_train"]])
    how = {"learning_rate": 1e-3, "schedule": "cosine", "batch_size": 64, "evaluations": 1, "epochs": 6}
    tuned = tunemerge.tune(
        out.with_name("untrained"), out.with_name("cifar.npz"), out, task="image-text", size=28, channels=1,
        caption=CAPTION, **how,
    )  # fmt: skip
    print(f"pretrained on CIFAR-10: training loss {tuned.curve[-1].train_loss:.2f}, {tuned.cost.examples} examples")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="the folder that the four sets lie in; absent: TUNEMERGE_DATA")
    data = find_data(parser.parse_args().data, FILES).resolve()
    os.environ["TUNEMERGE_DATA"] = str(data)
    (HERE / "work").mkdir(exist_ok=True)
    if not (HERE / "work" / "clip").is_dir():
        make_base(data, HERE / "work" / "clip")
    study = tunemerge.Study.from_yaml(HERE / "study.yaml")
    study.run()
    shutil.copyfile(study.run_folder / "results.json", HERE / "results.json")
    shutil.copyfile(study.run_folder / "report.md", HERE / "results.md")


if __name__ == "__main__":
    main()
