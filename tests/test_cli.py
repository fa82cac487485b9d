"""The command line as a person meets it: texts, exit codes, and nothing lost."""

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml

import fullrank
from fullrank.cli import _parse, _renamed, main
from fullrank.config import MachineConfig, TrainConfig, to_dict
from fullrank.errors import FullrankError, env_count
from fullrank.files import write_text
from fullrank.training.plan import plan
from fullrank.training.runs import read_run
from tests.conftest import draw_nothing
from tests.training.tiny import tiny


@pytest.fixture
def tiny_yaml(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(to_dict(tiny(steps=6))))
    return str(path)


def fails(arguments, capsys, code=1):
    """Run a command that must fail, and return what it wrote to stderr."""
    try:
        found = main(arguments)
    except SystemExit as leaving:  # tyro leaves by itself
        found = leaving.code
    assert found == code
    return capsys.readouterr().err


def test_train_report_and_resume(tmp_path, tiny_yaml, capsys, monkeypatch):
    run = str(tmp_path / "run")
    assert main(["train", "--config", tiny_yaml, "--order", "hybrid", "--out", run]) == 0
    output = capsys.readouterr().out
    assert re.search(r"run  3/6 steps +[\d,]+ images/s +loss [+-]\d\.\d{4}", output)
    assert f"report: {run}/report.html" in output
    assert read_run(run).config["order"] == "hybrid"
    assert main(["train", "--resume", run]) == 0
    assert "is finished: all 6 steps are done" in capsys.readouterr().out
    draw_nothing(monkeypatch)  # another time
    page = tmp_path / "both.html"
    assert main(["report", run, run, "--out", str(page)]) == 0
    assert page.stat().st_size > 10_000


def test_flags_win_over_config_which_wins_over_preset(tmp_path, tiny_yaml, monkeypatch, capsys, no_drawing):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "--preset", "simsiam-lab", "--config", tiny_yaml, "--steps", "4", "--backbone.width", "0.125"]
    assert main([*arguments, "--out", "run"]) == 0
    config = read_run("run").config
    assert (config["steps"], config["backbone"]["width"]) == (4, 0.125)
    assert config["batch_size"] == 16
    capsys.readouterr()


def test_dry_run_prints_the_plan_and_makes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--order", "hybrid", "--dry-run"]) == 0
    plan = " ".join(capsys.readouterr().out.split())
    for words in (
        "digits: 1,438 (labeled); held in memory, 0.3 MB",
        "359 images",
        "hybrid: 20 chunks of 71 images, 75 steps each, 75.0 passes over a chunk",
        "multiple passes over all from step 600",
        "1,500 of 64 images",
        "0.93 M (backbone 0.70 M, projector 0.10 M, predictor 0.13 M)",
        "about",
    ):
        assert words in plan
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["byol", "vicreg-ctr", "nnsiam"])
def test_a_plan_counts_what_a_method_has(method, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        main(["train", "--method", method, "--dry-run", "--target.queue", "64" if method == "nnsiam" else "None"]) == 0
    )
    plan = " ".join(capsys.readouterr().out.split())
    words = {
        "byol": "2.72 M (backbone 0.70 M, projector 0.40 M, predictor 0.53 M, target 1.10 M)",
        "vicreg-ctr": "1.29 M (backbone 0.70 M, projector 0.59 M)",
        "nnsiam": "0.93 M (backbone 0.70 M, projector 0.10 M, predictor 0.13 M)",
    }
    assert words[method] in plan


