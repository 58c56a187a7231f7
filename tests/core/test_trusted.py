"""Trusted holders, whatever stack carries the messages."""

from dataclasses import dataclass, field
from functools import partial

import backdoored
import numpy as np
import pytest
from in_process import as_elsewhere, split

import flain_core as flain
import flain_numpy
from flain_core import FlainWarning
from flain_core.federated import letters
from flain_core.federated.holder import answered
from flain_core.federated.trusted import MissedError, Trusted

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
    timeouts: list = field(default_factory=list)
    sizes: list = field(default_factory=list)
    memories: dict = field(default_factory=dict)
    keeps: bool = True
    parts: list = field(default_factory=lambda: PARTS)

    @property
    def whom(self):
        return self.sites

    def connected(self):
        return range(len(self.parts))

    def send(self, letters, timeout):
        self.asked.append(list(letters))
        self.timeouts.append(timeout)
        self.sizes.append({site: size(letter) for site, letter in letters.items()})
        replies = {
            site: partial(
                answered,
                letter,
                UNTRAINED,
                self.parts[site],
                batch_size=SIZE,
                memory=self.memories.setdefault(site, {}) if self.keeps else None,
            )
            for site, letter in letters.items()
        }
        return {site: self.tamper.get(site, reply) for site, reply in replies.items()}


def size(arrays):
    return sum(array.nbytes for array in arrays.values())


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
    "a reason without end": (flain.DataError("n" * 10_000), r"on: n{100} \.\.\. n{395}$"),
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
    with pytest.raises(flain.SettingsError, match="at least 3 sites, as merging='trimmed_mean'"):
        TrustedSites([0, 1], merging="trimmed_mean", least=1)


def test_what_can_never_be_asked_is_refused_at_once():
    with pytest.raises(flain.SettingsError, match=r"at least 9 sites.*least=9 need; got 2"):
        TrustedSites([0, 1], least=9)
    with pytest.raises(flain.SettingsError, match="tries to be at most 10"):
        TrustedSites([0, 1], tries=1100)


def test_ids_may_be_of_the_types_of_numpy():
    assert TrustedSites(np.array([0, 1])).whom == [0, 1]
    assert TrustedSites([np.int64(0), np.int64(1)]).whom == [0, 1]
    with pytest.raises(flain.SettingsError, match="of the type int"):
        TrustedSites([0.0, 1.0])


# --- Questions that were missed ------------------------------------------------------------------


def misses(times, error=None):
    """A reply that fails so many times and then is as it was."""
    left = [times]

    def tampered(reply):
        if left[0]:
            left[0] -= 1
            return raises(error) if error else None
        return reply

    return tampered


@dataclass(frozen=True)
class Unreliable(TrustedSites):
    """Sites of which some miss a question."""

    missing: dict = field(default_factory=dict)

    def send(self, letters, timeout):
        replies = super().send(letters, timeout)
        for site, tampered in self.missing.items():
            if site in replies:
                replies[site] = tampered(replies[site])
        return {site: reply for site, reply in replies.items() if reply}


@pytest.mark.parametrize("error", [None, MissedError("it is not connected")])
def test_a_missed_question_is_asked_again_with_twice_the_patience(error):
    sites = Unreliable(missing={1: misses(1, error)}, timeout=7)
    result = purify(sites)
    np.testing.assert_array_equal(result.layers[0].flipped, serial(*PARTS).layers[0].flipped)
    assert sites.asked == [[0, 1, 2], [1]] + [[0, 1, 2]] * 4
    assert sites.timeouts[:3] == [7, 14, 7]


def test_one_that_misses_it_again_is_left_out():
    sites = Unreliable(missing={1: misses(9)}, timeout=7)
    with pytest.warns(FlainWarning, match="site 1, .*: no answer came within 14 seconds") as told:
        result = purify(sites)
    (said,) = [str(each.message) for each in told if "site 1" in str(each.message)]
    assert said in result.notes
    assert said in result.warnings
    assert sites.asked[:3] == [[0, 1, 2], [1], [0, 2]]
    assert all(1 not in asked for asked in sites.asked[2:])


def test_it_may_be_asked_once_or_often():
    sites = Unreliable(missing={1: misses(9, MissedError("gone\x1b"))}, tries=1)
    with pytest.warns(FlainWarning, match=r"site 1, .*: gone\?"):
        purify(sites)
    assert sites.asked[:2] == [[0, 1, 2], [0, 2]]
    sites = Unreliable(missing={1: misses(3)}, tries=4, timeout=1)
    assert purify(sites).asked.messages == 3 * 5 + 3
    assert sites.timeouts[:4] == [1, 2, 4, 8]


# --- What travels, and what holders keep ---------------------------------------------------------


@pytest.fixture
def worth_keeping(monkeypatch):
    """The arrays of these small models count as large."""
    monkeypatch.setattr(letters, "_WORTH_KEEPING", 64)


