"""Which representation is the better one: without labels, and by a model fitted where there are some.

    fronts([[-0.9, 0.86], [-0.8, 0.75], [-0.7, 0.80]])  # held-out loss and AUC, lower is better: [1, 1, 2]
    fit = fit_linear(loss_and_auc, accuracy, names=("heldout_loss", "auc"))
    fit.leave_one_out_r2, fit.predict(others)
    agreement(auc, accuracy, direction="lower").kendall

Li, Efros and Pathak (https://arxiv.org/abs/2209.15007, section 3.5) forecast the linear probe's accuracy of 22 models
from their held-out loss and their AUC, with R^2 = .950; either alone says little. Their regression needs the accuracies
of some models. Without any, lower in both is better, and where they disagree, nothing is said.
"""

from __future__ import annotations

from fullrank.measure.forecast.agreement import Agreement, agreement
from fullrank.measure.forecast.dominance import fronts, undecided
from fullrank.measure.forecast.linear import LinearFit, Prediction, fit_linear, leave_groups_out

__all__ = ["Agreement", "LinearFit", "Prediction", "agreement", "fit_linear", "fronts", "leave_groups_out", "undecided"]
