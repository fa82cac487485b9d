"""Damaged and odd inputs of every kind, by chance but the same at each run: each ends in one line, or is worked with.

What is right depends on the damage. Any may be answered by an error: exit code 1, or 2 for flags, and one line that is
no fault of ours. Where a case says `refused`, nothing else is right: the damage is of a kind that cannot be overlooked,
such as a step that is text. Otherwise the command may succeed (a digit that became another digit), and what it prints
for programs is JSON without NaN.
"""

import contextlib
import copy
import io
import json
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.numpy import load_file, save_file

from fullrank import __version__
from fullrank.cli import main
from fullrank.config import to_dict
from fullrank.ranking.options import RankOptions
from fullrank.ranking.rank import rank
from fullrank.training.loop import train
from tests.ranking.ranked_runs import sweep
from tests.training.tiny import quiet, tiny

LONGEST = 30
"""Seconds that no command on such small inputs takes, unless it hangs."""


class Case(NamedTuple):
    """A command on a damaged input.

    Attributes:
        damage: What was done, to tell it from the others.
        arguments: The command.
        refused: Whether it must fail; otherwise it may.
    """

    damage: str
    arguments: list[str]
    refused: bool = False


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Whole inputs, of which each case damages a copy."""
    root = tmp_path_factory.mktemp("whole")
    for name, seed in (("run", 0), ("other", 1)):
        train(tiny(out=root / name, steps=6, seed=seed), console=quiet())
        score = {"name": "knn", "value": 0.5, "direction": "higher", "protocol": {"k": 5}}
        (root / name / "evaluation.json").write_text(json.dumps({"fullrank": "0", "step": 6, "scores": [score]}))
        taken = {"fullrank": __version__, "step": 6, "asked": {"images": None, "limit": 64, "views": False}}
        document = {"inspections": [{**taken, "width": 32, "scores": [{**score, "name": "rankme"}]}]}
        (root / name / "inspection.json").write_text(json.dumps(document))
    rank([root / "run", root / "other"], RankOptions(scores="auc", limit=64))  # writes scores.json
    rank(sweep(root / "sweep", 6), RankOptions(fit=root / "fit.json"))
    return root


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch, tmp_path, no_drawing):  # drawing does not look at what was read
    monkeypatch.chdir(tmp_path)


# damage

ODD = (None, True, "", "x", "1", "../..", "\0", [], {}, [[]], -1, 0, 2**70, -(2**63), 1e308, float("nan"), float("inf"))


def leaves(value, path=()) -> Iterator[tuple]:
    """Yield where each value of nested records and lists lies, records and lists themselves too."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from leaves(each, (*path, key))


def edited(value, chance: random.Random):
    """Return a copy with one value replaced by an odd one, or left out, and what was done."""
    value = copy.deepcopy(value)
    path = chance.choice(list(leaves(value)))
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    if chance.random() < 0.2:
        del parent[path[-1]]
        return value, f"{path} left out"
    odd = chance.choice(ODD)
    parent[path[-1]] = odd
    return value, f"{path} = {odd!r}"


