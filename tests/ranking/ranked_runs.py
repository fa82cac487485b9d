"""Run folders whose last measurement has a given held-out loss, AUC and accuracies."""

import json

import numpy as np

from tests.report.run_folders import make_run, write_lines


def ranked_run(path, loss, auc, *, knn=None, width=16, evaluated=None, protocols=None, **config):
    """Write a finished run; `protocols` changes how its scores say they were measured, `evaluated` labels it.

    Args:
        path: The folder.
        loss: Held-out loss; None for a run without held-out images.
        auc: As recorded; its spectrum is another.
        knn: The monitor's accuracy; None for a run without labels.
        width: D.
        evaluated: Scores for evaluation.json, each (name, value, protocol).
        protocols: Fields to replace, by the name of the protocol.
        config: Fields of the configuration.
    """
    make_run(path, steps=100, every=100, width=width, labels=knn is not None, heldout=loss is not None, **config)
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        if record["kind"] == "protocols":
            for name, fields in (protocols or {}).items():
                record[name] |= fields
        if record["kind"] == "measure" and record["step"] == 100:
            record["auc"] = auc
            if loss is not None:
                record["heldout_loss"] = loss
            if knn is not None:
                record["knn"] = knn
    write_lines(path / "metrics.jsonl", records)
    if evaluated:
        scores = [
            {"name": name, "value": value, "better": "higher", "protocol": protocol}
            for name, value, protocol in evaluated
        ]
        (path / "evaluation.json").write_text(json.dumps({"fullrank": "0", "step": 100, "scores": scores}))
    return path


def sweep(folder, n, *, labelled=None, seed=0, noise=0.01, **options):
    """Write n runs whose k-NN accuracy is .3 - .3 loss - .25 AUC, give or take `noise`; all or some have labels."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        loss, auc = float(rng.uniform(-0.95, -0.6)), float(rng.uniform(0.6, 0.9))
        accuracy = 0.3 - 0.3 * loss - 0.25 * auc + noise * float(rng.standard_normal())
        knn = accuracy if labelled is None or i < labelled else None
        found.append(ranked_run(folder / f"run-{i:02d}", loss, auc, knn=knn, **options))
    return found
