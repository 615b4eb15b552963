"""A network of the zoo must give what the oracle gives."""

from __future__ import annotations

import warnings

from tests.zoo.networks import networks
from tests.zoo.trial import TOLERANCE, try_network


def assert_agrees(key: str) -> None:
    """Tries a network, and fails where it is refused or wrong."""
    (network,) = (each for each in networks() if each.key == key)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = try_network(network)
    assert found.refused == ""
    assert found.error is not None
    assert found.error <= TOLERANCE