def flipped(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    """Return bytes with one to eight of them changed, cut short, or with a piece twice, and what was done."""
    kind = chance.choice(("bytes", "bytes", "cut", "twice", "empty", "noise"))
    at = chance.randrange(len(data))
    if kind == "bytes":
        changed = bytearray(data)
        for _ in range(chance.randint(1, 8)):
            changed[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(changed), kind
    other = {"cut": data[:at], "twice": data[:at] + data[at // 2 :], "empty": b"", "noise": chance.randbytes(200)}
    return other[kind], f"{kind} {at}"


# cases, a group for each kind of input


def run_files(whole, chance) -> Iterator[Case]:
    """Damage one text file of a run, or its spectra, and read the run by one of the commands that do."""
    shutil.copytree(whole / "run", "run")
    files = ("config.yaml", "metrics.jsonl", "timing.jsonl", "summary.json", "evaluation.json", "inspection.json",
             "scores.json")  # fmt: skip
    commands = (
        ["rank", "run", str(whole / "other"), "--json"],
        ["rank", "run", "--json"],
        ["rank", str(whole / "other"), "run", "--json"],
        ["rank", "run", str(whole / "other")],
        ["report", "run", "--out", "page.html"],
        ["report", "run", str(whole / "other"), "--out", "page.html"],
        ["train", "--resume", "run"],
        ["export", "run", "--out", "export"],
    )
    for _ in range(130):
        name = chance.choice((*files, "spectra.safetensors"))
        path = Path("run", name)
        before = path.read_bytes()
        if name == "spectra.safetensors" or chance.random() < 0.3:
            after, damage = flipped(before, chance)
            path.write_bytes(after)
        else:
            text = before.decode()
            if name.endswith(".jsonl"):
                value, damage = edited([json.loads(line) for line in text.splitlines()], chance)
                path.write_text("".join(json.dumps(line) + "\n" for line in value))
            elif name.endswith(".json"):
                value, damage = edited(json.loads(text), chance)
                path.write_text(json.dumps(value))
            else:
                value, damage = edited(yaml.safe_load(text), chance)
                path.write_text(yaml.safe_dump(value, sort_keys=False))
        yield Case(f"{name}: {damage}", chance.choice(commands))
        path.write_bytes(before)
        shutil.rmtree("export", ignore_errors=True)


REFUSED = {
    "metrics.jsonl": [
        ("step", "5"),
        ("step", -1),
        ("step", 2**70),
        ("step", float("nan")),
        ("step", None),
        ("auc", [1]),
        ("kind", 3),
        ("auc", "0.5"),
    ],
    "timing.jsonl": [("step", 1.5), ("seconds", None)],
    "summary.json": [("steps", "6"), ("steps", -1), ("scores", {}), ("scores", [{"name": 3}]), ("seconds", "long")],
    "evaluation.json": [("step", "6"), ("step", True), ("scores", None), ("scores", [{"name": "knn", "value": "x"}])],
    "inspection.json": [("inspections", {}), ("inspections", [{}]), ("inspections", [3])],
    "scores.json": [("scores", {}), ("scores", [{}]), ("scores", [3])],
    "config.yaml": [("environment", 3), ("environment", [1]), ("steps", "x"), ("subset", None), ("machine", 3)],
}


def wrong_types(whole, chance) -> Iterator[Case]:
    """Give a field that commands use a value of another type: nobody may overlook it."""
    shutil.copytree(whole / "run", "run")
    for name, edits in REFUSED.items():
        path = Path("run", name)
        before = path.read_text()
        for key, odd in edits:
            if name.endswith(".jsonl"):
                lines = [json.loads(line) for line in before.splitlines()]
                chance.choice([line for line in lines if key in line and line.get("kind") != "protocols"])[key] = odd
                path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            elif name.endswith(".json"):
                path.write_text(json.dumps({**json.loads(before), key: odd}))
            else:
                path.write_text(yaml.safe_dump({**yaml.safe_load(before), key: odd}))
            command = {
                "evaluation.json": ["export", "run", "--out", "export"],
                "inspection.json": ["rank", "run", "--scores", "rankme", "--limit", "64"],
                "scores.json": ["rank", "run", "--scores", "rankme", "--limit", "64"],
            }
            yield Case(f"{name}: {key} = {odd!r}", command.get(name, ["report", "run"]), refused=True)
        path.write_text(before)


def spectra(whole, chance) -> Iterator[Case]:
    """Write other arrays than spectra, well-formed."""
    shutil.copytree(whole / "run", "run")
    path = Path("run", "spectra.safetensors")
    own = load_file(path)
    steps, values = own["steps"], own["singular_values"]
    for number, arrays in enumerate(
        (
            {},
            {"steps": steps},
            {"steps": steps[:1], "singular_values": values},
            {"steps": steps[::-1].copy(), "singular_values": values},
            {"steps": steps, "singular_values": values.T.copy()},
            {"steps": steps, "singular_values": values * np.nan},
            {"steps": steps, "singular_values": -1 - values},
            {"steps": steps.astype(float), "singular_values": values},
            {"steps": steps, "singular_values": values.astype(np.int64)},
            {"steps": steps - 10, "singular_values": values},
            {"steps": steps, "singular_values": values[:, :0]},
            {"steps": steps, "singular_values": values[:, ::-1].copy()},
        )
    ):
        save_file(arrays, path)
        yield Case(f"arrays {number}", chance.choice((["report", "run"], ["rank", "run", "--json"])), refused=True)


def checkpoints(whole, chance) -> Iterator[Case]:
    """Damage a run's only checkpoint, in its bytes or in what it holds."""
    shutil.copytree(whole / "run", "run")
    Path("run", "summary.json").unlink()  # so that --resume reads all of it
    for other in list(Path("run", "checkpoints").iterdir()):
        if other.name != "step_00000006.pt":
            other.unlink()
    path = Path("run", "checkpoints", "step_00000006.pt")
    before = path.read_bytes()
    state = torch.load(path, weights_only=True)
    commands = (
        ["train", "--resume", "run"],
        ["export", "run", "--out", "export"],
        ["inspect", "run", "--json", "--limit", "64", "--views", "none", "--no-untrained"],
    )
    for _ in range(20):
        after, damage = flipped(before, chance)
        path.write_bytes(after)
        yield Case(damage, chance.choice(commands))
        shutil.rmtree("export", ignore_errors=True)
    for _ in range(40):
        part = chance.choice((*state, "model", "optimizer"))
        after, odd = dict(state), chance.choice((*ODD, torch.zeros(3, 3), torch.tensor(1)))
        if isinstance(state[part], dict) and chance.random() < 0.8:
            after[part] = dict(state[part])
            inner = chance.choice(list(state[part]))
            after[part][inner], damage = odd, f"{part}[{inner}] = {odd!r}"
        else:
            after[part], damage = odd, f"{part} = {odd!r}"
        torch.save(after, path)
        a_tensor = isinstance(odd, torch.Tensor)
        other = a_tensor or (odd is not True and odd != state[part])
        refused = part == "model" or (part in ("format", "version", "step") and other)
        refused = refused and not (part == "version" and not a_tensor and odd == 0 and odd is not False)
        yield Case(damage, commands[chance.randrange(2)] if part != "model" else commands[0], refused=bool(refused))
        shutil.rmtree("export", ignore_errors=True)
        path.write_bytes(before)


def matrices(whole, chance) -> Iterator[Case]:
    """Damage feature matrices, and make odd ones."""
    good = np.random.default_rng(0).normal(size=(40, 5))
    odd = {
        "no rows": good[:0],
        "one row": good[:1],
        "no columns": good[:, :0],
        "vector": good[0],
        "cube": good[None],
        "scalar": np.float64(3),
        "nan": np.where(good > 2, np.nan, good),
        "inf": good * np.inf,
        "huge": good * 1e307,
        "tiny": good * 1e-300,
        "text": good.astype(str),
        "bool": good > 0,
        "complex": good.astype(complex),
        "half": good.astype(np.float16),
        "int": (good * 10).astype(np.int8),
        "unsigned": np.abs(good * 10).astype(np.uint64),
        "big": good.astype(">f8"),
        "fortran": np.asfortranarray(good),
        "records": np.zeros(4, dtype=[("a", float), ("b", int)]),
        "objects": np.array([[1, "a"], [None, {}]], dtype=object),
        "times": good.astype("datetime64[s]"),
    }
    refused = ("no rows", "one row", "no columns", "cube", "scalar", "nan", "inf", "text", "complex", "records")
    for name, array in odd.items():
        np.save("x.npy", array, allow_pickle=True)
        yield Case(name, ["inspect", "x.npy", "--json"], refused=name in (*refused, "objects", "times"))
    np.save("x.npy", good)
    save_file({"features": good}, "x.safetensors")
    pq.write_table(pa.table({"features": list(good)}), "x.parquet")
    for name in ("x.npy", "x.safetensors", "x.parquet"):
        before = Path(name).read_bytes()
        for _ in range(25):
            after, damage = flipped(before, chance)
            Path(name).write_bytes(after)
            yield Case(f"{name}: {damage}", ["inspect", name, "--json"], refused=damage.startswith(("empty", "noise")))
    for column in (["a"] * 4, [b"x"] * 4, [1.0, None, 2.0, 3.0], [[1.0], [2.0, 3.0], [1.0], [1.0]], [{"a": 1}] * 4):
        pq.write_table(pa.table({"features": column}), "x.parquet")
        yield Case(f"parquet of {column[1]!r}", ["inspect", "x.parquet", "--json"], refused=True)


def images(whole, chance) -> Iterator[Case]:
    """Damage sets of images, folders and parquet."""
    flags = ["--dry-run", "--machine.workers", "0", "--batch-size", "4", "--backbone.width", "0.0625"]
    picture = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(picture, "PNG")
    png = picture.getvalue()
    good = pa.table({"image": [{"bytes": png, "path": None}] * 20, "label": [0, 1] * 10})
    pq.write_table(good, "x.parquet")
    before = Path("x.parquet").read_bytes()
    for _ in range(12):
        after, damage = flipped(before, chance)
        Path("x.parquet").write_bytes(after)
        yield Case(f"parquet: {damage}", ["train", "--images", "x.parquet", *flags])
    for odd in (3, [1, 2], "text", None, b"", b"noise", 1.5, {"bytes": 3}, {"path": "none.png"}, {"x": 1}):
        pq.write_table(pa.table({"image": [odd] * 20}), "x.parquet")
        yield Case(f"parquet of {odd!r}", ["train", "--images", "x.parquet", *flags], refused=True)
    Path("folder").mkdir()
    for number in range(20):
        Path("folder", f"{number}.png").write_bytes(png)
    for _ in range(8):
        after, damage = flipped(png, chance)
        Path("folder", "0.png").write_bytes(after)
        yield Case(f"png: {damage}", ["train", "--images", "folder", *flags])
    for number in range(20):
        Path("folder", f"{number}.png").write_bytes(png[:20])
    yield Case("all cut", ["train", "--images", "folder", *flags], refused=True)
    Path("empty").mkdir()
    yield Case("empty", ["train", "--images", "empty", *flags], refused=True)


def configurations(whole, chance) -> Iterator[Case]:
    """Give odd configurations to train by."""
    good = to_dict(tiny(steps=6))
    for _ in range(50):
        value, damage = edited(good, chance)
        Path("c.yaml").write_text(yaml.safe_dump(value))
        yield Case(damage, ["train", "--config", "c.yaml", "--dry-run"])
    text = yaml.safe_dump(good).encode()
    for _ in range(30):
        after, damage = flipped(text, chance)
        Path("c.yaml").write_bytes(after)
        yield Case(damage, ["train", "--config", "c.yaml", "--dry-run"], refused=damage.startswith("noise"))
    for odd in (
        b"[" * 10_000,
        b"a: &a [*a]",
        b"x: !!python/object:os.system {}",
        b"? [1]\n: 2",
        b"3",
        b"seed: 0\nseed: x",
    ):
        Path("c.yaml").write_bytes(odd)
        yield Case(repr(odd[:30]), ["train", "--config", "c.yaml", "--dry-run"], refused=True)


def forecasts(whole, chance) -> Iterator[Case]:
    """Damage a fitted forecast."""
    before = (whole / "fit.json").read_bytes()
    runs = [str(path) for path in sorted((whole / "sweep").iterdir())[:2]]
    command = ["rank", *runs, "--forecast", "fit.json", "--json"]
    for _ in range(40):
        value, damage = edited(json.loads(before), chance)
        Path("fit.json").write_text(json.dumps(value))
        yield Case(damage, command)
    for _ in range(15):
        after, damage = flipped(before, chance)
        Path("fit.json").write_bytes(after)
        yield Case(damage, command, refused=damage.startswith(("cut", "empty", "noise")))


def flags(whole, chance) -> Iterator[Case]:
    """Give flags odd values."""
    run = str(whole / "run")
    np.save("x.npy", np.random.default_rng(0).normal(size=(40, 5)))
    values = (
        "",
        "-1",
        "0",
        "nan",
        "inf",
        "1e400",
        "99999999999999999999",
        "x",
        "\udcff",
        "[red]",
        "..",
        "/",
        "/dev/null",
    )
    options = {
        (
            "train",
            "--dry-run",
            "--backbone.width",
            "0.0625",
        ): "--steps --seed --batch-size --images --order --subset --switch --method --chunks "
        "--optim.base-lr --backbone.width --machine.memory-gb --machine.device --data-dir --image-size --cache",
        ("rank", run): "--accuracy --forecast --scores --limit --device --images",
        ("inspect", "x.npy", "--json"): "--limit --key --device --backbone --image-size --layer",
        ("evaluate", run): "--images --device",
        ("export", run): "--out --branch",
        ("report",): "--out",
    }
    for command, names in options.items():
        for name in names.split():
            for value in chance.sample(values, 2 if command[0] != "train" else 1):
                if name == "--out" and value in ("x", "99999999999999999999"):
                    continue  # good names
                yield Case(f"{name} {value!r}", [*command, name, value])


LONG = (run_files, checkpoints)
"""Of their cases every fourth is run, and all of them with the slow tests."""
GROUPS = (run_files, wrong_types, spectra, checkpoints, matrices, images, configurations, forecasts, flags)


def wrong(case: Case) -> str:
    """Run a case; return what is wrong with how it ended, or nothing."""

    def hangs(*_):
        raise TimeoutError(f"still running after {LONGEST} s")

    out, err = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGALRM, hangs)
    signal.alarm(LONGEST)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(case.arguments)
            except SystemExit as leaving:  # tyro, of flags
                code = leaving.code
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    said = [line for line in err.getvalue().splitlines() if not line.startswith("passed over")]
    if "Traceback" in err.getvalue() or "is a fault of fullrank" in err.getvalue():
        return err.getvalue()
    if code == 2:
        return ""
    if code == 1:
        one = len(said) == 1 and said[0].startswith("fullrank: error: ") and len(said[0]) < 1500
        return "" if one else f"not one line: {err.getvalue()[:500]}"
    if code != 0:
        return f"exit code {code}"
    if case.refused:
        return "accepted in silence"
    if "--json" in case.arguments:
        json.loads(out.getvalue(), parse_constant=lambda word: pytest.fail(f"{case}: {word} in JSON"))
    return ""


@pytest.mark.parametrize(
    ("group", "share"),
    [(group, 4 if group in LONG else 1) for group in GROUPS]
    + [pytest.param(each, 1, marks=pytest.mark.slow) for each in LONG],
)
def test_what_is_damaged_or_odd_is_one_line_or_worked_with(group, share, whole):
    found = []
    for number, case in enumerate(group(whole, random.Random(group.__name__))):
        fault = wrong(case) if number % share == 0 else ""
        if fault:
            found.append(f"{case.damage} | {' '.join(case.arguments)!r} | {fault.strip()}")
    assert number > 10  # there were cases
    assert not found, "\n".join(found)
