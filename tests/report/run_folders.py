"""Run folders made by hand, as `fullrank train` leaves them."""

import json

import numpy as np
import yaml
from PIL import Image
from safetensors.numpy import save_file

from fullrank.measure.spectrum import Spectrum


def make_run(
    path,
    *,
    steps=1000,
    reached=None,
    every=100,
    width=32,
    decay=3.0,
    labels=True,
    heldout=True,
    samples=False,
    skipped=(),
    measurements=True,
    k=20,
    **config,
):
    """Write a run whose spectrum steepens with `decay`; unfinished when `reached` is given."""
    path.mkdir(parents=True)
    document = {
        "method": "simsiam",
        "order": "multiple-pass",
        "images": "digits",
        "eval_images": None,
        "subset": 1.0,
        "steps": steps,
        "batch_size": 64,
        "seed": 0,
        "chunks": 20,
        "switch": 0.4,
        "views": "cifar",
        "backbone": {"name": "resnet18", "width": 0.25, "stem": "auto"},
        "heads": {"projector_hidden": None, "projector_out": 512},
        "optim": {"base_lr": 0.3, "weight_decay": 0.0005},
        "monitor": {"log_every": 50},
        "machine": {"device": "cpu"},
        **config,
        "environment": {"python": "3.12.1", "torch": "2.6.0", "cpu": "8 cores of a test machine"},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    last = steps if reached is None else reached
    protocols = {
        "spectrum": {
            "layer": "backbone",
            "images": document["images"],
            "n": 10 * width,
            "center": True,
            "normalize": False,
        }
    }
    if heldout:
        protocols["heldout_loss"] = {"batchnorm": "eval", "views": "training", "n": 500}
    if labels:
        protocols["knn"] = {"k": k, "weights": "none", "distance": "cosine"}
    records = [{"kind": "protocols", "step": 0, **protocols}]
    measured, spectra, measure = [], [], {}
    noise = np.random.default_rng(document["seed"])
    for step in range(0, last + 1, 50):
        t = step / steps
        if step:
            loss = -1 + 0.9 * np.exp(-3 * t) + 0.02 * noise.standard_normal()
            records.append({"kind": "train", "step": step, "loss": loss, "lr": 0.3, "std": 0.044 * (1 - 0.4 * t)})
        if measurements and step % every == 0:
            values = 50 * np.exp(-decay * (0.3 + t) * np.arange(width) / width * 4)
            spectrum = Spectrum(values)
            measured.append(step)
            spectra.append(values)
            measure = {
                "auc": spectrum.auc,
                "rankme": spectrum.rankme,
                "participation_ratio": spectrum.participation_ratio,
                "stable_rank": spectrum.stable_rank,
                "dead": spectrum.dead(),
            }
            if heldout:
                measure["heldout_loss"] = -0.9 + 0.8 * float(np.exp(-3 * t))
            if labels:
                measure["knn"] = 0.24 + 0.2 * float(np.sin(2.2 * t)) + 0.01 * decay
            records.append({"kind": "measure", "step": step, **measure})
    write_lines(path / "metrics.jsonl", records)
    timing = [{"step": s, "seconds": s / 50, "images_per_second": 2500.0} for s in range(50, last + 1, 50)]
    write_lines(path / "timing.jsonl", timing)
    if measured:
        tensors = {"steps": np.array(measured), "singular_values": np.array(spectra)}
        save_file(tensors, path / "spectra.safetensors")
    if samples:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 320, 3), dtype=np.uint8)).save(
            path / "samples.png"
        )
    if reached is None:
        better = {"heldout_loss": "lower, with a lower AUC", "auc": "lower", "dead": "lower", "loss": "context"}
        loss = {"loss": next(record["loss"] for record in reversed(records) if "loss" in record)}
        scores = [
            {
                "name": name,
                "value": value,
                "better": better.get(name, "higher"),
                "protocol": protocols.get(name, protocols["spectrum"]),
            }
            for name, value in (loss | measure).items()
        ]
        summary = {"steps": steps, "scores": scores, "skipped": list(skipped), "seconds": 61.2}
        (path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return path


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
