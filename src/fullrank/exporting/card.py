"""The model card of an exported encoder: what it is, how to load it, what was measured, what it is not good for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
import yaml

from fullrank._version import __version__
from fullrank.config import TrainConfig
from fullrank.documents import Document, Fields, Heading, Part, Points, Table, Words, field_list
from fullrank.documents.scores import how_measured
from fullrank.measure.protocols import FINGERPRINT
from fullrank.measure.scores import Score
from fullrank.models.backbones import FULLRANK_RESNET, TimmModel
from fullrank.models.encoder import Encoder
from fullrank.models.exported import WEIGHTS
from fullrank.training.plan import describe_order
from fullrank.training.runs import CONFIG, read_run
from fullrank.training.scores import evaluated, latest
from fullrank.training.setup import build_order

HUB_DATASETS = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}
"""Named sets that lie on the Hub, and what they are called there."""
_BETWEEN = " / "  # the training and the held-out images in a protocol's `labels`; a path has no blanks around its `/`


@dataclass(frozen=True)
class Known:
    """What a run's folder knows of its encoder at one step."""

    name: str  # the folder's, or the checkpoint's where there is none
    images: int | None = None  # training images, where it says how many
    environment: Mapping[str, Any] = field(default_factory=dict)  # of the training: versions and hardware, if known
    # what was measured at this step, on this branch or on the method as a whole; a name may come twice, with two
    # protocols
    scores: Sequence[Score] = ()
    verdict: str = ""  # on its representation, where that was measured at this step
    # why there are no scores, or not all that the run has; empty where nothing is to be said
    remark: str = "Its run was not at hand when it was exported, so no score of it is known."


def known_of(encoder: Encoder) -> Known:
    """Gather what is known of a run's encoder, where its checkpoint lies in a run's `checkpoints`."""
    file, step, branch = Path(encoder.source["checkpoint"]), int(encoder.source["step"]), encoder.branch
    folder = file.resolve().parent.parent
    if not (folder / CONFIG).is_file():
        return Known(file.stem)
    run, verdict, remark = read_run(folder), "", ""
    # what was chosen, and any warning, is told with how it was measured
    probed = [replace(score, protocol=_with_chosen(score)) for score in evaluated(folder, step)]
    scores = [*latest(run, step).values(), *probed]
    if step in run.spectrum_steps and branch == "online":
        verdict = run.verdict(list(run.spectrum_steps).index(step)).text
    if not scores:
        remark = f"Nothing was measured at step {step:,}."
    own = [score for score in scores if branch == "online" or score.protocol.get("branch", branch) == branch]
    if len(own) < len(scores):
        remark = "Scores of the online branch, which the run measured, are not of this encoder and are left out."
    return Known(
        name=run.name,
        images=run.images("train").get("count"),
        environment={key: value for key, value in run.environment.items() if key != "data"},
        scores=own,
        verdict=verdict,
        remark=remark,
    )


def card(encoder: Encoder, known: Known, made: TimmModel, data: Mapping[str, Any]) -> str:
    """Return a model card in Markdown, with its metadata on top as the Hugging Face Hub reads them.

    Folders of this machine are left out of it: files are called by their names. `data` is timm's `pretrained_cfg`.
    """
    config = encoder.config
    assert config is not None
    fields: dict[str, Any] = {
        "library_name": "timm",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["timm", "fullrank", "self-supervised-learning", config.method],
    }
    if config.images in HUB_DATASETS:
        fields["datasets"] = [HUB_DATASETS[config.images]]
    found = Document("encoder", known.name, list(_parts(encoder, config, known, made, data)))
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---\n\n{found.markdown()}"


def _parts(
    encoder: Encoder, config: TrainConfig, known: Known, made: TimmModel, data: Mapping[str, Any]
) -> Iterator[Part]:
    step = encoder.source["step"]
    parameters = sum(parameter.numel() for parameter in encoder.module.parameters())
    yield Words(
        f"An image encoder: {config.backbone.name}, {parameters / 1e6:.2f} M parameters, trained without labels "
        f"by {config.method}. It turns an image of {data['input_size'][-1]} x {data['input_size'][-1]} pixels into "
        f"{encoder.width} numbers. The weights are of the {encoder.branch} branch, after step {step:,} of "
        f"{config.steps:,}."
    )
    yield from _loading(made)
    yield Heading("How it was trained")
    yield Fields(_training(config, step, known.images))
    yield Heading("Scores")
    if known.remark:
        yield Words(known.remark)
    if known.scores:
        scores = [replace(score, protocol=public(score.protocol)) for score in known.scores]
        rows = [[_title(score, scores), score.text, score.kind.direction] for score in scores]
        yield Table("Scores", ["score", "value", "better"], rows, text=[2], captioned=False)
        yield from how_measured(("", score) for score in scores)
    if known.verdict:
        yield Words(known.verdict)
    yield Heading("What it is not good for")
    yield Points(_limits(config, step, known.images))
    yield Heading("Versions")
    yield Fields(known.environment, "Trained with")
    yield Fields({"fullrank": __version__, "timm": timm.__version__, "torch": torch.__version__}, "Exported with")


