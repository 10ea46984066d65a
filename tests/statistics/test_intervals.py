import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from bloodcell_edge.statistics import intervals

LEVELS = (0.5, 0.8, 0.95, 0.999)

grouped_answers = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=60)
pairs = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=80)


def clustered(rng, accuracy, n_groups, mean_size, correlation):
    """Right or wrong for groups of 1 to 2 mean_size - 1 pictures, each group with its own rate (beta-binomial)."""
    spread = (1 - correlation) / correlation
    rates = rng.beta(accuracy * spread, (1 - accuracy) * spread, n_groups)
    groups = np.repeat(np.arange(n_groups), rng.integers(1, 2 * mean_size, n_groups))
    return rng.random(len(groups)) < rates[groups], groups.tolist()


# Beta and t


def test_beta_cdf_agrees_with_scipy_from_tiny_to_100000():
    """The incomplete beta function is within 1e-9 of scipy's for parameters from 0.01 to 100,000."""
    rng = np.random.default_rng(1)
    for _ in range(2000):
        a, b = (float(value) for value in 10 ** rng.uniform(-2, 5, 2))
        for x in (rng.random(), rng.beta(a, b), a / (a + b), (a + 1) / (a + b + 2)):
            assert intervals.beta_cdf(a, b, float(x)) == pytest.approx(special.betainc(a, b, x), abs=1e-9)


def test_beta_cdf_says_when_it_does_not_converge():
    """Parameters far beyond any count raise instead of giving a wrong number."""
    with pytest.raises(ArithmeticError, match="no convergence"):
        intervals.beta_cdf(1e16, 1e16, 0.5)


@given(st.floats(0.01, 1e5), st.floats(0.01, 1e5), st.floats(0.001, 0.999))
def test_beta_quantile_inverts_the_distribution_function(a, b, probability):
    """The quantile is within 1e-9 of scipy's."""
    expected = special.betaincinv(a, b, probability)
    assert intervals.beta_quantile(a, b, probability) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("degrees", [1, 2, 3, 9, 30, 276, 10_000, 100_000])
def test_t_agrees_with_scipy(level, degrees):
    """The two-sided t is scipy's quantile to nine digits."""
    assert intervals.t_two_sided(level, degrees) == pytest.approx(stats.t.ppf((1 + level) / 2, degrees), rel=1e-9)


# Binomial interval


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", [1, 2, 17, 1000, 100_000])
def test_binomial_interval_is_scipys_exact_one(n, level):
    """Clopper-Pearson agrees with scipy to 1e-9, k = 0 and k = n included."""
    for k in sorted({0, 1, n // 3, n // 2, n - 1, n}):
        expected = stats.binomtest(k, n).proportion_ci(level, method="exact")
        assert intervals.binomial_interval(k, n, level) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1e5), st.sampled_from(LEVELS))
def test_binomial_interval_takes_numbers_that_are_not_whole(share, n, level):
    """The interval at an effective size is ordered, inside 0..1 and contains the share; ends are open at 0 and n."""
    k = min(share * n, n)
    low, high = intervals.binomial_interval(k, n, level)
    assert 0.0 <= low <= high <= 1.0
    if n:
        assert low <= k / n + 1e-12
        assert high >= k / n - 1e-12
    assert k > 0.0 or low == 0.0
    assert k < n or high == 1.0


def test_binomial_interval_of_nothing_is_everything():
    """No trials say nothing."""
    assert intervals.binomial_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n", "level"), [(-1, 5, 0.95), (6, 5, 0.95), (math.nan, 5, 0.95), (1, 5, 1.0)])
def test_binomial_interval_refuses_what_is_no_count(k, n, level):
    """Counts out of range, NaN and a level of 1 raise."""
    with pytest.raises(ValueError, match="expected 0 <= k <= n"):
        intervals.binomial_interval(k, n, level)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_binomial_interval_covers_at_least_its_level(share):
    """Summed over every outcome of 80 trials, the 95 % interval holds the truth with probability 0.95 or more."""
    n = 80
    holds = [low <= share <= high for low, high in (intervals.binomial_interval(k, n) for k in range(n + 1))]
    assert stats.binom.pmf(np.arange(n + 1), n, share)[holds].sum() >= 0.95


# Grouped interval


