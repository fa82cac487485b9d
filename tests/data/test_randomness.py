import numpy as np

from fullrank.data.randomness import Purpose, permutation, random_bits, uniform


def test_bits_are_numpys_philox_with_the_place_as_key_and_counter():
    expected = np.random.Philox(key=[5, int(Purpose.VIEW)], counter=[0, 0, 3, 1]).random_raw(6)
    assert (random_bits(5, Purpose.VIEW, 3, 1, 6) == expected).all()


def test_a_longer_draw_begins_with_a_shorter_one_and_places_differ():
    long = random_bits(0, Purpose.PASS, 1, 2, 100)
    assert (random_bits(0, Purpose.PASS, 1, 2, 7) == long[:7]).all()
    others = [
        random_bits(1, Purpose.PASS, 1, 2, 100),
        random_bits(0, Purpose.VIEW, 1, 2, 100),
        random_bits(0, Purpose.PASS, 2, 2, 100),
        random_bits(0, Purpose.PASS, 1, 3, 100),
    ]
    for other in others:
        assert not np.isin(other, long).any()


def test_uniform_numbers_are_uniform():
    numbers = uniform(0, Purpose.VIEW, 0, 0, (200, 100))
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=10, range=(0, 1))[0]
    assert abs(counts - 2000).max() < 6 * np.sqrt(2000 * 0.9)


def test_permutations_are_permutations_and_favour_no_place():
    firsts = [permutation(seed, Purpose.ARRIVAL, 0, 0, 4) for seed in range(2000)]
    assert all(sorted(p.tolist()) == [0, 1, 2, 3] for p in firsts)
    counts = np.bincount([p[0] for p in firsts], minlength=4)
    assert abs(counts - 500).max() < 6 * np.sqrt(500 * 0.75)
