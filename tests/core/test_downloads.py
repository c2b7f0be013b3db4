"""Files by checksum: from a folder at hand, from the cache, or from an address."""

from __future__ import annotations

import hashlib

import pytest

from bench.downloads import Download
from bench.errors import EnvironmentProblem

CONTENT = b"weights of a network"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def wanted(url="", name="weights/net.safetensors"):
    return Download(name, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), url)


def test_a_folder_at_hand_comes_first(tmp_path):
    place = tmp_path / "data" / "weights" / "net.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert wanted("http://127.0.0.1:9/none").fetch([tmp_path / "empty", tmp_path / "data"]) == place


def test_what_was_downloaded_is_kept(site, cache):
    folder, address = site
    (folder / "net.safetensors").write_bytes(CONTENT)
    found = wanted(f"{address}/net.safetensors").fetch()
    assert found.read_bytes() == CONTENT and found.is_relative_to(cache)
    (folder / "net.safetensors").unlink()
    assert wanted(f"{address}/net.safetensors").fetch() == found
    assert [file for file in cache.rglob("*") if file.is_file()] == [found]


def test_a_damaged_copy_in_the_cache_is_downloaded_again(site):
    folder, address = site
    (folder / "net.safetensors").write_bytes(CONTENT)
    found = wanted(f"{address}/net.safetensors").fetch()
    found.write_bytes(CONTENT[::-1])
    assert wanted(f"{address}/net.safetensors").fetch().read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONTENT[::-1], r"net\.safetensors has the sha256 [0-9a-f]{12}\.\.\. instead of [0-9a-f]{12}\.\.\.; "),
        (CONTENT[:-1], r"net\.safetensors has 19 bytes instead of 20; "),
    ],
)
def test_another_content_is_refused(site, tmp_path, cache, content, message):
    folder, address = site
    (folder / "net.safetensors").write_bytes(content)
    with pytest.raises(EnvironmentProblem, match=message + "put it into DATA/weights/net.safetensors and name DATA"):
        wanted(f"{address}/net.safetensors").fetch()
    assert not [file for file in cache.rglob("*") if file.is_file()]
    place = tmp_path / "data" / "weights" / "net.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    with pytest.raises(EnvironmentProblem, match=f"data/weights/{message}take it from http://there, or remove it"):
        wanted("http://there").fetch([tmp_path / "data"])
    place.unlink()
    place.mkdir()
    with pytest.raises(EnvironmentProblem, match=r"cannot be read .*; use the file with the sha256 [0-9a-f]{64}, or"):
        wanted().fetch([tmp_path / "data"])


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/net", "{site}/net", "no address", "file://net"])
def test_what_cannot_be_had_is_named_with_the_way_out(site, tmp_path, url):
    url, place = url.format(site=site[1]), tmp_path / "data"
    missing = rf"file weights/net.safetensors is missing \(looked in {place}/weights/net.safetensors\), and {url} "
    with pytest.raises(
        EnvironmentProblem, match=missing + r"cannot be reached or kept \(.*\); put it into DATA/weights"
    ):
        wanted(url).fetch([place])
    with pytest.raises(EnvironmentProblem, match=r"is missing \(no folder at hand is set\), and has no address; put"):
        wanted().fetch()
