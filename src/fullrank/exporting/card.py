"""The model card of an exported encoder: what it is, how to load it, what was measured, what it is not good for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
import yaml

from fullrank._version import __version__
from fullrank.config import TrainConfig
from fullrank.documents import Table
from fullrank.documents.markdown import table
from fullrank.exporting.facts import Facts, public
from fullrank.measure.protocols import FINGERPRINT
from fullrank.measure.verdict import judge
from fullrank.models.backbones import CHANNELS, FULLRANK_RESNET, RESNETS, TIMMS_RESNETS, TimmModel
from fullrank.models.exported import WEIGHTS
from fullrank.models.fullrank_resnet import STEMS
from fullrank.training.plan import describe_order
from fullrank.training.setup import build_order

HUB_DATASETS = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}
"""Named sets that lie on the Hub, and what they are called there."""
_FEW_PASSES = (
    100  # the published encoders of SimSiam, BYOL, VICReg and Barlow Twins saw their images 100 to 1,000 times
)


def card(facts: Facts, made: TimmModel, data: Mapping[str, Any]) -> str:
    """Return a model card in Markdown, with its metadata on top as the Hugging Face Hub reads them.

    Folders of this machine are left out of it: files are called by their names.

    Args:
        facts: What is known about the encoder.
        made: How timm makes it.
        data: How images are prepared for it, timm's `pretrained_cfg`.
    """
    sections = (
        _metadata(facts.config),
        f"# {facts.name}\n\n{_summary(facts)}",
        _loading(facts, made, data),
        _training(facts),
        _scores(facts),
        _spectrum(facts),
        _limits(facts, data),
        _versions(facts),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _metadata(config: TrainConfig) -> str:
    fields: dict[str, Any] = {
        "library_name": "timm",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["timm", "fullrank", "self-supervised-learning", config.method],
    }
    if config.images in HUB_DATASETS:
        fields["datasets"] = [HUB_DATASETS[config.images]]
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---"


def _summary(facts: Facts) -> str:
    config = facts.config
    branch = {
        "online": "the online branch, which gradients train",
        "target": "the target branch, the moving average of the online one",
    }[facts.branch]
    scaled = f" of width {config.backbone.width:g}" if config.backbone.width != 1 else ""
    return (
        f"An image encoder: {config.backbone.name}{scaled}, {facts.parameters / 1e6:.2f} M parameters, trained without "
        f"labels by {config.method}. It turns an image into {facts.width} numbers. The weights are of **{branch}** "
        f"(`{facts.branch}`), after step {facts.step:,} of {config.steps:,}."
    )


def _loading(facts: Facts, made: TimmModel, data: Mapping[str, Any]) -> str:
    imports = "import timm\n"
    if made.architecture == FULLRANK_RESNET:
        imports += f"import {FULLRANK_RESNET}  # the file beside this one: timm has no such ResNet of its own\n"
    size = data["input_size"][-1]
    return f"""## Loading it

Run these in this folder, or name the folder in place of the dot. In timm:

```python
{imports}
encoder = timm.create_model("local-dir:.", pretrained=True).eval()  # from the Hub: "hf-hub:USER/NAME"
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(encoder))

# the same network by the name of its architecture
arguments = {json.dumps(made.arguments)}
encoder = timm.create_model("{made.architecture}", num_classes=0, checkpoint_path="{WEIGHTS}", **arguments).eval()
```

`transform` makes a PIL image into the encoder's input: {size} x {size} pixels, normalised by the mean
{_brief(data["mean"])} and the standard deviation {_brief(data["std"])} of each channel.
`encoder(transform(image)[None])` is `(1, {facts.width})`.

{_in_torch(facts.config, made)}

In fullrank:

```python
import fullrank

encoder = fullrank.load(".")
```"""


def _in_torch(config: TrainConfig, made: TimmModel) -> str:
    """Show how to build the network without asking timm for a model."""
    shape = _resnet(config, made)
    if shape is None:
        return f"""The network is timm's, a `torch.nn.Module` like any other; its weights go by timm's names. In torch:

```python
import timm
from safetensors.torch import load_file

encoder = timm.create_model("{made.architecture}", num_classes=0, **{json.dumps(made.arguments)})
encoder.load_state_dict(load_file("{WEIGHTS}"))
encoder.eval()
```"""
    block = {"basic": "BasicBlock", "bottleneck": "Bottleneck"}[shape["block"]]
    kernel, stride, pooled = STEMS[shape["stem"]]
    first = shape["channels"][0]
    lines = [
        f"encoder.conv1 = torch.nn.Conv2d(3, {first}, {kernel}, stride={stride}, padding={kernel // 2}, bias=False)",
        *([] if pooled else ["encoder.maxpool = torch.nn.Identity()"]),
        f'encoder.load_state_dict(load_file("{WEIGHTS}"))',
        "encoder.eval()",
    ]
    if tuple(shape["channels"]) == CHANNELS:
        source = "torchvision.models.resnet"
        build = f"{shape['layers']}, width_per_group={shape['base_width']}"
        lines = ["encoder.fc = torch.nn.Identity()", *lines[shape["stem"] == "imagenet" :]]
    else:
        source = "timm.models.resnet"
        build = (
            f"{shape['layers']}, num_classes=0, channels={shape['channels']}, base_width={shape['base_width']}, "
            f'stem_type="deep", stem_width={first // 2}'
        )
    code = "\n".join(lines)
    return f"""In torch, from {source.split(".")[0]}'s ResNet, whose names its weights have:

