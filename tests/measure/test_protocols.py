"""What keeps scores from being compared."""

from fullrank.measure.protocols import differences, split

SPECTRUM = {"images": "digits", "split": "train", "n": 4000, "d": 16, "center": True, "dtype": "float32"}
LOSS = {"loss": "simclr", "view": "cifar", "n": 500}


def differ(name, *protocols):
    return differences(name, protocols)


def test_equal_protocols_compare():
    assert differ("auc", SPECTRUM, dict(SPECTRUM), SPECTRUM | {"dtype": "float64", "image_size": 64}) == {}


def test_widths_matter_where_the_score_depends_on_them():
    wide, unknown = SPECTRUM | {"d": 32}, {key: value for key, value in SPECTRUM.items() if key != "d"}
    assert differ("auc", SPECTRUM, wide, SPECTRUM) == {"D": [16, 32]}
    assert differ("uniformity", SPECTRUM, wide) == {}
    assert differ("knn", {"k": 20, "d": 16}, {"k": 20, "d": 32}) == {}
    assert differ("heldout_loss", LOSS | {"d": 16}, LOSS | {"d": 32}) == {}
    assert differ("auc", SPECTRUM, unknown) == {}


def test_fields_that_differ_are_named_with_their_values():
    assert differ("auc", SPECTRUM, SPECTRUM | {"images": "cifar10", "center": False}) == {
        "images": ["digits", "cifar10"],
        "center": [True, False],
    }
    assert differ("knn", {"k": 20}, {"k": 5}, {"k": 20}) == {"k": [20, 5]}


def test_the_augmentation_matters_to_a_loss_and_the_view_of_an_encoder_to_nothing():
    assert differ("heldout_loss", LOSS, LOSS | {"view": "byol"}) == {"view": ["cifar", "byol"]}
    assert differ("auc", SPECTRUM | {"view": "eval"}, SPECTRUM | {"view": "timm's transform"}) == {}


def test_what_is_not_stated_is_another_setting_of_a_loss_alone():
    assert differ("heldout_loss", LOSS, LOSS | {"temperature": 0.2}) == {"temperature": [None, 0.2]}
    assert differ("auc", SPECTRUM, {"n": 4000}) == {}


def test_a_subset_is_not_the_whole():
    assert differ("auc", SPECTRUM, SPECTRUM | {"subset": 0.1}) == {"subset": [1.0, 0.1]}
    assert differ("auc", {"images": "not stated", "n": 4000}, SPECTRUM | {"subset": 0.1}) == {}
    knn = {"labels": "digits / digits", "bank": 500, "k": 20}
    assert differ("knn", knn, knn | {"subset": 0.1}) == {"subset": [1.0, 0.1]}


def test_numbers_of_images():
    assert differ("auc", SPECTRUM, SPECTRUM | {"n": 4100}) == {}
    assert differ("auc", SPECTRUM, SPECTRUM | {"n": 40}) == {"n": [4000, 40]}
    assert differ("two_nn", SPECTRUM, SPECTRUM | {"n": 4100}) == {"n": [4000, 4100]}


def test_images_are_known_by_their_fingerprint_where_all_state_it():
    one, moved = SPECTRUM | {"fingerprint": "f0"}, SPECTRUM | {"images": "/else", "fingerprint": "f0"}
    assert differ("auc", one, moved) == {}
    assert differ("auc", one, SPECTRUM | {"fingerprint": "0f"}) == {"images": ["f0", "0f"]}
    assert differ("auc", one, moved | {"fingerprint": "0f"}) == {"images": ["digits", "/else"]}
    assert differ("auc", SPECTRUM, moved) == {"images": ["digits", "/else"]}


def test_split():
    other = SPECTRUM | {"images": "cifar10"}
    assert split("auc", [SPECTRUM, other, SPECTRUM, SPECTRUM | {"d": 32}, other]) == [[0, 2], [1, 4], [3]]
    assert split("auc", []) == []
