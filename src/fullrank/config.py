"""The configuration of a run: frozen dataclasses that YAML files, presets and command-line flags all fill.

This module imports nothing heavy: `fullrank --help` is made from it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml

from fullrank.errors import FullrankError, nearest, shown
from fullrank.registry import METHODS, ORDERS, VIEWS
from fullrank.shapes import Range, check_fields, fields, fit
from fullrank.text import flatten

# The upper ends are far above any use: they catch slips before memory runs out.
Steps = Annotated[int, Range(1, 10**12)]
Count = Annotated[int, Range(1, 10**9)]
Channels = Annotated[int, Range(1, 2**20)]
Layers = Annotated[int, Range(1, 1000)]
Share = Annotated[float, Range(0, 1)]
Weight = Annotated[float, Range(0, 1e9)]
Positive = Annotated[float, Range(0, 1e9, above=True)]
Factor = Annotated[float, Range(0, 64, above=True)]
Pixels = Annotated[int, Range(4, 2**14)]
Workers = Annotated[int, Range(0, 2**14)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
Limit = Annotated[int, Range(2, 10**9, why="a spectrum or a classifier needs several images")]
Block = Literal["basic", "bottleneck"]
Stem = Literal["auto", "imagenet", "cifar", "cifar-stride2", "cifar-padding2"]
Precision = Literal["auto", "bf16", "float32"]
Branch = Literal["online", "target"]
Layer = Literal["representation", "embedding"]
Normalization = Literal["auto", "imagenet", "cifar10"]
Pretrained = Literal["yes", "no"]
Accuracy = Literal["linear", "logistic", "knn"]
Scale = Literal["lab", "paper"]


@dataclass(frozen=True)
class BackboneConfig:
    """The encoder whose output is the representation."""

    name: str = "resnet18_w16"
    """resnet18_w16 (16 channels at first, for laptops), [Li22]'s resnet18, resnet34, resnet50, bottleneck26,
    bottleneck26x2 and basic50, or any timm model."""
    block: Block | None = None
    """Replaces the named ResNet's block."""
    depths: Annotated[tuple[int, int, int, int], Range(1, 1000)] | None = None
    """Replaces the named ResNet's blocks in each of its four stages."""
    width: Factor = 1.0
    """Multiplies a ResNet's channels, and so the representation's width D; 1 is the named network."""
    inner_width: Factor | None = None
    """Multiplies the channels inside a bottleneck only; D stays."""
    stem: Stem = "auto"
    """First layers of a ResNet: 7x7 and pooling, 3x3, 3x3 of stride 2, or 3x3 with a border of 2 (solo-learn's); auto
    takes 3x3 for views up to 64 pixels."""
    blocks: Layers | None = None
    """Replaces a named vision transformer's number of blocks."""
    attention_heads: Layers | None = None
    """Replaces its number of attention heads, a divisor of its width."""
    patch: Annotated[int, Range(1, 2**14)] | None = None
    """Replaces its rows and columns of a patch, in pixels."""
    positions: Literal["learned", "sincos"] = "learned"
    """A vision transformer's positions: learned, or fixed sines and cosines of row and column, as MoCo-v3 has them."""
    frozen_patches: bool = False
    """Leave a vision transformer's projection of patches at its random initial weights, as MoCo-v3 does."""


@dataclass(frozen=True)
class HeadsConfig:
    """Projector and predictor; what is left out is the method's own, narrower behind a narrow backbone."""

    projector_hidden: Channels | None = None
    """Width between the projector's layers."""
    projector_out: Channels | None = None
    """Width M of the embedding."""
    projector_layers: Layers | None = None
    """Linear layers of the projector."""
    predictor_hidden: Channels | None = None
    """Width inside the predictor, where the method has one."""
    normalize: Literal["none", "vicreg", "vicreg_exp", "vicreg_ctr", "simclr", "simclr_a", "simclr_b"] | None = None
    """What is done to a batch of embeddings before a loss that compares them: a scheme of [Garrido23] Table 1
    (`fullrank.losses.normalize`), or nothing. What the loss does by itself, such as cosines, it does afterwards."""