```python
import torch
from safetensors.torch import load_file
from {source} import {block}, ResNet

encoder = ResNet({block}, {build})
{code}
```"""


def _resnet(config: TrainConfig, made: TimmModel) -> dict[str, Any] | None:
    """Return the shape of a ResNet of ours as `fullrank_resnet` takes it; None for another model of timm."""
    if made.architecture == FULLRANK_RESNET:
        return made.arguments
    if config.backbone.name not in RESNETS:
        return None
    block, layers = next(shape for shape, name in TIMMS_RESNETS.items() if name == made.architecture)
    plain = {"block": block, "layers": list(layers), "channels": CHANNELS, "base_width": 64, "stem": "imagenet"}
    return {**plain, **made.arguments}


def _training(facts: Facts) -> str:
    config = facts.config
    order, images = str(config.order), public(config.images)
    if facts.images is not None:
        order = describe_order(build_order(config, facts.images))
        images = f"{facts.images:,} of {images}"
    optim = config.optim
    fields = {
        "method": config.method,
        "images": f"{images}, without their labels",
        "order": order,
        "steps": f"{facts.step:,} of {config.steps:,}, {config.batch_size} images each",
        "views": f"{config.views}, {config.image_size} x {config.image_size}",
        "backbone": _set(vars(config.backbone)),
        "heads": _set(vars(config.heads)) or "none",
        "loss": _set(vars(config.loss)) or "no coefficients",
        "target": _set(public(vars(config.target))) or "none of its own",
        "optimiser": f"{optim.optimizer}, base learning rate {optim.base_lr:g} at a batch of 256, momentum "
        f"{optim.momentum:g}, weight decay {optim.weight_decay:g}, {optim.warmup_steps:,} steps of warm-up",
        "seed": str(config.seed),
    }
    return "## How it was trained\n\n" + _table(("setting", "value"), list(fields.items()))


def _scores(facts: Facts) -> str:
    heading = "## Scores\n\n"
    remark = f"{facts.remark}\n" if facts.remark else ""
    if not facts.scores:
        return f"{heading}{remark}".rstrip()
    protocols: dict[str, int] = {}
    rows = []
    for score in facts.scores:
        shown = {key: value for key, value in score.protocol.items() if key != FINGERPRINT}
        protocol = _set(public(shown), "; ") or "not known"
        place = protocols.setdefault(protocol, len(protocols) + 1)
        rows.append((score.kind.title, score.text, score.kind.direction, str(place)))
    listed = "\n".join(f"{place}. {protocol}" for protocol, place in protocols.items())
    table = _table(("score", "value", "better", "protocol"), rows)
    return f"{heading}{remark}Of these weights, after step {facts.step:,}.\n\n{table}\n\nProtocols:\n\n{listed}"


def _spectrum(facts: Facts) -> str:
    if facts.spectrum is None:
        return ""
    measured = facts.spectrum
    judged = judge(measured, init=facts.init)
    largest = measured.singular_values / measured.singular_values[0].clamp(min=1e-300)
    places = sorted({1, *(2**power for power in range(1, 12) if 2**power < measured.dim), measured.dim})
    rows = [
        (str(place), f"{float(largest[place - 1]):.2g}", f"{float(measured.explained[place - 1]):.3f}")
        for place in places
    ]
    table = _table(("singular value", "size", "cumulative share"), rows)
    return (
        f"## Spectrum\n\n{judged.text} Confidence {judged.confidence}: {judged.certainty}.\n\n"
        f"`spectrum.safetensors` has all {measured.dim} singular values of the representation. Some of them, relative "
        f"to the largest, and the share of their sum up to there:\n\n{table}\n\n"
        "[Li22]: Li, Efros & Pathak, ECCV 2022, https://arxiv.org/abs/2209.15007"
    )


def _limits(facts: Facts, data: Mapping[str, Any]) -> str:
    config = facts.config
    size = data["input_size"][-1]
    said = [
        "It has no classifier: its features are for k-NN, a linear probe, clustering, retrieval, or fine-tuning.",
        f"It has seen views of {size} x {size} pixels of one set of images. On images of another kind or size, measure "
        "it before you rely on it.",
        "It takes on what its images show and leave out, and it was not examined for fairness or safety. What their "
        "licence allows, it does not widen.",
        "The scores are of one run: another seed gives other ones.",
    ]
    if facts.step < config.steps:
        said.append(f"Its training is unfinished: the learning rate had not come down yet at step {facts.step:,}.")
    if facts.images:
        passes = facts.step * config.batch_size / facts.images
        if passes < _FEW_PASSES:
            said.append(
                f"It saw {passes:.1f} times as many images as its set has; published encoders of such methods saw "
                "theirs 100 to 1,000 times."
            )
    return "## What it is not good for\n\n" + "\n".join(f"- {sentence}" for sentence in said)


def _versions(facts: Facts) -> str:
    return (
        f"## Versions\n\nTrained with: {_set(facts.environment) or 'not known'}.\n\n"
        f"Exported with: fullrank {__version__}, timm {timm.__version__}, torch {torch.__version__}. Before it was "
        "written, this timm built it from this folder, with the same features as the run's, bit for bit, on a CPU."
    )


def _set(values: Mapping[str, Any], between: str = ", ") -> str:
    """List what is set, as `name value, name value`."""
    return between.join(f"{name} {_brief(value)}" for name, value in values.items() if value is not None)


def _brief(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return f"({', '.join(_brief(each) for each in value)})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return table(Table("", headings, rows, text=range(len(headings)), captioned=False))
