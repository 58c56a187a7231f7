"""Trusted holders, whatever stack carries the messages."""

from dataclasses import dataclass, field
from functools import partial

import backdoored
import numpy as np
import pytest
from in_process import as_elsewhere, split

import flain_core as flain
from flain_core import FlainWarning
from flain_core.federated.holder import answered
from flain_core.federated.trusted import Trusted

CLEAN = backdoored.samples(300, seed=11)
UNTRAINED, FINAL = backdoored.networks()
PARTS, SIZE = split(CLEAN, 3)


@dataclass(frozen=True)
class TrustedSites(Trusted[int]):
    """The shortest stack: it answers at once."""

    kind = "site"
    argument = "sites"
    id_type = int

    sites: object = "all"
    tamper: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    parts: list = field(default_factory=lambda: PARTS)

    @property
    def whom(self):
        return self.sites

    def connected(self):
        return range(len(self.parts))

    def send(self, arrays, holders):
        self.asked.append(list(holders))
        replies = {
            site: partial(answered, arrays, UNTRAINED, self.parts[site], batch_size=SIZE)
            for site in holders
        }
        return {site: self.tamper.get(site, reply) for site, reply in replies.items()}


def purify(sites):
    return flain.purify(FINAL, initial=UNTRAINED, data=sites)


def serial(*parts):
    x, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return flain.purify(
        FINAL, initial=UNTRAINED, data=(x, y), batch_size=SIZE, settings=as_elsewhere()
    )


def raises(error):
    def reply():
        raise error

    return reply


def test_the_answer_is_that_of_all_samples_in_one_place():
    sites = TrustedSites()
    result, expected = purify(sites), serial(*PARTS)
    np.testing.assert_array_equal(result.layers[0].flipped, expected.layers[0].flipped)
    assert result.before == expected.before
    assert sites.asked == [[0, 1, 2]] * 5


FAILURES = {
    "a reason that drives a terminal": (flain.DataError("it failed: \x1b[2J"), r"failed: \?\[2J$"),
    "a reason without end": (flain.DataError("n" * 10_000), "on: n{500}$"),
    "anything else": (OSError("\x1b[2J"), r"its answer cannot be read \(OSError\)$"),
}


@pytest.mark.parametrize(("error", "told"), FAILURES.values(), ids=FAILURES)
def test_a_holder_that_failed_is_told_of_in_plain_text_and_asked_no_more(error, told):
    sites = TrustedSites(tamper={1: raises(error)})
    with pytest.warns(FlainWarning, match=f"^site 1, which holds .*{told}"):
        result = purify(sites)
    expected = serial(PARTS[0], PARTS[2])
    np.testing.assert_array_equal(result.layers[0].flipped, expected.layers[0].flipped)
    assert sites.asked == [[0, 1, 2]] + [[0, 2]] * (len(sites.asked) - 1)


def test_more_than_half_have_to_answer_unless_told_otherwise():
    fail = {site: raises(flain.DataError("no samples")) for site in (0, 1)}
    with (
        pytest.warns(FlainWarning, match="left out"),
        pytest.raises(flain.DataError, match=r"at least 2 holders .*; 1 did"),
    ):
        purify(TrustedSites(tamper=fail))
    with pytest.warns(FlainWarning, match="left out"):
        assert purify(TrustedSites(tamper=fail, least=1)).layers[0].flipped.any()


def test_a_trimmed_mean_goes_on_without_a_holder_as_long_as_three_are_left():
    five, _ = split(CLEAN, 5)
    gone = {1: raises(flain.DataError("gone"))}
    sites = TrustedSites(merging="trimmed_mean", tamper=gone, parts=five)
    with pytest.warns(FlainWarning, match="site 1, .* left out"):
        assert purify(sites).layers[0].flipped.any()


def test_and_says_that_it_needs_three_where_fewer_are():
    told = r"at least 3 holders .* \(merging='trimmed_mean' needs 3\); 2 did"
    sites = TrustedSites(merging="trimmed_mean", tamper={1: raises(flain.DataError("gone"))})
    with (
        pytest.warns(FlainWarning, match="site 1, .* left out"),
        pytest.raises(flain.DataError, match=told),
    ):
        purify(sites)
    with pytest.raises(flain.DataError, match="at least 3 trusted sites to ask; there are 2"):
        purify(TrustedSites([0, 1], merging="trimmed_mean", least=1))


@pytest.mark.parametrize(
    ("options", "told"),
    [({"outputs": "softmax"}, "outputs"), ({"largest_share": 0}, "a largest_share")],
)
def test_options_are_checked_at_once(options, told):
    with pytest.raises(flain.SettingsError, match=told):
        TrustedSites(**options)


@pytest.mark.parametrize("whom", [[], [1, 1], ["1"], "1", 5, None])
def test_whom_to_ask_is_checked_at_once(whom):
    told = r'expected sites to be the ids of the trusted sites .*, or "all"; got'
    with pytest.raises(flain.SettingsError, match=told):
        TrustedSites(whom)


@pytest.mark.parametrize("timeout", [None, "5", [], True, 0, -1.0, float("nan")])
def test_a_timeout_that_is_no_time_is_refused(timeout):
    with pytest.raises(flain.SettingsError, match="timeout"):
        TrustedSites(sites=[1, 2], timeout=timeout)
