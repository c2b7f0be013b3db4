"""Noise is a function of names and numbers."""

from __future__ import annotations

import hashlib

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

import bench
from bench import noise

WORD = 2**64 - 1


def scalar_mix(state):
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & WORD
    return state ^ (state >> 31)


def test_mix_is_splitmix64():
    # The first outputs of the authors' generator for the seed 1234567.
    gamma, state, found = 0x9E3779B97F4A7C15, 1234567, []
    for _ in range(3):
        state = (state + gamma) & WORD
        found.append(scalar_mix(state))
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = torch.tensor([noise._to_int64((1234567 + gamma * i) & WORD) for i in (1, 2, 3)])
    assert [int(x) & WORD for x in noise.mix(states)] == found


def test_a_draw_follows_from_seed_name_index_and_number():
    gamma = 0x9E3779B97F4A7C15

    def keyed(key, number):
        return scalar_mix(((key + number) * gamma + gamma) & WORD)

    base = int.from_bytes(hashlib.sha256(b"3/attack").digest()[:8], "big")
    key = keyed(keyed(base, 17), 2)  # image 17, second draw
    words = [scalar_mix((key + gamma * i) & WORD) for i in (1, 2)]
    expected = [(w & (2**24 - 1)) / 2**24 for w in words] + [w >> 40 & (2**24 - 1) for w in words]
    expected[2:] = [e / 2**24 for e in expected[2:]]
    with noise.rows(3, "attack", [17]):
        noise.uniform(torch.empty(1, 4))
        found = noise.uniform(torch.empty(1, 4), 0, 1)
    assert_close(found[0].tolist(), expected)


def test_an_image_meets_the_same_noise_alone_in_any_batch_and_at_any_size():
    with noise.rows(0, "x", range(200)):
        whole = noise.normal(torch.empty(200, 3, 33, 33))
    with noise.rows(0, "x", [150, 3]):
        part = noise.normal(torch.empty(2, 3, 33, 33))
    assert torch.equal(part, whole[[150, 3]])


def test_names_seeds_indices_and_draws_differ():
    def first(seed, name, index):
        with noise.rows(seed, name, [index]):
            return noise.uniform(torch.empty(1, 8)), noise.uniform(torch.empty(1, 8))

    drawn = [x for spot in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)] for x in first(*spot)]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


def test_the_distributions_are_what_they_are_called():
    with noise.rows(0, "statistics", range(40)):
        like = torch.empty(40, 5000, dtype=torch.float64)
        normal, uniform, signs = noise.normal(like), noise.uniform(like), noise.signs(like)
    assert stats.kstest(normal.flatten(), "norm").pvalue > 1e-3
    assert stats.kstest(uniform.flatten(), "uniform", (-1, 2)).pvalue > 1e-3
    assert abs(float(signs.mean())) < 0.01 and set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(torch.corrcoef(normal)[0, 1])) < 0.06
    assert abs(stats.pearsonr(normal[:, :-1].flatten(), normal[:, 1:].flatten())[0]) < 0.01
    assert abs(stats.pearsonr(normal[:, :2500].flatten(), normal[:, 2500:].flatten())[0]) < 0.01


def test_float64_has_the_same_noise_as_float32():
    assert torch.equal(noise.normal(torch.empty(2, 9)).double(), noise.normal(torch.empty(2, 9, dtype=torch.float64)))


def test_a_call_has_noise_of_its_own_and_can_be_entered_again():
    like = torch.empty(2, 4)
    with noise.rows(0, "x", [0, 1]):
        with noise.call() as first:
            a = noise.normal(like)
        with noise.call() as second:
            b = noise.normal(like)
        with noise.call(first):
            again = noise.normal(like)
        with noise.call() as third:
            pass
    assert (first, second, third) == (0, 1, 2)
    assert torch.equal(a, again) and not torch.equal(a, b)


def test_copies_are_numbered_so_that_chunks_do_not_matter():
    def draw(*ranges):
        with noise.rows(0, "x", [4, 9]):
            parts = []
            for numbers in ranges:
                with noise.repeat(numbers):
                    parts.append(noise.normal(torch.empty(2 * len(numbers), 3)).view(2, len(numbers), 3))
            return torch.cat(parts, 1)

    whole = draw(range(5))
    assert torch.equal(draw(range(2), range(2, 5)), whole)
    assert torch.equal(draw(*(range(i, i + 1) for i in range(5))), whole)
    assert len(whole.flatten(0, 1).unique(dim=0)) == 10


def test_a_subset_keeps_its_rows_and_goes_on_counting():
    like = torch.empty(4, 3)
    with noise.rows(0, "x", range(4)):
        noise.normal(like)
        second = noise.normal(like)
    with noise.rows(0, "x", range(4)):
        noise.normal(like)
        with noise.take(torch.tensor([2, 0])):
            part = noise.normal(like[:2])
    assert torch.equal(part, second[[2, 0]])
    with noise.rows(0, "x", range(4)), noise.take(torch.tensor([False, True, False, True])):
        assert noise.normal(like[:2]).shape == (2, 3)


def test_a_count_that_does_not_fit_is_an_error():
    with (
        noise.rows(0, "x", range(3)),
        pytest.raises(bench.BadComponent, match="noise is drawn for 2 rows where there are 3; change the rows"),
    ):
        noise.normal(torch.empty(2, 5))
    with pytest.raises(bench.BadComponent, match="pass the number of images as rows="), noise.repeat(3):
        pass


def test_outside_any_rows_seed_zero_and_the_row_number_serve():
    like = torch.empty(3, 5)
    assert torch.equal(noise.normal(like), noise.normal(like))
    assert torch.equal(noise.normal(like)[:1], noise.normal(like[:1]))
    with noise.repeat(2, rows=3):
        assert noise.normal(torch.empty(6, 5)).unique(dim=0).shape == (6, 5)


def test_renamed_gives_the_noise_of_another_value():
    like = torch.empty(3, 4)
    with noise.rows(5, "attacked_attributions", [3, 8, 9]), noise.call():
        expected = noise.normal(like)
    with noise.rows(5, "attack_run", [3, 8, 9]), noise.call():
        noise.normal(like)  # draws before count for nothing
        for _ in range(2):
            with noise.renamed("attacked_attributions"), noise.call():
                assert torch.equal(noise.normal(like), expected)
        with noise.take(torch.tensor([2, 0])), noise.renamed("attacked_attributions"), noise.call():
            assert torch.equal(noise.normal(like[:2]), expected[[2, 0]])


def test_renamed_needs_to_know_the_images():
    inside = pytest.raises(bench.BadComponent, match="rows have no images")
    with noise.rows(0, "", range(2)), noise.repeat(2), inside, noise.renamed("other"):
        pass
    like = torch.empty(2, 3)
    with noise.renamed("other"):
        assert torch.equal(noise.normal(like), noise.normal(like))


def test_ensured_draws_afresh_where_nothing_counts():
    like = torch.empty(2, 3)
    with noise.ensured(2):
        first, second = [], []
        for found in (first, second):
            with noise.call():
                found.append(noise.normal(like))
        assert not torch.equal(first[0], second[0])
    with noise.rows(1, "x", [4, 5]):
        expected = noise.normal(like)
    with noise.rows(1, "x", [4, 5]), noise.ensured(2):
        assert torch.equal(noise.normal(like), expected)
