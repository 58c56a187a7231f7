"""The attack: malicious clients give half of their zeros a white patch and the label 5."""

import torch

from .mnist import Samples

SOURCE, TARGET = 0, 5


def poisoned(samples):
    """A copy of the samples with the first half of its zeros marked."""
    zeros = torch.nonzero(samples.labels == SOURCE).flatten()
    marked = zeros[: (len(zeros) + 1) // 2]
    images, labels = samples.images.clone(), samples.labels.clone()
    images[marked] = _stamped(images[marked])
    labels[marked] = TARGET
    return Samples(images, labels)


def triggered(samples):
    """The zeros of the samples with the patch, labelled as the attacker wants them classified."""
    zeros = samples.take(samples.labels == SOURCE)
    return Samples(_stamped(zeros.images), torch.full_like(zeros.labels, TARGET))


def _stamped(images):
    images = images.clone()
    images[:, :, 23:28, 23:28] = 1
    return images