def test_the_model_travels_once(worth_keeping):
    sites, forgetful = TrustedSites(), TrustedSites(keeps=False)
    result, same = purify(sites), purify(forgetful)
    np.testing.assert_array_equal(result.layers[0].flipped, same.layers[0].flipped)
    assert (result.before, result.after) == (same.before, same.after)
    down = [sizes[0] for sizes in sites.sizes]
    every = [sizes[0] for sizes in forgetful.sizes]
    model = size(flain_numpy.arrays_of(FINAL))
    assert down[0] == every[0] > model
    assert all(one > model for one in every)
    # Once more, for the proof, the initial weight of the layer.
    initial = UNTRAINED.layers()["fc1"].weight.nbytes
    assert max(down[1:]) < initial + 300
    assert sum(down) < 2 * model + 1500  # hashes and names, which count here


def test_the_purified_weight_is_told_by_its_number(worth_keeping):
    class Telling(TrustedSites):
        def send(self, letters, timeout):
            questions.append({name: len(each) for name, each in letters[0].items() if each.ndim})
            return super().send(letters, timeout)

    questions = []
    purify(Telling())
    assert not any(name.startswith("weight of") for each in questions for name in each)
    assert questions[-1]["n_flipped"] == 1
    questions.clear()
    settings = flain.Settings(match_norm=True)
    flain.purify(FINAL, initial=UNTRAINED, data=Telling(), settings=settings)
    assert any(name.startswith("weight of") for name in questions[-1])


@pytest.mark.parametrize("layers", ["auto", "all"])
@pytest.mark.parametrize("when", range(1, 5))
def test_a_holder_that_lost_its_memory_is_sent_everything(when, layers, worth_keeping):
    class Restarted(TrustedSites):
        def send(self, letters, timeout):
            if len(self.asked) == when:
                self.memories.clear()
            return super().send(letters, timeout)

    sites = Restarted()
    result = flain.purify(FINAL, initial=UNTRAINED, data=sites, layers=layers)
    whole = flain.purify(FINAL, initial=UNTRAINED, data=TrustedSites(keeps=False), layers=layers)
    for ours, theirs in zip(result.layers, whole.layers, strict=True):
        np.testing.assert_array_equal(ours.flipped, theirs.flipped)
    assert result.after == whole.after
    assert result.asked.questions == whole.asked.questions
    assert result.asked.messages == whole.asked.messages + 3


def test_what_a_holder_keeps_is_no_more_than_the_last_question_said(worth_keeping):
    sites = TrustedSites()
    flain.purify(FINAL, initial=UNTRAINED, data=sites, layers="all")
    model = size(flain_numpy.arrays_of(FINAL))
    assert all(size(memory) < 3 * model for memory in sites.memories.values())


LIES = {
    "lacks everything for ever": (lambda answer: dict(letters.LACKING), "left nothing out"),
    "keeps what is no hash": (lambda answer: answer | {"kept": np.ones(3)}, "SHA-256"),
    "keeps text": (lambda answer: answer | {"kept": "all"}, "SHA-256"),
}


@pytest.mark.parametrize(("lie", "told"), LIES.values(), ids=LIES)
def test_a_holder_that_lies_about_what_it_keeps_is_left_out(lie, told, worth_keeping):
    class Lied(TrustedSites):
        def send(self, letters, timeout):
            replies = super().send(letters, timeout)
            return {
                site: (lambda reply=reply: lie(reply())) if site == 1 else reply
                for site, reply in replies.items()
            }

    with pytest.warns(FlainWarning, match=f"site 1, .*{told}"):
        result = purify(Lied())
    expected = serial(PARTS[0], PARTS[2])
    np.testing.assert_array_equal(result.layers[0].flipped, expected.layers[0].flipped)


def test_one_that_claims_to_keep_everything_is_sent_everything_when_it_asks(worth_keeping):
    class Boastful(TrustedSites):
        """Says it keeps what it has thrown away."""

        def send(self, letters, timeout):
            replies = super().send(letters, timeout)
            read = {site: reply() for site, reply in replies.items()}
            self.memories.clear()
            return {site: partial(dict, answer) for site, answer in read.items()}

    result = purify(Boastful())
    assert result.asked.messages == 3 * (5 + 4)
    np.testing.assert_array_equal(result.layers[0].flipped, serial(*PARTS).layers[0].flipped)


def test_the_outcome_says_what_it_took():
    sites = TrustedSites()
    result = purify(sites)
    asked = result.asked
    assert (asked.holders, asked.kind, asked.questions, asked.messages) == (3, "site", 5, 15)
    assert asked.bytes_down == sum(sum(sizes.values()) for sizes in sites.sizes)
    assert 0 < asked.bytes_up < asked.bytes_down
    assert 0 < asked.seconds < result.seconds
    assert str(asked) in result.notes
    assert result.to_dict()["asked"]["bytes_down"] == asked.bytes_down
    assert serial(*PARTS).asked is None
    assert serial(*PARTS).to_dict()["asked"] is None


# --- Options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tries": 0}, "tries"),
        ({"outputs": "softmax"}, "outputs"),
        ({"largest_share": 0}, "a largest_share"),
    ],
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