def test_a_plans_memory_grows_with_the_batch_but_for_what_has_the_size_of_the_embedding(monkeypatch):
    def activations(method, batch):
        config = TrainConfig(method=method, batch_size=batch, machine=MachineConfig(device="cpu", precision="float32"))
        text = plan(config)[0].data["memory"]
        return float(re.search(r"activations ([\d.]+) MB", text)[1])

    monkeypatch.setattr("fullrank.training.plan.gigabytes", lambda size: f"{size / 1e6} MB")

    def of_the_embedding(method):
        few, many = activations(method, 2), activations(method, 102)
        return few - 2 * (many - few) / 100

    # log sum exp of an M x M matrix, M = 512 here, keeps it for each of the two views, whatever the batch
    assert of_the_embedding("vicreg-exp") - of_the_embedding("vicreg") > 2 * 4 * 512**2 / 1e6
    few, many, most = (activations("vicreg-exp", batch) for batch in (2, 102, 202))
    assert most - many == pytest.approx(many - few, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--images", "cifra10"], "no images at 'cifra10'.*did you mean 'cifar10'"),
        (["train", "--steps", "0"], "steps must be at least 1 and at most 1,000,000,000,000, got 0"),
        (
            ["train", "--order", "hybrid", "--chunks", "100"],
            "chunks=100 cuts 1438 images into chunks of 14, smaller than",
        ),
        (["train", "--preset", "simsiam-lap"], "unknown preset 'simsiam-lap'; did you mean 'simsiam-lab'"),
        (["train", "--config", "none.yaml"], "cannot read none.yaml"),
        (["train", "--resume", "none"], "none does not exist: expected a folder made by"),
        (["train", "--resume", "none", "--dry-run"], "none does not exist: expected a folder made by"),
        (["train", "--crop-min", "3"], "crop_min must be above 0 and at most 1, got"),
        (["train", "--crop-min", "3", "--dry-run"], "crop_min must be above 0 and at most 1, got"),
        (["train", "--monitor.num-images", "1"], "monitor.num_images must be at least 2"),
        (["train", "--monitor.knn-k", "9999"], "monitor.knn_k=9999 neighbors are more than the 1438 labeled images"),
        (["train", "--eval-images", "empty"], "held-out images: no images in empty: .*; or leave them out with"),
        (["train", "--out", "/proc/run"], "cannot make the run's folder /proc/run .*: choose another --out"),
        (["train", "--resume", "none", "--preset", "simsiam-lab"], "leave out --preset and --config"),
        (["train", "--machine.device", "cuda:77"], "there is no cuda:77 here"),
        (["train", "--backbone.name", "resnet81"], "unknown backbone 'resnet81'"),
        (["train", "--method", "distill"], "method=distill needs a teacher: --target.teacher with a run, a checkpoint"),
        (["train", "--method", "distill", "--target.teacher", "runs/x"], "no run, checkpoint or timm model .*runs/x"),
        (["train", "--method", "nnsiam", "--target.queue", "100"], "target.queue=100 is not a multiple of batch_size"),
        (["train", "--method", "simclr", "--loss.mu", "1"], "method=simclr has no loss.mu .*it takes loss.temperature"),
        (["train", "--method", "vicreg", "--heads.projector-out", "1"], "heads.projector_out=1 leaves embeddings"),
        (["train", "--dry-run", "--images", "empty"], "no images in empty: expected files ending in .jpg"),
        (["report", "none"], "none does not exist: expected a folder made by `fullrank train`"),
        (["report"], "give at least one run"),
        (["watch"], "give at least one run, or the folder"),
        (["watch", "none"], "none is not a folder"),
    ],
)
def test_what_a_person_gets_wrong_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    error = fails(arguments, capsys)
    assert re.search(message, error)
    assert error.startswith("fullrank: error: ")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_wrong_flag_names_the_nearest(capsys):
    error = fails(["train", "--stesp", "5"], capsys, code=2)
    assert "--stesp" in error
    assert "--steps" in error
    assert "Traceback" not in error


def test_resuming_with_other_flags_names_them(tmp_path, tiny_yaml, capsys, no_drawing):
    run = str(tmp_path / "run")
    assert main(["train", "--config", tiny_yaml, "--out", run]) == 0
    error = fails(["train", "--resume", run, "--steps", "9"], capsys)
    assert "steps: 6 -> 9" in error
    error = fails(["train", "--resume", run, "--out", "elsewhere"], capsys)
    assert "-> elsewhere" in error
    error = fails(["train", "--config", tiny_yaml, "--out", run], capsys)
    assert f"already holds a run: go on with it by --resume {run}" in error


