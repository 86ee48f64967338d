"""Nats in words."""

from __future__ import annotations

import math

import pytest

from calib.diagnose.faults.odds import less_likely, one_in


@pytest.mark.parametrize(
    ("nats", "words"),
    [
        (4.6, "99 times less likely"),
        (math.log(100), "100 times less likely"),
        (0.5, "1.6 times less likely"),
        (-0.7, "2 times more likely"),
        (0.0, "as likely"),
        (0.01, "as likely"),
        (2.3, "10 times less likely"),
        (12.0, "160,000 times less likely"),
        (50.0, "10^22 times less likely"),
        (math.inf, "ruled out"),
    ],
)
def test_a_log_likelihood_is_said_in_times(nats: float, words: str) -> None:
    assert less_likely(nats) == words


def test_odds_of_a_healthy_model() -> None:
    assert one_in(math.log(250)) == "1 in 250"
    assert one_in(-3.0) == "1 in 1"
    assert one_in(math.inf) == "never"