def test_grouped_interval_is_korn_and_graubards_with_two_imaginary_photographs():
    """The limits are the documented formula, worked out here step by step with scipy."""
    correct, groups = list(map(int, "1110100011111101")), list("aaaabbbbccccddee")
    n, count, mean = 16, 5, 16 / 5
    answers = [(3, 4), (1, 4), (4, 4), (2, 2), (1, 2), (mean, mean), (0, mean)]  # right, of so many
    share = (sum(correct) + mean) / (n + 2 * mean)
    between = sum((hits - share * size) ** 2 for hits, size in answers) / (n + 2 * mean) ** 2
    design_effect = between * (count + 2) / (count + 1) / (share * (1 - share) / (n + 2 * mean))
    assert design_effect > 1
    size = n / design_effect * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, count - 1)) ** 2
    k = sum(correct) / n * size
    expected = stats.beta.ppf(0.025, k, size - k + 1), stats.beta.ppf(0.975, k + 1, size - k)
    assert intervals.grouped_interval(np.array(correct, np.bool_), groups) == pytest.approx(expected, abs=1e-9)


@given(grouped_answers, st.randoms(use_true_random=False))
def test_grouped_interval_holds_the_share_and_is_no_narrower_than_binomial(answers, random):
    """Grouping never narrows, the estimate lies inside, and neither order nor names of groups matter."""
    correct, groups = np.array([c for c, _ in answers]), [g for _, g in answers]
    low, high = intervals.grouped_interval(correct, groups)
    naive_low, naive_high = intervals.binomial_interval(int(correct.sum()), len(correct))
    assert 0.0 <= low <= naive_low + 1e-12
    assert naive_high - 1e-12 <= high <= 1.0
    assert low - 1e-12 <= correct.mean() <= high + 1e-12
    random.shuffle(answers)
    shuffled = intervals.grouped_interval(np.array([c for c, _ in answers]), [f"photo {g}" for _, g in answers])
    assert shuffled == pytest.approx((low, high), abs=1e-9)


@given(st.lists(st.integers(1, 60), min_size=2, max_size=40))
def test_without_a_mistake_a_photograph_counts_as_one_picture_at_most(sizes):
    """All right is no tighter than one right picture of each photograph; all wrong is the same from the other end."""
    groups = np.repeat(np.arange(len(sizes)), sizes).tolist()
    low, high = intervals.grouped_interval(np.full(len(groups), True), groups)
    assert (low <= intervals.binomial_interval(len(sizes), len(sizes))[0], high) == (True, 1.0)
    assert intervals.grouped_interval(np.full(len(groups), False), groups) == pytest.approx((0.0, 1.0 - low), abs=1e-12)


def test_without_a_mistake_many_photographs_count_almost_as_one_picture_each():
    """277 photographs of 10 pictures, all right: the lower limit is within 0.0005 of that of 277 right pictures."""
    low, _ = intervals.grouped_interval(np.full(2770, True), [i % 277 for i in range(2770)])
    assert low == pytest.approx(intervals.binomial_interval(277, 277)[0], abs=0.0005)


@given(grouped_answers)
def test_no_mistake_tightens_a_clean_sheet(answers):
    """Whatever is wrong, the lower limit is at most, and the upper at least, that of the same photographs without."""
    groups = [g for _, g in answers]
    low, high = intervals.grouped_interval(np.array([c for c, _ in answers]), groups)
    assert low <= intervals.grouped_interval(np.full(len(answers), True), groups)[0] + 1e-12
    assert high >= intervals.grouped_interval(np.full(len(answers), False), groups)[1] - 1e-12


def limits_while_mistakes_come(order, groups):
    """Intervals for 0, 1, 2, ... mistakes, which come in this order; shape (mistakes + 1, 2)."""
    correct, found = np.full(len(groups), True), [intervals.grouped_interval(np.full(len(groups), True), groups)]
    for i in order:
        correct[i] = False
        found.append(intervals.grouped_interval(correct, groups))
    return np.array(found)


GRID = [(2, 4), (3, 2), (3, 10), (5, 4), (8, 10), (13, 4), (20, 2), (40, 10)]  # photographs, pictures of each


@pytest.mark.parametrize(("n_groups", "size"), GRID)
def test_a_mistake_more_never_raises_a_limit_where_mistakes_spread(n_groups, size):
    """Mistakes dealt out one photograph after another, from none to all: both limits only ever fall."""
    limits = limits_while_mistakes_come(range(n_groups * size), [i % n_groups for i in range(n_groups * size)])
    assert np.diff(limits, axis=0).max() <= 1e-9


