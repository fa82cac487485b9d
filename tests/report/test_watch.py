"""The page of running runs: two addresses, drawn again when something was recorded, and nothing else served."""

import shutil
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from tests.report.run_folders import make_run

from fullrank.errors import FullrankError
from fullrank.report.watch import Watched, serve
from fullrank.training.runs import METRICS


@contextmanager
def served(*places):
    server = serve(places, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def get(address):
    with urllib.request.urlopen(address, timeout=60) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


def test_the_page_is_the_report_and_asks_for_news(tmp_path, no_drawing):
    make_run(tmp_path / "healthy", reached=300)
    with served(tmp_path) as address:
        text, kind = get(address)
        assert kind.startswith("text/html")
        assert "healthy" in text
        assert "300 of 1,000, unfinished" in text
        stamp, _ = get(f"{address}stamp")
        assert f'const shown = "{stamp}"' in text  # the page knows what it shows


def test_a_new_record_and_a_new_run_change_the_stamp_and_the_page(tmp_path, no_drawing):
    make_run(tmp_path / "earlier-run", reached=300)
    watched = Watched([tmp_path])
    before, page = watched.stamp(), watched.page()
    assert watched.stamp() == before
    assert watched.page() is page
    with (tmp_path / "earlier-run" / METRICS).open("a") as file:
        file.write('{"kind": "train", "step": 400, "loss": -0.9, "lr": 0.1, "std": 0.05}\n')
    assert watched.stamp() != before
    assert "400 of 1,000" in watched.page()
    make_run(tmp_path / "later-run", reached=100)
    assert "later-run" in watched.page()
    shutil.rmtree(tmp_path / "earlier-run")
    assert "earlier-run" not in watched.page()


def test_a_damaged_run_is_named_beside_the_others(tmp_path, no_drawing):
    make_run(tmp_path / "whole")
    make_run(tmp_path / "broken")
    (tmp_path / "broken" / METRICS).write_text("[1, 2]\n")
    text = Watched([tmp_path]).page()
    assert "whole" in text
    assert "broken" in text
    assert "is damaged" in text


def test_before_the_first_run_the_page_waits(tmp_path):
    assert "No run is in" in Watched([tmp_path]).page()


@pytest.mark.parametrize("path", ["metrics.jsonl", "..%2f..%2fetc%2fpasswd", "stamp/x", "//etc/passwd"])
def test_no_other_address_is_served(tmp_path, no_drawing, path):
    make_run(tmp_path / "run")
    with served(tmp_path) as address, pytest.raises(urllib.error.HTTPError, match="404"):
        get(address + path)


def test_wrong_folders_and_addresses_are_one_clear_error(tmp_path):
    with pytest.raises(FullrankError, match="not a folder: give runs"):
        serve([tmp_path / "none"], "127.0.0.1", 0)
    with served(tmp_path) as address, pytest.raises(FullrankError, match="choose another --port"):
        serve([tmp_path], "127.0.0.1", int(address.split(":")[-1].strip("/")))
    with pytest.raises(FullrankError, match="cannot listen at"):
        serve([tmp_path], "127.0.0.1", 70_000)