@dataclass(frozen=True)
class LossConfig:
    """Coefficients of the loss; its own defaults where left out, an error if the method's loss does not take them."""

    temperature: Positive | None = None
    """What similarities, or covariances in vicreg_exp and _ctr, are divided by inside exponentials."""
    invariance: Weight | None = None
    """Weight of the term that pulls the two views together."""
    variance: Weight | None = None
    """Weight of the term that keeps dimensions spread out (embeddings, in vicreg_ctr)."""
    covariance: Weight | None = None
    """Weight of the term that keeps dimensions apart (embeddings, in vicreg_ctr)."""
    lambd: Weight | None = None
    """Weight of the off-diagonal correlations in barlow_twins."""
    mu: Positive | None = None
    """Squared norm that spectral clips embeddings to."""
    eps: Positive | None = None
    """Squared distortion in tcr; what vicreg, its variants and barlow_twins add to variances."""
    toward: Literal["mean", "view"] | None = None
    """Whether tcr pulls each view to the mean of both (EMP-SSL) or to the other one (NMCE, with eps .5, invariance 100:
    what [Garrido23] mean by TCR)."""
    center: Literal["dimensions", "embeddings"] | None = None
    """What vicreg_ctr subtracts means from: each dimension, or each embedding ([Garrido23] eq. 13 to the letter)."""


