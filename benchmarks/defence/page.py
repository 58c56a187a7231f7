"""The page "How well does it work, and when does it not": text around the tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from . import summary, tables, tables_of_runs, tables_of_samples
from .advice import advice
from .stored import Stored

_FIGURES = "figures"


def page(stored: Stored, figures: Collection[str]) -> str:
    """The page as Markdown; ``figures`` are the names of those that were drawn."""
    parts = [
        *_beginning(stored),
        *_attacks(stored),
        *_targets(stored),
        *(rivals(stored, figures) if tables.compared(stored) else ()),
        *_strategies(stored),
        *_samples(stored, figures),
        *_told(stored),
        *depth(stored, figures),
        *_tried(),
        *end(stored),
    ]
    return "\n\n".join(parts) + "\n"


def missing(stored: Stored) -> str | None:
    """How much of the matrix is not there; None where everything is."""
    rows, cells = stored.profile.rows, stored.profile.cells
    if len(stored.trained) == len(rows) and len(stored.outcomes) == len(cells):
        return None
    return (
        f"**The matrix is incomplete.** {len(stored.trained):,} of {len(rows):,} rows are trained, "
        f"and {len(stored.outcomes):,} of {len(cells):,} results are there. An em dash stands for "
        "what is missing; a number in brackets says how many results a figure is of, or should be."
    )


def _beginning(stored: Stored) -> Iterator[str]:
    yield "# How well does it work, and when does it not"
    if (note := missing(stored)) is not None:
        yield note
    yield (
        "`python -m benchmarks.defence render` writes this page from the results of the "
        f"`{stored.profile.name}` matrix; nobody types a figure. `benchmarks/defence/README.md` "
        "says how the federations are trained and attacked. Test images choose nothing: not "
        "flain's settings, and not those of any other defence."
    )
    yield "## The answer"
    yield (
        "*Clean* counts the models on which ASR is at most "
        f"{100 * summary.CLEAN_ASR:.0f} % and ACC has dropped by at most "
        f"{100 * summary.CLEAN_DROP} points, on test images. The numbers above the columns are the "
        "auxiliary samples. *Attacked* are the models of FedAvg and of attackers who do not know "
        "flain. *Up to 0.1* is the default rule of release 0.1 (`flain-published-default`): whole "
        "neurons, until the first net loss of 0.2 points of accuracy. An attack that did not reach "
        "an ASR of "
        f"{100 * summary.TOOK:.0f} % before any defence is left out of every mean."
    )
    yield tables.first(stored)
    yield "## Advice"
    yield "Computed from the results that are there."
    yield "\n".join(f"- {sentence}" for sentence in advice(stored))


def _attacks(stored: Stored) -> Iterator[str]:
    yield "## Each attack"
    yield (
        f"flain with {summary.MOST} samples, or with as many as the data set has: means ± standard "
        "deviations (of a sample) over seeds. RA is the share of triggered images that the "
        "purified model calls what they are. *Newly wrong* is the share of test images that were "
        "right before and are wrong after."
    )
    yield tables.attacks(stored)
    yield "These attacks did not take and are left out of the means:"
    yield tables.untaken(stored)


def _targets(stored: Stored) -> Iterator[str]:
    yield "## Each target"
    yield (
        "How much of an update is quiet on clean data differs between classes without an attack "
        "too: more of it is quiet for a class that is hard to learn, as class 5 of CIFAR-10, the "
        "dogs. So a defence may seem to find the class that an attacker wants, and find a hard "
        "one. Rows with `t1` in their names have attackers who want class 1; rows without a target "
        f"have class 5. The table is of flain with {summary.MOST} samples, or as many as there "
        "are, on all models whose attack took."
    )
    yield tables.targets(stored)


def rivals(stored: Stored, figures: Collection[str]) -> Iterator[str]:
    """Every defence on the same models."""
    yield "## Other defences"
    yield (
        f"Every defence gets the same {summary.MOST} samples and the same models, and has one "
        "setting for all of them. The tables hold the rows on which none is missing. Each rival "
        "is written from its paper."
    )
    yield from _figure("trade", "ASR after against the drop of ACC", figures)
    for name, test in summary.DATA.items():
        runs = tables.rivals_runs(stored, test)
        if runs:
            yield f"### {name}"
            yield tables.rivals(stored, test)
            yield tables.foremost(stored, test)
    yield "### Refusals"
    yield tables.refusals(stored)


def _strategies(stored: Stored) -> Iterator[str]:
    yield "## Robust strategies"
    yield (
        "The strategy alone, and followed by flain. Here attacks that did not take are counted, as "
        "that is what a robust strategy is for."
    )
    yield tables.strategies(stored)


def _samples(stored: Stored, figures: Collection[str]) -> Iterator[str]:
    yield "## Auxiliary samples"
    yield "### How many"
    yield from _figure("samples", "Drop of ACC and ASR by samples", figures)
    yield tables_of_samples.sizes(stored)
    yield "### Shifted and poisoned ones"
    yield (
        "The samples are made brighter, noisy or inverted, or 5 % of them carry the trigger and "
        "the attacker's target as their label. The first lines are clean samples for the same rows."
    )
    yield tables_of_samples.shifted(stored)
    yield "### Several draws"
    yield (
        "The same models with several draws of samples. The deviation is that between the draws "
        "for one model, as a mean over models."
    )
    yield tables_of_samples.draws(stored)


def _told(stored: Stored) -> Iterator[str]:
    yield "## What flain says about itself"
    yield "### The promise"
    yield (
        "flain may promise that at most some share of new samples drawn like the auxiliary ones is "
        "newly wrong, with a confidence of 95 %. It is broken where a greater share of the test "
        "images is newly wrong. So about one in twenty may be broken. Test images count as drawn "
        "alike, which they are not quite; of shifted or poisoned samples nothing is promised."
    )
    yield tables_of_runs.promises(stored)
    yield "### The verdict"
    yield (
        "The table counts every result of flain with clean samples, whatever their number, by what "
        "flain said, and says what was left of the backdoors that took. Partly flipped "
        "means: little of the whole update, but a tenth or more of what it says for some class."
    )
    yield tables_of_runs.verdicts(stored)
    yield (
        "The same results by how much was flipped of what the update says for the class that flain "
        "flips most strongly. That class need not be the attacker's, and flain cannot know."
    )
    yield tables_of_runs.class_shares(stored)


def depth(stored: Stored, figures: Collection[str]) -> Iterator[str]:
    """How soon a backdoor comes back, and how far away it is."""
    yield "## Does it come back?"
    yield (
        "Attackers go on training: after each round the model moves 0.3 of the way to a client "
        "that trained on its poisoned images. Up to five rounds. Rows without an attacker show how "
        "fast a model learns the backdoor that it never had. A line has one number of rounds for "
        "each seed, and ASR as means over seeds."
    )
    yield tables_of_runs.relearning(stored)
    yield (
        "ASR on the straight line from the weights before a defence to those after shows how far "
        "the backdoor is."
    )
    yield from _figure("path", "ASR along the line between the models", figures)


def _tried() -> Iterator[str]:
    yield "## What was tried and not kept"
    yield (
        "What is kept was chosen on models that are not in these results. Where a sentence names "
        "the models of these tables, they were looked at afterwards.\n\n"
        "- *Flipping whole neurons and repairing the others.* At the same loss it left more of the "
        "backdoors than flipping directions, of attackers who know flain above all.\n"
        "- *Shrinking the covariance towards one number* instead of its diagonal. It forgets which "
        "inputs are quiet, and left backdoors where there are few samples.\n"
        "- *A factor of 2, 4 or 6 in directions.* At the same loss, a factor of 2 left more of the "
        "backdoors than 3. From 4 on, triggered images were taken for still other classes.\n"
        "- *One strength for all classes.* At the same loss it left more of the backdoors, of "
        "attackers who know flain and on CIFAR-10 above all.\n"
        "- *Directions of the outputs found from the update alone*, those in which the greatest "
        "share of it is quiet, instead of the directions of the classes. On CIFAR-10 the backdoor "
        "lay spread over all of them, and at the same loss more was left, of patches many times as "
        "much.\n"
        "- *The greatest quiet share first*, whatever is usual for a class as hard to learn. "
        "Classes that are hard to learn have more of it without an attack; where the attacker's "
        "target was an easy class of CIFAR-10, most of the backdoor was left. *What is usual by a "
        "regression over the other classes of the same model*, instead of always the same slopes. "
        "The regression fitted its slopes to noise, and on CIFAR-10 more was left with 800, 300 "
        "and 100 samples. On the CIFAR-10 models of these tables it left about as much with 100 "
        "samples, and far less of one patch in one of five draws of 300.\n"
        "- *Each class beside all others alone*, without the differences of two classes. The "
        "attacker's class came first less often, and with a smaller lead.\n"
        "- *The order of the classes by quiet shares alone*, without the votes of quiet inputs. "
        "The attacker's class often came third or later for triggers that cover the image of "
        "CIFAR-10, and behind batch norm, and the backdoor stayed. *The class that becomes "
        "probable when all that the update says at quiet inputs is pushed far into the outputs*, "
        "instead of votes: the attacker's class came first less often on CIFAR-10 and behind "
        "batch norm, with few samples above all. On the CIFAR-10 models of these tables it left "
        "less with 800 samples and more with fewer. *Both together* were no better than votes "
        "alone. *With a vote for one class* instead of three, the attacker's class also came "
        "first less often. *Votes that count in full, however few inputs have most of the weight*: "
        "on networks of digits of 64 pixels another class came first in many models.\n"
        "- *The second class always equally far behind the first*, whatever the lead. Where the "
        "first led by little and was not the attacker's, most of the backdoor was left.\n"
        "- *The three classes behind the first, each more weakly than the one before*, instead of "
        "the second alone. At the same loss more was left of the backdoors whose class comes first "
        "or second, which are most; of one whose class comes third, less was left.\n"
        "- *The first class alone.* Where it is not the attacker's, the whole backdoor is left. "
        "*A strength that follows the share itself* left more on CIFAR-10, where the shares lie "
        "close together.\n"
        "- *Classes' directions of what is added to their probability* instead of their logit. "
        "Where a model is sure they are known badly, and more was left.\n"
        "- *Directions of the patches of a convolution*, alone. At the same loss each of the three "
        "convolutions of the CIFAR-10 model removed less than its first dense layer.\n"
        "- *The projections of patches, keys and values of the vision transformer*, one after the "
        "other, each within the whole tolerance or a larger one. Most of the backdoor was left.\n"
        "- *Samples that are mixed, moved or cut together from those that are there*, so that more "
        "of them say what is quiet. The attacker's class came first no more often on CIFAR-10.\n"
        "- *How much of what speaks for each class can be flipped within the tolerance*, to order "
        "the classes. The attacker's does not stand out by it.\n"
        "- *The usual tolerance for models of two classes*, of which little is flipped for one. "
        "Images lost less accuracy for it, and tables kept far more of their backdoors.\n"
        "- *No more than 0.4 of what speaks for a class*, so that others get more of the "
        "tolerance. More accuracy was lost, and about as much of the backdoors was left.\n"
        "- *Two or three standard errors of the loss*, and a larger tolerance instead. The worst "
        "loss was smaller, but more was left of the backdoors of attackers who freeze the layer, "
        "and of those on CIFAR-10 where samples are few.\n"
        "- *A covariance that knows of the channels and places of its inputs.* It removed no more "
        "on CIFAR-10.\n"
        "- *A fifth of the square of what the probability lacks to 1 as the tolerance*, instead of "
        "half of its cube. Models that lack a sixth to a third lost more of their accuracy, and "
        "few kept less of the backdoor. *In proportion to what it lacks*, those that lack half "
        "kept more of the backdoor. *By the share of samples classified wrong* instead of what the "
        "probability lacks, or *with scores multiplied before the softmax*, it was no better.\n"
        "- *A strength for each output neuron* instead of each class. It left about as much as one "
        "strength for all.\n"
        "- *Refitting the last layer in closed form* after the flip, or counting a sample in the "
        "fit of a neuron only where that is active. At the same loss neither removed more.\n"
        "- *Judging samples by weights that were fitted to one half* of them. Leaving out one "
        "sample at a time costs less and is nearer to the truth.\n"
        "- *A sign of the target class without a trigger*: random patterns on the quiet inputs, "
        "passed through the update, and the same with random signs as the null. It accused no "
        "model without an attacker, but named the target only of triggers that cover the image."
    )


def end(stored: Stored) -> Iterator[str]:
    """Where the results come from."""
    yield "## Where the figures come from"
    yield (
        "The number of files with each value. Seconds are CPU seconds of one thread; other work on "
        "the machine hardly changes them. Some rows were trained while the harness was being "
        "written, on commits that were joined into one and are not in the repository; what trains "
        "them is as it was."
    )
    yield tables_of_runs.origins(stored)


def _figure(kind: str, text: str, figures: Collection[str]) -> Iterator[str]:
    """One of the figures that were drawn, by the end of its name."""
    name = next((name for name in figures if name.endswith(f"-{kind}.svg")), None)
    yield f"![{text}]({_FIGURES}/{name})" if name else f"*{text}: no results to draw.*"
