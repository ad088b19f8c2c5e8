"""The frozen baseline: PyTorch's well-known MNIST example, written afresh and left as it is.

Two convolutions (32, 64), dropout 0.25 and 0.5, a hidden layer of 128; Adadelta at 1.0, multiplied by 0.7
after each epoch; batches of 64; fp32; each sample transformed by itself. Nothing here is tuned, and nothing
here may change: a test holds the digest of this file, so that every saving is one against the same thing.
EPOCHS is the fewest that reach 98.9 % on average of five seeds (docs/decisions/0010-frozen-baseline.md).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from projects.mnist import data, report
from projects.mnist.config import program
from projects.mnist.step import pick_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from projects.mnist.config import Config

EPOCHS = 4
PARAMS = {
    "trainer": "baseline",
    "epochs": str(EPOCHS),
    "batch_size": "64",
    "lr": "1.0",
    "amp": "off",
    "accum": "1",
}
ACCEPTS = ("data_dir", "device", "seed", "threads", "zone")


class Net(nn.Module):
    """The network of the example: 1.2 million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the ten digits."""
        x = functional.relu(self.conv1(x))
        x = functional.relu(self.conv2(x))
        x = self.dropout1(functional.max_pool2d(x, 2))
        x = functional.relu(self.fc1(torch.flatten(x, 1)))
        return functional.log_softmax(self.fc2(self.dropout2(x)), dim=1)


class Samples(Dataset[tuple[torch.Tensor, int]]):
    """Images turned into normalised tensors one by one, as the example's transforms do."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.images, self.labels = torch.from_numpy(images.copy()), labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """One image (1, 28, 28) with the training set's mean and deviation taken out, and its label."""
        image = self.images[index].unsqueeze(0).float().div(255)
        mean = torch.as_tensor((0.1307,)).view(-1, 1, 1)
        deviation = torch.as_tensor((0.3081,)).view(-1, 1, 1)
        return image.sub_(mean).div_(deviation), int(self.labels[index])


class Epoch(NamedTuple):
    """What one epoch came to."""

    train_loss: float
    test_loss: float
    test_accuracy: float
    lr: float


def train(dataset: data.Dataset, net: Net, *, epochs: int, device: torch.device) -> Iterator[Epoch]:
    """Train, one epoch at a time; the caller has set the seed."""
    net.to(device)
    train_loader = DataLoader(
        Samples(dataset.train_images, dataset.train_labels), batch_size=64, shuffle=True
    )
    test_loader = DataLoader(Samples(dataset.test_images, dataset.test_labels), batch_size=1000)
    optimiser = torch.optim.Adadelta(net.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimiser, step_size=1, gamma=0.7)
    for _ in range(epochs):
        net.train()
        total = 0.0
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)  # noqa: PLW2901 - as the example has it
            optimiser.zero_grad()
            loss = functional.nll_loss(net(images), labels)
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            optimiser.step()
            total += loss.item() * len(labels)
        test_loss, test_accuracy = test(net, test_loader, device)
        lr = float(scheduler.get_last_lr()[0])
        scheduler.step()
        yield Epoch(total / len(dataset.train_labels), test_loss, test_accuracy, lr)


def test(net: Net, loader: DataLoader[tuple[torch.Tensor, int]], device: torch.device) -> tuple[float, float]:
    """Mean loss and accuracy over a loader."""
    net.eval()
    loss, correct, seen = 0.0, 0, 0
    with torch.no_grad():
        for images, labels in loader:
            output, wanted = net(images.to(device)), labels.to(device)
            loss += functional.nll_loss(output, wanted, reduction="sum").item()
            correct += int((output.argmax(dim=1) == wanted).sum())
            seen += len(labels)
    return loss / seen, correct / seen


def run(config: Config) -> int:
    """Train the baseline as configured. Returns the exit code."""
    dataset = data.load(config.data_dir)
    device = pick_device(config.device)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    params = {name: value for name, value in config.as_params().items() if name in ACCEPTS}
    with report.opened(config, params=PARAMS | params, dataset=dataset.name) as log:
        net = Net()
        for number, epoch in enumerate(train(dataset, net, epochs=EPOCHS, device=device), start=1):
            values = {
                "train/loss": epoch.train_loss,
                "train/lr": epoch.lr,
                "test/loss": epoch.test_loss,
                "test/accuracy": epoch.test_accuracy,
            }
            log.epoch(number, values, images=len(dataset.train_labels))
        log.model(net, dtype="float32", shape=(1, 28, 28))
    return log.finish()


def main(argv: Sequence[str]) -> int:
    """The command line."""
    return program(run, argv, accepts=ACCEPTS)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
