"""A small convolutional network for grey images of 16 x 16: 52,000 parameters."""

from torch import nn


def make(width: int = 16, outputs: int = 10) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.1), nn.Linear(32 * width, 90), nn.ReLU(), nn.Linear(90, outputs),
    )  # fmt: skip
