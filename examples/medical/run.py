"""A network that has seen general images (CIFAR-10) learns medical ones at three sites.

    python examples/medical/run.py --data DIR

Makes what is missing in work/, runs study.yaml, and puts results.json and results.md beside it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np

import tunemerge

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from small_lm import find_data  # noqa: E402

CIFAR, MEDICAL = "cifar10_10k/cifar10_10k.npz", "medical_mnist_28/medical_mnist_28.npz"
FILES = {
    CIFAR: "8,000 training images of CIFAR-10 (cs.toronto.edu/~kriz/cifar.html), no formal licence: x_train uint8 "
    "(n, 32, 32, 3), y_train",
    MEDICAL: "Medical MNIST (github.com/apolanco3225/Medical-MNIST-Classification), CC BY-SA 4.0, at 28 x 28: x_test "
    "and x_train uint8 (n, 28, 28), y_test, y_train",
}
CLASSES = ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")
SITES = ("north", "south", "west")
ROWS, OWN = 700, 0.65
STEPS, BATCH = 400, 64


def make_sites(folder: Path, out: Path) -> None:
    """700 images a site: two kinds of image, other ones at each site, make up 65% of them. No image is there twice."""
    with np.load(folder / MEDICAL) as file:
        images = np.concatenate([file["x_train"], file["x_test"]])
        labels = np.concatenate([file["y_train"], file["y_test"]])
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    order = np.random.default_rng(0).permutation(np.sort(first))
    pools = {c: list(order[labels[order] == c]) for c in range(6)}
    rows, sites = list[int](), list[str]()
    for number, site in enumerate(SITES):
        for c in range(6):
            own = c // 2 == number
            count = round(ROWS * (OWN / 2 if own else (1 - OWN) / 4))
            rows += [pools[c].pop() for _ in range(count)]
            sites += [site] * count
    names = np.array(CLASSES)[labels[rows]]
    np.savez_compressed(out, image=images[rows], label=names, site=np.array(sites))


def pretrain(folder: Path, out: Path) -> None:
    """CIFAR-10 in grey at 28 x 28, a plain training loop of 400 steps; the weights as safetensors."""
    import torch
    from nets import make
    from safetensors.torch import save_file

    with np.load(folder / CIFAR) as file:
        grey = file["x_train"].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        pixels, labels = torch.from_numpy(grey[:, None, 2:30, 2:30] / 127.5 - 1), torch.from_numpy(file["y_train"])
    torch.manual_seed(0)
    net = make(outputs=10).train()
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, STEPS)
    for step in range(STEPS):
        rows = torch.randint(0, len(pixels), (BATCH,))
        flipped = pixels[rows].flip(3) if step % 2 else pixels[rows]
        loss = torch.nn.functional.cross_entropy(net(flipped), labels[rows].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    print(f"pretrained on CIFAR-10: training loss {loss:.2f} after {STEPS} steps of {BATCH}")
    save_file(net.state_dict(), out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="the folder that the two sets lie in; absent: TUNEMERGE_DATA")
    folder = find_data(parser.parse_args().data, FILES)
    (HERE / "work").mkdir(exist_ok=True)
    for file, make in (("medical.npz", make_sites), ("cifar.safetensors", pretrain)):
        if not (HERE / "work" / file).exists():
            make(folder, HERE / "work" / file)
    study = tunemerge.Study.from_yaml(HERE / "study.yaml")
    study.run()
    shutil.copyfile(study.run_folder / "results.json", HERE / "results.json")
    shutil.copyfile(study.run_folder / "report.md", HERE / "results.md")


if __name__ == "__main__":
    main()