def test_a_full_disk_is_one_line(tmp_path, tiny_yaml, capsys, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    error = fails(["train", "--config", tiny_yaml, "--out", str(tmp_path / "run")], capsys)
    assert error.startswith("fullrank: error: No space left on device; what was saved before is whole: free some space")
    assert "give the command again, to train with --resume RUN" in error
    assert error.count("\n") == 1


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fullrank {fullrank.__version__}\n"


def test_help_is_quick_and_names_every_command():
    began = time.perf_counter()
    shown = subprocess.run([sys.executable, "-m", "fullrank", "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - began < 2
    for command in ("demo", "train", "report", "watch", "inspect", "export"):
        assert command in shown.stdout


def test_importing_fullrank_imports_nothing_heavy():
    heavy = {"torch", "timm", "matplotlib", "torchmetrics"}
    code = f"import sys, fullrank, fullrank.cli; fullrank.FullrankError; print({heavy} & {{*sys.modules}})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_weights_of_an_unnamed_network_are_refused_before_torch_is_imported(tmp_path):
    (tmp_path / "x.pth").touch()
    code = "import sys, fullrank.cli as cli; code = cli.main(['inspect', 'x.pth']); print(code, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.split() == ["1", "False"]
    assert "x.pth is not a checkpoint of ours: if it holds weights, say whose, as in --backbone" in found.stderr


def test_public_names_are_there():
    assert fullrank.orders.Hybrid.name == "hybrid"
    assert fullrank.spectrum.__module__ == "fullrank.measure.spectrum"
    assert fullrank.losses.simsiam is not None
    assert set(fullrank.__all__) <= set(dir(fullrank))
    for name in fullrank.__all__:
        assert getattr(fullrank, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = fullrank.nothing


def test_inspect_prints_a_table_a_verdict_and_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("whole.npy", rng.standard_normal((400, 16)))
    np.save("flat.npy", rng.standard_normal((400, 3)) @ rng.standard_normal((3, 16)))
    assert main(["inspect", "whole.npy", "flat.npy"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    for words in (
        "whole.npy: kind features, file whole.npy, shape 400 x 16",
        "normalize no",
        "participation ratio",
        "whole.npy: Healthy spectrum. AUC",
        "flat.npy: Partial dimensional collapse. 13 of 16 directions are dead",
        "Confidence high: 400 images for 16 directions raise AUC by up to about",
        "(--order hybrid)",
        "AUC: lowest for whole.npy",
        "page: inspect.html",
    ):
        assert words in output
    assert "13 of 16 directions are dead" in (tmp_path / "inspect.html").read_text(encoding="utf-8")


def test_inspect_for_programs(tmp_path, monkeypatch, capsys, no_drawing):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).standard_normal((400, 16)))
    assert main(["inspect", "x.npy", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]
    only = found["inspected"][0]
    assert (only["name"], only["kind"], only["verdict"]["level"]) == ("x.npy", "features", "healthy")
    assert len(only["singular_values"]) == 16
    scores = {score["name"]: score for score in only["scores"]}
    assert scores["auc"]["value"] == pytest.approx(fullrank.spectrum(np.load("x.npy")).auc)
    assert scores["auc"]["protocol"]["n"] == 400
    assert main(["inspect", "x.npy", "--json", "--out", "page/x.html"]) == 0
    written = capsys.readouterr()
    assert json.loads(written.out) == found
    assert "page: page/x.html" in written.err


def test_inspect_many_has_a_line_each(tmp_path, monkeypatch, capsys, no_drawing):
    monkeypatch.chdir(tmp_path)
    for i in range(5):
        np.save(f"{i}.npy", np.random.default_rng(i).standard_normal((200, 8)))
    assert main(["inspect", *(f"{i}.npy" for i in range(5))]) == 0
    assert re.search(r"4\.npy +200 +8 .* healthy", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect"], "give at least one thing to inspect"),
        (["inspect", "none.npy"], "there is no none.npy: expected a run's folder"),
        (["inspect", "resnet18"], "resnet18 does not say which images to take features of"),
        (["inspect", "resnet18", "--images", "digits", "--device", "cuda:77"], "there is no cuda:77 here"),
        (["inspect", "nan.npy"], "nan.npy: features hold NaN or infinity in 1 of 4 rows, first in row 2"),
        (["inspect", "nan.npy", "--out", "."], ". is a folder: name the page to write"),
        (["inspect", "notes.txt"], "notes.txt"),
    ],
)
def test_what_cannot_be_inspected_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bad = np.ones((4, 2))
    bad[2, 1] = np.nan
    np.save("nan.npy", bad)
    (tmp_path / "notes.txt").write_text("nothing")
    error = fails(arguments, capsys)
    assert message in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nan.npy", "notes.txt"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("[/x/third_party/gloo/gloo/transport/tcp/pair.cc:545] Read error [10.0.0.2]:37611: reset"),
            "another process has ended, or the network between them has failed: see what torchrun and it say",
        ),
        (torch.distributed.DistBackendError("NCCL error"), "another process has ended, or the network"),
        (MemoryError(), "out of memory: look at fewer images with --limit, or close other programs"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"), "out of memory: look at fewer"),
        (KeyError("x"), "KeyError: 'x'; this is a fault of fullrank"),
    ],
)
def test_any_error_is_one_line_and_debug_shows_where(error, words, monkeypatch, capsys):
    def fail(arguments):
        raise error

    monkeypatch.setattr("fullrank.cli._parse", fail)
    printed = fails(["inspect"], capsys)
    assert words in printed
    assert printed.count("\n") == 1
    assert "Traceback" in fails(["--debug", "inspect"], capsys)


def test_a_plan_without_its_images_says_the_rest(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--images", "imagenet/train", "--backbone.width", "0.25", "--dry-run"]) == 1
    printed = capsys.readouterr()
    for words in ("imagenet/train: not counted", "224 x 224, assumed", "multiple-pass; how often", "1,500 of 64"):
        assert words in printed.out
    assert "fullrank: error: no images at 'imagenet/train'" in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--images", "none", "--out", "file/run"],
        ["inspect", "none.npy", "--out", "file/page.html"],
        ["rank", "none", "--fit", "file/fit.json"],
        ["export", "none", "--out", "file/export"],
        ["report", "run", "--out", "file/page.html"],
    ],
)
def test_an_output_that_cannot_be_made_is_refused_before_anything_is_read(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").touch()
    assert re.search(r"cannot write \S+: \S+/file is no folder; choose another --(out|fit)", fails(arguments, capsys))


def test_world_size_empty_is_unset_and_a_word_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "")
    assert env_count("WORLD_SIZE", 1) == 1
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(FullrankError, match="WORLD_SIZE='two' is not a whole number"):
        env_count("WORLD_SIZE", 1)


def test_home_is_meant_in_every_path_and_other_names_that_begin_so_stay(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for words in (["train", "--resume=~/none"], ["train", "--config=~/none"], ["rank", "none", "--fit=~/none/none"]):
        assert main(words) == 1
        assert f"{tmp_path}/none" in capsys.readouterr().err
    (tmp_path / "~x.npy").touch()
    for words in (["inspect", "~x.npy"], ["rank", "~x.npy"], ["export", "~x.npy", "--out", "~y"]):
        assert main(words) == 1
        error = capsys.readouterr().err
        assert "~x.npy" in error
        assert "fault" not in error


def test_a_link_is_followed_and_a_pipe_stays_a_pipe(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "through")
    assert os.read(reader, 99) == b"through"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "there is no command 'trian'; did you mean 'train'? (there are: demo, train, "),
        (["train", "--stpes", "3"], "fullrank train takes no '--stpes'; did you mean '--steps'?"),
        (["train", "--stpes=3"], "fullrank train takes no '--stpes'; did you mean '--steps'?"),
        (["train", "--base-lr", "1"], "fullrank train takes no '--base-lr'; did you mean '--optim.base-lr'?"),
        (["train", "--lr", "1"], "fullrank train takes no '--lr'; did you mean '--optim.base-lr'?"),
        (["train", "--optim.learning-rate=1"], "takes no '--optim.learning-rate'; did you mean '--optim.base-lr'?"),
        (["train", "--max_epochs", "1"], "takes no '--max_epochs'; did you mean '--steps'?"),
        (["train", "--arch", "resnet18"], "takes no '--arch'; did you mean '--backbone.name'?"),
        (["inspect", "a.pth", "--arch", "resnet18"], "takes no '--arch'; did you mean '--backbone'?"),
        (["evaluate", "RUN", "--epochs", "1"], "takes no '--epochs'; did you mean '--linear.epochs'?"),
        (["evaluate", "RUN", "--lr", "1"], "takes no '--lr'; did you mean '--linear.base-lr'?"),
        (["train", "--target", "x"], "fullrank train takes no '--target'; give one of --target.constant-momentum, "),
        (["train", "digits"], "fullrank train takes no 'digits' ("),
        (["inspect", "a.npy", "--bakbone", "resnet50"], "fullrank inspect takes no '--bakbone'; did you mean '--back"),
        (["study", "show", "orders", "--scael", "lab"], "fullrank study takes no '--scael'; did you mean '--scale'?"),
    ],
)
def test_a_wrong_flag_is_one_line_with_the_nearest(words, message, capsys):
    error = fails(words, capsys, code=2)
    assert message in error
    assert error.startswith("fullrank: error: ")
    assert error.count("\n") == 1


def test_the_backbone_has_one_flag_by_either_name():
    assert _parse(_own(["train", "--backbone", "resnet50"])) == _parse(["train", "--backbone.name", "resnet50"])
    assert _parse(_own(["inspect", "x.pth", "--backbone.name=vgg11"])).backbone == "vgg11"


def _own(words):
    return [_renamed(word, words[0]) for word in words]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "x", "--limit", "1"], "limit must be at least 2 and at most 1,000,000,000, got 1 (a spectrum "),
        (["inspect", "x", "--image-size", "0"], "image_size must be at least 4 and at most 16,384, got 0"),
        (["rank", "x", "--limit", "1"], "limit must be at least 2 "),
        (["evaluate", "x", "--knn.k", "0"], "knn.k must be at least 1 and at most 1,000,000,000, got 0"),
        (["evaluate", "x", "--linear.crop-min", "nan"], "linear.crop_min must be above 0 and at most 1, got nan"),
    ],
)
def test_an_option_out_of_its_range_is_one_line(arguments, message, capsys):
    said = fails(arguments, capsys)
    assert said.startswith(f"fullrank: error: {message}")
    assert said.count("\n") == 1
