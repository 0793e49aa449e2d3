"""Downloads: resumed after a broken connection, checked, and nothing leaves an archive but patches. No network."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from unclouded.datasets.download import ARCHIVES, Archive, archives, commands, download, unpack
from unclouded.errors import InputCorrupt, OutputFailed, RefusedForSafety, TryAgain, UsageError

PAYLOAD = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """Breaks off after `limit` bytes; answers ranges if `ranges`."""

    limit: int | None = None
    ranges = True
    asked: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range"))
        if self.path == "/gone":
            self.send_error(503)
            return
        start = 0
        if self.server.ranges and (wanted := self.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(PAYLOAD):
                self.send_error(416)
                return
        body = PAYLOAD[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.server.limit is None else body[: self.server.limit])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def at(server: Server, path: str = "/x") -> Archive:
    return Archive("test", "x.tar.gz", f"http://127.0.0.1:{server.server_address[1]}{path}")


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.limit = 100_000
    for have in (100_000, 200_000):
        with pytest.raises(TryAgain, match=r"interrupted|stopped"):
            download(at(server), tmp_path)
        assert (tmp_path / "x.tar.gz.part").stat().st_size == have and not (tmp_path / "x.tar.gz").exists()
    server.limit = None
    heard: list[tuple[int, int]] = []
    path = download(at(server), tmp_path, progress=lambda _, done, of: heard.append((done, of)))
    assert path.read_bytes() == PAYLOAD and heard[-1] == (300_000, 300_000)
    assert server.asked == [None, "bytes=100000-", "bytes=200000-"] and list(tmp_path.iterdir()) == [path]
    download(at(server), tmp_path)
    assert len(server.asked) == 3  # what is there is not fetched again


def test_a_server_without_ranges_starts_anew_and_a_whole_part_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz.part").write_bytes(b"rubbish")
    server.ranges = False
    assert download(at(server), tmp_path).read_bytes() == PAYLOAD
    (tmp_path / "x.tar.gz").rename(tmp_path / "x.tar.gz.part")
    server.ranges = True
    assert download(at(server), tmp_path).read_bytes() == PAYLOAD


def test_faults_have_their_errors(server: Server, tmp_path: Path) -> None:
    with pytest.raises(TryAgain, match="HTTP 503"):
        download(at(server, "/gone"), tmp_path)
    with pytest.raises(TryAgain, match="interrupted"):
        download(Archive("test", "y", "http://127.0.0.1:1/y"), tmp_path)
    with pytest.raises(RefusedForSafety, match="no web address"):
        download(Archive("test", "y", f"file://{tmp_path}/x"), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFailed):
        download(at(server), tmp_path / "file")


def packed(path: Path, members: dict[str, bytes], link: str | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    return path


def test_patches_land_below_their_region_whatever_lies_above(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).bytes(5000)
    path = packed(
        tmp_path / "a.tar.gz",
        {"africa/ROIs1158/106/S2/0/s2.tif": noise, "africa/README": b"x", "./ROIs1970_fall_s1/p.tif": b"b"},
    )
    root = tmp_path / "root"
    assert unpack(path, root) == 2
    assert (root / "ROIs1158/106/S2/0/s2.tif").read_bytes() == noise and (root / "ROIs1970_fall_s1/p.tif").read_bytes() == b"b"
    assert not list(root.rglob("README")) and not list(root.rglob("*.part"))
    kept = root / "ROIs1970_fall_s1/p.tif"
    kept.write_bytes(b"c")
    assert unpack(path, root) == 2 and kept.read_bytes() == b"c"  # same size: not written again


@pytest.mark.parametrize("name", ["ROIs1/../../evil.tif", "/ROIs1/evil.tif", "a\\ROIs1/evil.tif"])
def test_members_that_point_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RefusedForSafety, match="no plain file inside"):
        unpack(packed(tmp_path / "a.tar.gz", {name: b"x"}), tmp_path / "root")
    assert not (tmp_path / "evil.tif").exists()
    with pytest.raises(RefusedForSafety):
        unpack(packed(tmp_path / "b.tar.gz", {}, link="ROIs1/link.tif"), tmp_path / "root")


def test_a_damaged_archive_is_said_so(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar.gz", {"ROIs1/p.tif": PAYLOAD})
    stored = path.read_bytes()
    for broken in (stored[:50_000], stored[:1000] + b"\x00\x01\x02" * 50 + stored[1150:], b"no archive", b""):
        path.write_bytes(broken)
        with pytest.raises(InputCorrupt, match="damaged"):
            unpack(path, tmp_path / "root")
        assert not (tmp_path / "root").exists()


def test_the_table_of_archives() -> None:
    assert len(ARCHIVES) == 32 and len({a.url for a in ARCHIVES}) == 32
    assert [a.name for a in archives("sen12mscr", parts=["winter"])] == [
        "ROIs2017_winter_s2.tar.gz", "ROIs2017_winter_s2_cloudy.tar.gz", "ROIs2017_winter_s1.tar.gz"
    ]  # fmt: skip
    assert len(archives("sen12mscrts", parts=["_test"])) == 10
    with pytest.raises(UsageError, match="sen12mscr, sen12mscrts"):
        archives("imagenet")
    lines = commands(archives("sen12mscr", parts=["fall_s1"]), Path("/data"))
    assert (
        lines[0].startswith("wget -c -O '/data/ROIs1970_fall_s1.tar.gz' 'https://dataserv.ub.tum.de/s/m1554803/")
        and len(lines) == 2
    )