@pytest.mark.parametrize(("n_groups", "size"), GRID)
def test_a_mistake_more_hardly_raises_a_limit_in_any_order(n_groups, size):
    """Mistakes that fill one photograph after another, or come at random: no limit rises by 2 % of the width."""
    groups = [i // size for i in range(n_groups * size)]
    for order in (range(len(groups)), np.random.default_rng(3).permutation(len(groups))):
        limits = limits_while_mistakes_come(order, groups)
        widths = limits[:, 1] - limits[:, 0]
        assert (np.diff(limits, axis=0).max(axis=1) <= 0.02 * widths[:-1]).all()


def test_the_first_mistakes_of_many_photographs_do_not_jump():
    """277 photographs of 10 pictures: none of the first 20 mistakes raises the lower limit or moves it by 0.002."""
    rng = np.random.default_rng(4)
    lows = limits_while_mistakes_come(rng.choice(2770, 20, replace=False), [i // 10 for i in range(2770)])[:, 0]
    assert np.diff(lows).max() <= 1e-9
    assert np.diff(lows).min() > -0.002


def test_mistakes_dealt_out_evenly_do_not_narrow():
    """100 photographs with just one mistake in ten each vary less than chance: still no narrower than binomial."""
    low, high = intervals.grouped_interval(np.arange(1000) % 10 > 0, [i // 10 for i in range(1000)])
    naive_low, naive_high = intervals.binomial_interval(900, 1000)
    assert low <= naive_low
    assert naive_high <= high


def test_one_photograph_says_nothing():
    """Any number of pictures of one photograph gives the interval (0, 1), and so does none."""
    assert intervals.grouped_interval(np.array([True, False, True]), ["a"] * 3) == (0.0, 1.0)
    assert intervals.grouped_interval(np.array([], np.bool_), []) == (0.0, 1.0)


def test_copies_of_a_picture_add_nothing():
    """Showing every picture 25 times moves the grouped interval not at all, the naive one by much."""
    correct = np.arange(50) % 5 > 0
    once = intervals.grouped_interval(correct, list(range(50)))
    copied, groups = np.repeat(correct, 25), np.repeat(np.arange(50), 25).tolist()
    assert intervals.grouped_interval(copied, groups) == pytest.approx(once, abs=1e-9)
    naive = intervals.binomial_interval(int(copied.sum()), len(copied))
    assert naive[1] - naive[0] < 0.25 * (once[1] - once[0])


@pytest.mark.parametrize(
    ("accuracy", "correlation", "n_groups"), [(0.9, 0.3, 40), (0.9, 0.3, 277), (0.9, 0.6, 60), (0.995, 0.3, 277)]
)
def test_grouped_interval_covers_where_the_binomial_does_not(accuracy, correlation, n_groups):
    """600 simulated sets, about 10 pictures of each photograph: 94 % coverage or more, naive below 75 %."""
    rng = np.random.default_rng(7)
    sets = [clustered(rng, accuracy, n_groups, 10, correlation) for _ in range(600)]
    grouped = [intervals.grouped_interval(correct, groups) for correct, groups in sets]
    naive = [intervals.binomial_interval(int(correct.sum()), len(correct)) for correct, _ in sets]
    assert np.mean([low <= accuracy <= high for low, high in grouped]) >= 0.94
    assert np.mean([low <= accuracy <= high for low, high in naive]) < 0.75


def test_grouped_interval_wants_a_group_for_each_picture():
    """Too few groups are an error that says how many were expected."""
    with pytest.raises(ValueError, match="expected one for each of 3 pictures, found 2"):
        intervals.grouped_interval(np.array([True, True, False]), ["a", "b"])


def test_accuracy_interval_says_how_it_was_found():
    """Unknown groups and groups of one picture are binomial, others by photograph."""
    correct = np.array([True, True, False, True])
    binomial = intervals.binomial_interval(3, 4)
    assert intervals.accuracy_interval(correct, None) == intervals.Interval(*binomial, "clopper-pearson", None)
    assert intervals.accuracy_interval(correct, [3, 1, 4, 2]) == intervals.Interval(*binomial, "clopper-pearson", 4)
    grouped = intervals.accuracy_interval(correct, ["a", "a", "b", "c"])
    assert (grouped.method, grouped.n_groups) == ("korn-graubard by photograph", 3)
    assert grouped.low < binomial[0]


# McNemar


@given(pairs)
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(pairs):
    """The p is scipy's exact binomial p, the same whichever model comes first, and 1 without discordant pairs."""
    a, b = np.array([a for a, _ in pairs], np.bool_), np.array([b for _, b in pairs], np.bool_)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert intervals.mcnemar_exact(a, b) == pytest.approx(expected, abs=1e-9)
    assert intervals.mcnemar_exact(b, a) == intervals.mcnemar_exact(a, b)


def test_mcnemar_wants_the_same_pictures():
    """Answers to different numbers of pictures cannot be paired."""
    with pytest.raises(ValueError, match="the same pictures twice"):
        intervals.mcnemar_exact(np.array([True]), np.array([True, False]))