@dataclass(frozen=True)
class TargetConfig:
    """The branch that gives the targets, in methods that have one; the method's own defaults where left out."""

    momentum: Share | None = None
    """Momentum of the moving average that is the target of byol and mocov3, in [0, 1], at the start; it rises to 1
    along a cosine."""
    constant_momentum: bool | None = None
    """Keep that momentum constant, as [Li22]'s code does by default."""
    queue: Count | None = None
    """Number of embeddings among which nnsiam looks for nearest neighbors; a multiple of the batch."""
    teacher: str | None = None
    """What distill learns from: a run, a checkpoint, or a timm model, whose published weights are taken."""
    statistics_rate: Share | None = None
    """Share of a batch in the running mean and variance of the teacher's features."""


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning-rate schedule."""

    optimizer: Literal["sgd", "adamw", "lars"] = "sgd"
    """SGD with momentum, AdamW, or LARS (timm's)."""
    base_lr: Weight = 0.3
    """Learning rate at a batch of 256; it is scaled by batch_size / 256."""
    momentum: Annotated[float, Range(0, 1, below=True)] = 0.9
    """Momentum of SGD and LARS."""
    weight_decay: Weight = 5e-4
    """Weight decay, at least 0, as torch's optimizers take it; 0.0001 in [Li22]."""
    decay_all: bool = True
    """Decay all parameters, as SimSiam and [Li22] do, or leave out biases and norms. LARS always leaves them out, and
    does not scale their rate."""
    decay_heads: Literal["all", "projector", "none"] = "all"
    """What of the heads is decayed: all, as in [Li22], the projector but not the predictor, or none."""
    warmup_steps: Annotated[int, Range(0, 10**12)] = 0
    """Steps over which the learning rate rises linearly from 0, the predictor's too."""
    cosine_every: Steps = 1
    """Steps between updates of warm-up and cosine; [Li22] updates once an epoch (5,004 steps on ImageNet)."""
    final_lr: Share = 0.0
    """Share of the learning rate that the cosine ends at; 0.001 for VICReg and Barlow Twins."""
    bias_lr: Weight | None = None
    """Base learning rate of biases and norms; base_lr when left out. Barlow Twins has another."""
    constant_predictor_lr: bool = True
    """Keep the predictor's learning rate constant under every optimizer, in simsiam and nnsiam; those of byol and
    mocov3 decay with the rest."""


@dataclass(frozen=True)
class MonitorConfig:
    """What is watched while training, and how often."""

    log_every: Steps | None = None
    """Steps between records of loss, learning rate and std; when left out 50, or a tenth of a run of fewer than 500."""
    measure_every: Steps = 500
    """Steps between measurements: spectrum, held-out loss, k-NN. The first is before training, the last after it."""
    num_images: Limit = 5000
    """Number of training images (spectrum, k-NN bank), and of held-out images (loss, queries), in a measurement; drawn
    at random, the same in every run."""
    whole: bool = False
    """In a run on a subset, draw the training images to measure from all images, as [Li22], not from the subset."""
    knn_k: Count = 20
    """Neighbors that vote in the k-NN monitor."""
    online_probe: bool = False
    """Also train a linear classifier on the representation, without changing the encoder; needs labels."""
    tensorboard: bool = False
    """Write TensorBoard events into the run's folder too (needs the extra `tensorboard`)."""
    wandb: bool = False
    """Log to Weights & Biases too, to the project of WANDB_PROJECT or else `fullrank` (needs the extra `wandb`)."""


@dataclass(frozen=True)
class MachineConfig:
    """How the machine is used. These may change when a run is resumed."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto takes a GPU where there is one."""
    precision: Precision = "auto"
    """Autocast to bfloat16 or not; auto asks the machine whether it gains."""
    compile: bool = False
    """Compile the model with torch.compile, on a GPU with CUDA graphs too: the first step takes minutes, and results
    change by rounding."""
    threads: Annotated[int, Range(1, 2**14)] | None = None
    """CPU threads of torch, of each process; its own default when left out. Equal numbers give equal bits."""
    workers: Workers = 2
    """Processes that decode images, where they are streamed, for each process that trains."""
    memory_gb: Annotated[float, Range(0, 10**6, above=True)] | None = None
    """Memory of a machine, in GB, that decoded images may take; half of what is free when left out."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run computes."""

    images: str = "digits"
    """Training images: digits, cifar10, cifar100, stl10, places365, a registered source, a folder, .parquet or .tar
    files or a pattern of them, hf://owner/name; as torchvision loads them, without alpha and not turned by EXIF, and
    16-bit grays scaled to 8."""
    eval_images: str | None = None
    """Held-out images; when left out a named set's own test split, else none. Their labels are matched with those of
    the training images by name, or by number where both are numbers."""
    data_dir: str = "~/.cache/fullrank"
    """Where named sets are downloaded to."""
    subset: Annotated[float, Range(0, 1, above=True, why="a share: 5 % is 0.05")] = 1.0
    """Share of the training images to use, in (0, 1]; smaller subsets lie inside larger ones."""
    strict: bool = False
    """Stop at the first image that cannot be decoded, instead of naming and skipping it."""
    cache: Literal["auto", "memory", "chunks", "stream"] = "auto"
    """Decode all images once and keep them (memory), keep the current chunk of single-pass, or of hybrid before its
    switch, and decode the next meanwhile (chunks), or decode in workers as steps need them (stream)."""
    cache_side: Annotated[int, Range(4, 2**14)] | None = None
    """Shorter side that larger images are scaled down to before they are kept, and crops drawn from; twice image_size
    when left out, and for views up to 64 pixels as they are. Streamed images are not scaled."""
    reduced_jpeg: bool = False
    """Decode streamed JPEG at a half, quarter or eighth of its size where every crop of an image stays as large as the
    view at least: quicker for photographs of millions of pixels, to slightly other pixels."""
    image_size: Pixels | None = None
    """Rows and columns of a view; the images' own size up to 64 when left out, else 224."""

    method: Annotated[str, METHODS] = "simsiam"
    """How the encoder is trained."""
    order: Annotated[str, ORDERS] = "multiple-pass"
    """Which images each step sees: all (multiple-pass), or chunks of them."""
    chunks: Count = 20
    """Number of chunks that the images are cut into, in all orders but multiple-pass."""
    switch: Share = 0.4
    """Share of the steps, in [0, 1], after which hybrid goes from single pass to multiple pass."""
    rounds: Count = 1
    """How often single-pass visits each chunk; its passes over a chunk are divided among the visits."""
    order_options: dict[str, int | float | str] = field(default_factory=dict, hash=False)
    """Other settings of an order from another package: names and values."""
    reset_momentum: bool = False
    """Set the momentum of SGD or LARS to zero at each chunk's first step, and at hybrid's switch; [Li22] does not."""
    reset_statistics: bool = False
    """Forget batch norms' running means and variances there. Training normalizes by its batches, so weights stay the
    same; only measurements soon after differ."""
    views: Annotated[str, VIEWS] = "cifar"
    """Recipe of the random views: a paper's, or crops, flips and colors without blur (cifar)."""
    crop_min: Annotated[float, Range(0, 1, above=True)] | None = None
    """Least share of the image's area that a crop covers, in (0, 1]; the recipe's when left out."""

    steps: Steps = 1500
    """Gradient steps."""
    batch_size: Annotated[int, Range(2, 10**9, why="batch normalization has no variance over one image")] = 64
    """Images of a step, over all processes."""
    seed: Seed = 0
    """Decides the initial weights, the order and the views."""
    checkpoint_every: Steps = 500
    """Steps between checkpoints."""
    keep_checkpoints: Annotated[int, Range(0, 10**9)] = 2
    """How many checkpoints to keep, the newest; 0 keeps all."""
    out: str | None = None
    """The run's folder; runs/IMAGES-METHOD-ORDER-sSEED, numbered if taken, when left out."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_together()

    @property
    def log_every(self) -> int:
        """Steps between records, decided where they are left open: a short run's curve needs points too."""
        return self.monitor.log_every or min(50, max(1, self.steps // 10))

    def _check_together(self) -> None:
        """Raise `FullrankError` where fields contradict each other."""
        optim = self.optim
        other = self.order in ORDERS.built_in and self.order != "single-pass"
        if self.cache == "chunks" and other and self.order != "hybrid":
            raise FullrankError(
                f"cache=chunks is for order=single-pass or hybrid, got order={self.order}: use cache=memory or stream"
            )
        if self.rounds > 1 and other:
            raise FullrankError(f"rounds={self.rounds} is for order=single-pass, got order={self.order}: leave it at 1")
        if (self.reset_momentum or self.reset_statistics) and self.order == "multiple-pass":
            name = "reset_momentum" if self.reset_momentum else "reset_statistics"
            raise FullrankError(f"{name} is for orders in chunks, got order=multiple-pass: leave it out")
        if self.reset_momentum and (optim.optimizer == "adamw" or not optim.momentum):
            has = "optim.optimizer=adamw" if optim.optimizer == "adamw" else "optim.momentum=0"
            raise FullrankError(f"reset_momentum is for SGD or LARS with momentum, got {has}: leave it out")
        if optim.warmup_steps >= self.steps:
            raise FullrankError(
                f"optim.warmup_steps={optim.warmup_steps} leaves none of the {self.steps} steps to train: "
                "lower it (--optim.warmup-steps), or take more steps"
            )
        if 1 < optim.cosine_every >= self.steps - optim.warmup_steps:
            raise FullrankError(
                f"optim.cosine_every={optim.cosine_every} steps is an epoch of another set, batch or length: the "
                f"learning rate would not fall once in {self.steps} steps; give the steps of an epoch, or 1"
            )
        if optim.bias_lr is not None and optim.base_lr == 0:
            raise FullrankError("optim.bias_lr is a share of optim.base_lr in every step, which is 0: raise it")


CHANGEABLE = (
    *("images", "eval_images", "data_dir", "cache", "machine", "target.teacher"),
    *("monitor.tensorboard", "monitor.wandb"),
)
"""Fields that may differ when a run is resumed. Moved images, training and held out, are recognized by fingerprints; a
teacher's weights are in the checkpoint."""


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration as nested plain values, ready for YAML: tuples become lists."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


_LARGEST = 2**20
_RENAMED = {"loss.lambda_": "lambd", "hold": "cache", "monitor.images": "num_images"}
"""Fields that files and flags of before know by another name."""
_ELSEWHERE = {
    "base_lr": "lr learning_rate",
    "batch_size": "batch bs batch_size_per_gpu per_device_train_batch_size train_batch_size",
    "checkpoint_every": "save_every save_steps checkpoint_frequency",
    "device": "gpu gpus accelerator",
    "eval_images": "val val_data val_images val_dir test test_images validation eval_data",
    "image_size": "img_size size resolution crop_size input_size",
    "images": "data dataset data_path train_data train_dir",
    "log_every": "log_interval log_every_n_steps logging_steps",
    "measure_every": "eval_every eval_interval eval_steps",
    "backbone": "arch architecture model encoder",
    "optimizer": "opt optim",
    "out": "output output_dir out_dir save_dir log_dir run_dir",
    "precision": "amp fp16 bf16 mixed_precision",
    "predictor_hidden": "pred_hidden_dim predictor_hidden_dim",
    "projector_hidden": "proj_hidden_dim projector_hidden_dim hidden_dim",
    "projector_out": "proj_dim proj_output_dim projection_dim output_dim out_dim",
    "seed": "random_seed manual_seed",
    "steps": "epochs num_epochs max_epochs num_train_epochs max_steps num_steps iterations iters",
    "temperature": "temp tau",
    "views": "augmentation augmentations aug transform transforms",
    "warmup_steps": "warmup warmup_epochs",
    "weight_decay": "wd decay",
    "workers": "num_workers",
}
"""What settings are called elsewhere in the field."""
_EXPONENT = re.compile(r"[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)e[-+]?[0-9]+", re.I)


def nearest_setting(name: str, known: Iterable[str]) -> str:
    """Return the hint of `nearest` for a setting: it may be named without its section, or as elsewhere in the field.

    Flags are settings too, written with dashes.

    >>> nearest_setting("optim.learning_rate", ["images", "optim.base_lr"]), nearest_setting("wd", ["weight_decay"])
    ("; did you mean 'optim.base_lr'?", "; did you mean 'weight_decay'?")
    """
    plain = {each: each.lstrip("-").replace("-", "_") for each in known}
    own = name.lstrip("-").replace("-", "_").rpartition(".")[2].lower()
    for word in (own, *(ours for ours, theirs in _ELSEWHERE.items() if own in theirs.split())):
        for each, setting in plain.items():
            if word in (setting.rpartition(".")[2], setting.removesuffix(".name")):
                return f"; did you mean {each!r}?"
    return nearest(name, plain)


class _Loader(yaml.SafeLoader):
    """Reads YAML that says each thing once: the last of two equal keys would win in silence.

    Merge keys (`<<`) are refused, with which a few lines can grow without bound.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, "<< is not taken", key.start_mark)
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                twice = f"{shown(key.value)} is there twice"
                raise yaml.constructor.ConstructorError(None, None, twice, key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)  # no field is named by another kind
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave mappings as they are."""


def read_config(path: Path, base: TrainConfig | None = None) -> TrainConfig:
    """Read a configuration from YAML: the fields it names replace those of `base`.

    Raises:
        FullrankError: The file is missing or no YAML mapping, a key is unknown, or a value does not fit its field.
    """
    from fullrank.files import reading  # which needs NumPy, and `--help` does not

    with reading(path, "mend it, or give another"):
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1).decode("utf-8-sig")
        if len(text) > _LARGEST:
            raise FullrankError(f"{path} is larger than {_LARGEST >> 20} MB, which no configuration is")
        values = yaml.load(text, _Loader)
    if not isinstance(values, dict):
        raise FullrankError(f"{path} must hold `key: value` lines, got {type(values).__name__}")
    if values.pop("environment", None) is None:  # a run's own config.yaml says there what it ran on
        for old in _RENAMED.keys() & values.keys():
            print(f"{path}: {old} is called {_RENAMED[old]} now", file=sys.stderr)
    return from_dict(values, base or TrainConfig(), str(path))


def from_dict(values: dict[str, Any], base: Any, where: str, prefix: str = "", whole: Any = None) -> Any:
    """Replace fields of a (nested) dataclass by plain values; an error calls their source `where`.

    `prefix` is the path to `base` within the whole configuration, such as `backbone.`; `whole` is that configuration.
    """
    kind: Any = type(base)
    hints, whole = fields(kind), base if whole is None else whole
    replaced = {}
    for key, value in values.items():
        name = f"{prefix}{key if isinstance(key, str) else shown(key)}"
        key = _RENAMED.get(name, key)
        if key not in hints:
            raise FullrankError(
                f"{where}: unknown key {shown(name)}{nearest_setting(name[:80], flatten(to_dict(whole)))} (known: "
                f"{', '.join(prefix + k for k in sorted(hints))})"
            )
        if key in replaced:
            old = next(each for each in values if each != key and _RENAMED.get(f"{prefix}{each}") == key)
            raise FullrankError(f"{where}: {prefix}{old} is called {prefix}{key} now, and both are given: keep one")
        current = getattr(base, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, dict):
                named = (
                    f"; did you mean {name}: {{name: {shown(value)}}}" if isinstance(current, BackboneConfig) else ""
                )
                inner = ", ".join(sorted(vars(current)))
                raise FullrankError(f"{where}: {name} holds settings ({inner}), got {shown(value)}{named}")
            replaced[key] = from_dict(value, current, where, f"{name}.", whole)
        else:
            replaced[key] = fit(_with_numbers(value, hints[key]), hints[key], f"{where}: {name}")
    return dataclasses.replace(base, **replaced)


def _with_numbers(value: Any, shape: Any) -> Any:
    """Turn text such as 1e-4 and 1.5e3 into numbers, which YAML 1.1 does not, but where a field is text, as a path."""
    if isinstance(value, dict):
        return {key: _with_numbers(each, Any) for key, each in value.items()}
    is_number = isinstance(value, str) and _EXPONENT.fullmatch(value) and str not in (shape, *get_args(shape))
    return float(value) if is_number else value


def forbidden_changes(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Name the fields that differ and may not, each as `name: old -> new`."""
    before, after = flatten(to_dict(old)), flatten(to_dict(new))
    return [
        f"{name}: {before[name]} -> {after[name]}"
        for name in before
        if before[name] != after[name] and not {name, name.split(".")[0]} & set(CHANGEABLE)
    ]