def _loading(made: TimmModel) -> Iterator[Part]:
    ours = made.architecture == FULLRANK_RESNET
    imported = (
        f"import {FULLRANK_RESNET}  # the file beside this one: timm has no such ResNet of its own\n" if ours else ""
    )
    yield Heading("Loading it")
    yield Words("In this folder, or with its name in place of the dot; the features are those of the run, bit for bit:")
    yield Words(
        f"""import timm
{imported}
encoder = timm.create_model("local-dir:.", pretrained=True).eval()  # timm 1.0.26 or newer; or "hf-hub:USER/NAME"
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(encoder))

# the same network by the name of its architecture
arguments = {json.dumps(made.arguments)}
encoder = timm.create_model("{made.architecture}", num_classes=0, checkpoint_path="{WEIGHTS}", **arguments).eval()""",
        "command",
    )
    yield Words('import fullrank\n\nencoder = fullrank.load(".")', "command")


def _training(config: TrainConfig, step: int, count: int | None) -> dict[str, Any]:
    order, images = str(config.order), public(config.images)
    if count is not None:
        order = describe_order(build_order(config, count))
        images = f"{count:,} of {images}"
    said: dict[str, str] = {}
    for name in ("backbone", "heads", "loss", "target", "optim"):
        given = {key: value for key, value in public(vars(getattr(config, name))).items() if value is not None}
        said |= {name: field_list(given)} if given else {}
    return {
        "method": config.method,
        "images": f"{images}, without their labels",
        "order": order,
        "steps": f"{step:,} of {config.steps:,}, {config.batch_size} images each",
        "views": f"{config.views}, {config.image_size} x {config.image_size}",
        **said,
        "seed": str(config.seed),
    }


def _limits(config: TrainConfig, step: int, count: int | None) -> list[str]:
    said = [
        "It has no classifier: its features are for k-NN, a linear probe, clustering, retrieval, or fine-tuning.",
        "It has seen one set of images, at one size. On others, measure it before you rely on it.",
        "It takes on what its images show and leave out, and it was not examined for fairness or safety. What their "
        "license allows, it does not widen.",
        "The scores are of one run: another seed gives other ones.",
    ]
    if step < config.steps:
        said.append(f"Its training is unfinished: the learning rate had not come down yet at step {step:,}.")
    if count and (passes := step * config.batch_size / count) < 100:
        said.append(f"It saw its images {passes:.1f} times; published encoders of such methods 100 to 1,000 times.")
    return said


def public(value: Any) -> Any:
    r"""Cut each path to its last part, for what is published; whatever else is there stays, in lists and mappings too.

    Text with a separator in it is a path, for no known set of images has one in its name.

    >>> public("cifar10 / /home/me/secret/val"), public("private/clients/acme"), public(r"C:\data\acme")
    ('cifar10 / val', 'acme', 'acme')
    >>> public({"images": "/home/me/train-*.parquet", "loss": "l2 / 2 |W|^2", "n": 5, "crop": (0.5, "./a/b/")})
    {'images': 'train-*.parquet', 'loss': 'l2 / 2 |W|^2', 'n': 5, 'crop': [0.5, 'b']}
    """
    if isinstance(value, str):
        return _BETWEEN.join(re.split(r"[/\\]", part.rstrip("/\\"))[-1] for part in value.split(_BETWEEN))
    if isinstance(value, Mapping):
        return {key: public(each) for key, each in value.items()}
    return [public(each) for each in value] if isinstance(value, (list, tuple)) else value


def _title(score: Score, scores: Sequence[Score]) -> str:
    """Return what a score is called, with what tells it from others of its name."""
    twins = [each.protocol for each in scores if each.name == score.name]
    fields = {key: value for key, value in score.protocol.items() if key != FINGERPRINT}
    apart = {key: value for key, value in fields.items() if any(twin.get(key) != value for twin in twins)}
    return score.kind.title + (f": {field_list(apart)}" if apart else "")


def _with_chosen(score: Score) -> dict[str, Any]:
    """Return its protocol with what was chosen by it, such as `k: 43, of: 1 to 200, ...`."""
    of = {name: f" of {str(asked).removeprefix('of ')}" for name, asked in score.protocol.items()}
    return {**score.protocol, **{k: f"{value}{of[k]}" if k in of else value for k, value in score.chosen.items()}}
