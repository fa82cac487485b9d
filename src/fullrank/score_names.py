"""What scores are called and which of them are shares: the one table of reports, rankings, exports and studies."""

from __future__ import annotations

from typing import NamedTuple


class Called(NamedTuple):
    """What people call a score.

    Attributes:
        title: Its name in a sentence or a table.
        share: Whether its values are shares, in [0, 1], that are shown in percent.
    """

    title: str
    share: bool = False


SCORE_NAMES = {
    "loss": Called("training loss"),
    "train_loss": Called("training loss"),
    "heldout_loss": Called("held-out loss"),
    "knn": Called("k-NN accuracy", share=True),
    "logistic": Called("logistic regression accuracy", share=True),
    "linear": Called("linear probe accuracy", share=True),
    "online_probe": Called("online probe accuracy", share=True),
    "online_probe_train": Called("online probe on training views", share=True),
    "auc": Called("AUC"),
    "rankme": Called("RankMe"),
    "rankme_centered": Called("RankMe (centred)"),
    "participation_ratio": Called("participation ratio"),
    "stable_rank": Called("stable rank"),
    "nesum": Called("NESum"),
    "alpha": Called("alpha"),
    "alpha_req": Called("alpha-ReQ"),
    "dead": Called("dead directions"),
    "pseudo_condition_number": Called("pseudo-condition number"),
    "feature_std": Called("feature deviation"),
    "self_cluster": Called("self-clustering"),
    "two_nn": Called("two-NN dimension"),
    "idest": Called("IdEst"),
    "cluster_learnability": Called("cluster learnability"),
    "clid": Called("CLID"),
    "lidar": Called("LiDAR"),
    "front": Called("Pareto front of loss and AUC"),
    "forecast": Called("forecast from loss and AUC", share=True),
}
_CENTERED = {"rankme": "rankme_centered"}


def title(name: str, *, centered: bool = False) -> str:
    """Call a score what people call it.

    Args:
        name: The score's name; one that is not in the table is its own title.
        centered: Whether it is of a centred spectrum, as all that a run records are; RankMe as published is not.

    >>> title("auc"), title("lidar"), title("rankme"), title("rankme", centered=True)
    ('AUC', 'LiDAR', 'RankMe', 'RankMe (centred)')
    """
    name = _CENTERED.get(name, name) if centered else name
    return SCORE_NAMES[name].title if name in SCORE_NAMES else name


def is_share(name: str) -> bool:
    """Whether a score's values are shares, in [0, 1].

    >>> is_share("knn"), is_share("dead"), is_share("lidar")
    (True, False, False)
    """
    return name in SCORE_NAMES and SCORE_NAMES[name].share
