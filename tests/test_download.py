"""Downloads from a server on this machine: whole, cut, without ranges, wrong, through a proxy, onto a full disk."""

import contextlib
import errno
import hashlib
import http.server
import io
import os
import pickle
import shutil
import tarfile
import threading
from collections import namedtuple

import numpy as np
import pytest

from kdlab import data
from kdlab.cli import tables
from kdlab.data import connection, download
from kdlab.errors import SpecError

FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def members() -> dict[str, bytes]:
    """A tiny CIFAR-10: random pixels, so that gzip cannot make the archive smaller than a few blocks."""
    draw = np.random.default_rng(0)
    made = {"batches.meta": {"label_names": ["ant", "bee", "cat"]}}
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        made[name] = {"data": draw.integers(256, size=(24, 3072), dtype=np.uint8), "labels": [0, 1, 2] * 8}
    return {name: pickle.dumps(content, protocol=2) for name, content in made.items()}


def archive(contents: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for name, content in [*contents.items(), ("readme.html", b"not needed")]:
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.content``; ``server.cuts`` are the numbers of bytes after which connections break."""

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        if server.status != 200:
            self.send_error(server.status)
            return
        content, start = server.content, 0
        if server.ranges and (wanted := self.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.tells_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        most = server.cuts.pop(0) if server.cuts else len(content)
        with contextlib.suppress(ConnectionError):  # a reader whose disk is full hangs up
            self.wfile.write(content[start : start + most])

    def log_message(self, *_):
        pass


Site = namedtuple("Site", "server root contents packed")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A server with a tiny archive, which stands for the published one; and an empty data root."""
    contents = members()
    packed = archive(contents)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.status, server.ranges, server.tells_length = packed, 200, True, True
    server.cuts, server.asked = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(connection, "PAUSE", 0.0)
    offer(monkeypatch, f"http://127.0.0.1:{server.server_port}/{ARCHIVE}", contents, packed)
    yield Site(server, tmp_path / "data", contents, packed)
    server.shutdown()
    thread.join()
    server.server_close()


def offer(monkeypatch, url, contents, packed):
    sums = {name: md5(content) for name, content in contents.items()}
    wanted = download.Published(((url, ARCHIVE, md5(packed)),), FOLDER, sums)
    monkeypatch.setattr(download, "published", lambda name: wanted)


def there(site) -> dict[str, bytes]:
    """All files below the data root, hidden ones too."""
    return {str(path.relative_to(site.root)): path.read_bytes() for path in site.root.rglob("*") if path.is_file()}


def whole(site) -> dict[str, bytes]:
    return {f"{FOLDER}/{name}": content for name, content in site.contents.items()}


def part(site):
    return site.root / f".{ARCHIVE}.part"


def test_addresses_and_sums_are_torchvisions():
    import torchvision.datasets as known

    ten = download.published("cifar10")
    assert ten.files == ((known.CIFAR10.url, ARCHIVE, known.CIFAR10.tgz_md5),) and ten.folder == FOLDER
    assert ten.members["data_batch_3"] == known.CIFAR10.train_list[2][1] and len(ten.members) == 7
    hundred = download.published("cifar100")
    assert hundred.members.keys() == {"train", "test", "meta"} and hundred.folder == "cifar-100-python"
    fashion = download.published("fashion-mnist")
    assert len(fashion.files) == 4 and not fashion.members
    assert all(place.startswith("FashionMNIST/raw/") and place.endswith(".gz") for _, place, _ in fashion.files)


def test_it_is_fetched_once_and_read(site, capsys):
    assert "fetched cifar-10-python.tar.gz, as published (md5)" in data.fetch("cifar10", site.root)
    assert there(site) == whole(site), "the files, and neither archive nor anything half"
    assert ARCHIVE in capsys.readouterr().err, "a bar on stderr"
    assert "nothing was fetched" in data.fetch("cifar10", site.root)
    splits = data.load("cifar10", site.root, download=True)
    assert [len(split) for split in splits] == [108, 12, 24] and len(site.server.asked) == 1


def test_the_command_fetches_and_then_tells(site, monkeypatch):
    monkeypatch.setenv("KDLAB_DATA", str(site.root))
    assert "cifar10: not here" in tables.data() and "`kdlab data cifar10 --download`" in tables.data()
    said = tables.data("cifar10", download=True)
    assert said.startswith("data 'cifar10': fetched") and "3 classes, colour images of 32 x 32 pixels" in said
    assert "comes with kdlab; nothing was fetched" in data.fetch("fashion")
    for name, words in (
        ("cifar", "Did you mean 'cifar10'"),
        ("folder:x", "data to download"),
        (None, "needs the name"),
    ):
        with pytest.raises(SpecError, match=words):
            tables.data(name, download=True)


def test_a_cut_connection_goes_on_where_it_broke(site):
    site.server.cuts = [100_000, 50_000]
    data.fetch("cifar10", site.root)
    assert there(site) == whole(site)
    assert [asked for _, asked in site.server.asked] == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_try_goes_on_too(site):
    site.server.cuts = [100_000, 0, 0, 0]
    with pytest.raises(SpecError, match="the connection was cut. 0.1 MB are kept in .*from where the same command"):
        data.fetch("cifar10", site.root)
    assert there(site) == {part(site).name: site.packed[:100_000]}
    data.fetch("cifar10", site.root)
    assert there(site) == whole(site) and site.server.asked[-1][1] == "bytes=100000-"


def test_ctrl_c_keeps_what_came(site, monkeypatch):
    def interrupted(answer):
        yield answer.read(connection.BLOCK)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(connection, "_blocks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            data.fetch("cifar10", site.root)
    assert there(site) == {part(site).name: site.packed[: connection.BLOCK]}
    data.fetch("cifar10", site.root)
    assert there(site) == whole(site) and site.server.asked[-1][1] == f"bytes={connection.BLOCK}-"


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_server_without_ranges_starts_anew(site, tells_length):
    site.server.ranges, site.server.tells_length = False, tells_length
    site.root.mkdir()
    part(site).write_bytes(site.packed[:70_000])
    data.fetch("cifar10", site.root)
    assert there(site) == whole(site)
    assert site.server.asked == [(f"/{ARCHIVE}", "bytes=70000-")]


@pytest.mark.parametrize("left", ["whole", "longer", "other"])
def test_whatever_lies_in_the_part_the_result_is_right(site, left):
    kinds = {"whole": site.packed, "longer": site.packed + b"x", "other": b"y" * 5000}
    site.root.mkdir()
    part(site).write_bytes(kinds[left])
    data.fetch("cifar10", site.root)
    assert there(site) == whole(site)
    assert len(site.server.asked) == {"whole": 0, "longer": 2, "other": 2}[left]


@pytest.mark.parametrize(("content", "words"), [(b"<html>log in</html>", "a page of this network"), (None, "md5")])
def test_a_wrong_sum_leaves_nothing(site, content, words):
    site.server.content = content or site.packed[:-1] + b"?"
    with pytest.raises(SpecError, match=f"{words}.*thrown away.*By hand: fetch http.* as '{site.root / ARCHIVE}'"):
        data.fetch("cifar10", site.root)
    assert there(site) == {}


@pytest.mark.parametrize(("status", "times"), [(404, 1), (403, 1), (503, 3)])
def test_a_refusal_names_itself_and_the_way_by_hand(site, status, times):
    site.server.status = status
    words = f"answers {status} .*By hand: fetch .*{ARCHIVE} \\(md5 {md5(site.packed)}\\) as .*https_proxy"
    with pytest.raises(SpecError, match=words):
        data.fetch("cifar10", site.root)
    assert there(site) == {} and len(site.server.asked) == times


def test_without_a_network_it_says_what_to_do(site, monkeypatch):
    offer(monkeypatch, f"http://127.0.0.1:1/{ARCHIVE}", site.contents, site.packed)
    with pytest.raises(SpecError, match="cannot fetch .*refused.*By hand"):
        data.fetch("cifar10", site.root)
    site.root.joinpath(ARCHIVE).write_bytes(site.packed[:-10])
    with pytest.raises(SpecError, match="is not the published file: its md5 is .* Move it away"):
        data.fetch("cifar10", site.root)
    site.root.joinpath(ARCHIVE).write_bytes(site.packed)
    assert "found cifar-10-python.tar.gz, as published" in data.fetch("cifar10", site.root)
    assert there(site) == whole(site) | {ARCHIVE: site.packed}, "what was put there by hand stays"


def test_a_proxy_is_asked(site, monkeypatch):
    offer(monkeypatch, f"http://archive.invalid/{ARCHIVE}", site.contents, site.packed)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{site.server.server_port}")
    data.fetch("cifar10", site.root)
    assert there(site) == whole(site) and site.server.asked == [(f"http://archive.invalid/{ARCHIVE}", None)]


def test_a_full_disk_is_said_before_and_while_it_fills(site, monkeypatch):
    space = namedtuple("Space", "free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: space(1000))
        with pytest.raises(SpecError, match="1 MB are needed, 0 MB are free. Make room"):
            data.fetch("cifar10", site.root)
    assert there(site) == {}

    class Filling(io.FileIO):
        def write(self, block):
            if self.tell() >= 2 * connection.BLOCK:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(block)

    with monkeypatch.context() as patch:
        patch.setattr(connection, "open", lambda path, mode: Filling(path, mode[0]), raising=False)
        with pytest.raises(SpecError, match="No space left on device. Make room, and give the same command again"):
            data.fetch("cifar10", site.root)
    assert there(site) == {part(site).name: site.packed[: 2 * connection.BLOCK]}, "what fitted is kept"
    data.fetch("cifar10", site.root)
    assert there(site) == whole(site)


def test_a_file_that_differs_in_the_archive_leaves_none(site, monkeypatch):
    packed = archive(site.contents | {"test_batch": b"other"})
    site.root.mkdir()
    (site.root / ARCHIVE).write_bytes(packed)
    offer(monkeypatch, "http://127.0.0.1:1/", site.contents, packed)
    with pytest.raises(SpecError, match="test_batch in it has the md5 .* nothing was kept"):
        data.fetch("cifar10", site.root)
    assert there(site) == {ARCHIVE: packed}


def test_a_folder_that_lacks_a_file_is_completed(site):
    (site.root / FOLDER).mkdir(parents=True)
    (site.root / FOLDER / "data_batch_1").write_bytes(b"half")
    (site.root / FOLDER / "mine.txt").write_bytes(b"notes")
    data.fetch("cifar10", site.root)
    assert there(site) == whole(site) | {f"{FOLDER}/mine.txt": b"notes"}


def test_other_files_that_can_be_read_are_named_and_left(site):
    data.fetch("cifar10", site.root)
    again = pickle.dumps(pickle.loads(site.contents["data_batch_2"]), protocol=4)
    (site.root / FOLDER / "data_batch_2").write_bytes(again)
    assert "Not as published (md5): data_batch_2; where" in data.fetch("cifar10", site.root)
    assert there(site) == whole(site) | {f"{FOLDER}/data_batch_2": again}


def test_two_do_not_fetch_at_once(site):
    pytest.importorskip("fcntl")
    site.root.mkdir()
    with download._alone(site.root / ".cifar10.lock", "cifar10"):
        with pytest.raises(SpecError, match="is being fetched by another process"):
            data.fetch("cifar10", site.root)
    data.fetch("cifar10", site.root)
    assert there(site) == whole(site)


def test_files_that_are_read_as_they_come_stay_packed(site, monkeypatch):
    """Fashion-MNIST is four files; each is fetched and checked by itself."""
    names = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
    url = f"http://127.0.0.1:{site.server.server_port}/"
    files = tuple((url + name, f"FashionMNIST/raw/{name}", md5(site.packed)) for name in names)
    monkeypatch.setattr(download, "published", lambda name: download.Published(files))

    def find(root):
        found = [root / place for _, place, _ in files]
        if not all(path.exists() for path in found):
            raise SpecError("missing")
        return found

    assert "now in" in download.fetch("fashion-mnist", site.root, find)
    assert there(site) == {place: site.packed for _, place, _ in files}
    assert "as published (md5); nothing was fetched" in download.fetch("fashion-mnist", site.root, find)
    unpacked = [path.rename(path.with_suffix("")) for path in find(site.root)]
    assert "raw'; nothing was fetched" in download.fetch("fashion-mnist", site.root, lambda root: unpacked)
