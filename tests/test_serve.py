"""``kdlab lab``: the servers' command lines, ports, tokens and ends, and the launcher notebook."""

import asyncio
import contextlib
import errno
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import psutil
import pytest
from refusing import refused
from tornado.websocket import websocket_connect

from kdlab import perspectives
from kdlab.cli import serve
from kdlab.errors import SpecError

LESSONS = sorted(path.stem for path in (serve.NOTEBOOKS / "teaching").glob("*.ipynb"))


@pytest.fixture
def started(monkeypatch):
    """Catches what would be run: command line, environment, and what is done once it runs."""
    runs = []
    monkeypatch.setattr(serve, "run", lambda *given: runs.append(given) or 0)
    return runs


@pytest.fixture
def notebook(tmp_path):
    """A notebook that needs nothing."""
    path = tmp_path / serve.LAUNCHER
    nbformat.write(
        nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python"}}), path
    )
    return path


# --- the launcher -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def launcher():
    return nbformat.read(serve.NOTEBOOKS / serve.LAUNCHER, as_version=nbformat.NO_CONVERT)


def links(notebook) -> list[str]:
    """Targets of its Markdown links."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(r"\]\(([^)]+)\)", text)


def test_the_launcher_is_committed_without_traces_of_a_run(launcher):
    nbformat.validate(launcher)
    assert (launcher.nbformat, launcher.nbformat_minor) == (4, 5) and launcher.metadata.kernelspec.name == "python3"
    code = [cell for cell in launcher.cells if cell.cell_type == "code"]
    assert len(code) == 1 and code[0].outputs == [] and code[0].execution_count is None
    assert all(cell.id.isalpha() for cell in launcher.cells), "ids are words"


def test_the_launcher_has_three_doors(launcher):
    perspective = {f"perspectives/{name}.ipynb" for name in perspectives.NAMES}
    assert set(links(launcher)) == {serve.PAGE, *(f"teaching/{name}.ipynb" for name in LESSONS), *perspective}


def test_the_launcher_s_links_lead_somewhere(launcher):
    assert [link for link in links(launcher) if not (serve.NOTEBOOKS / link).is_file()] == []


def test_the_launcher_asks_what_the_perspectives_ask(launcher):
    text = "\n".join(cell.source for cell in launcher.cells)
    for name in perspectives.NAMES:
        module = perspectives.study(name, "smoke").module
        assert f"| [{module.TITLE}](perspectives/{name}.ipynb) | {module.QUESTION} |" in text


@pytest.mark.parametrize("name", LESSONS)
def test_the_launcher_says_what_the_classes_say(launcher, name):
    lesson = nbformat.read(serve.NOTEBOOKS / "teaching" / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)
    number, title = re.match(r"# 0?(\d+) (.*)", lesson.cells[0].source).groups()
    minutes = re.search(r"Class: about (\d+) min", lesson.cells[0].source)[1]
    text = "\n".join(cell.source for cell in launcher.cells)
    assert f"| [{number}. {title}](teaching/{name}.ipynb) | {minutes} |" in text


def test_the_launcher_s_code_imports_no_torch(launcher):
    (code,) = (cell.source for cell in launcher.cells if cell.cell_type == "code")
    code += "\nimport sys\nassert not {'torch', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("finished runs in store and ledger: 0\n")


# --- command lines ------------------------------------------------------------------------------------------------


def test_jupyterlab_opens_the_launcher_on_loopback(tmp_path):
    command = serve.lab_command(8890, notebooks=tmp_path)
    assert command[1:3] == ["-m", "jupyterlab"] and f"--ServerApp.root_dir={tmp_path}" in command
    assert {"--ServerApp.ip=127.0.0.1", "--ServerApp.port=8890", "--ServerApp.port_retries=0"} <= set(command)
    assert "--LabApp.default_url=/lab/tree/start.ipynb" in command
    assert "--no-browser" not in command and "--no-browser" in serve.lab_command(8890, browser=False)


@pytest.mark.parametrize("user, flag", [(0, True), (1000, False)])
def test_only_root_has_to_allow_root(monkeypatch, user, flag):
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    assert ("--allow-root" in serve.lab_command(8888)) == flag


def test_voila_shows_one_notebook_and_no_token_on_its_command_line(notebook, started, capsys):
    assert serve.voila(browser=False, notebook=notebook) == 0
    (command, environment, browse), said = started[0], capsys.readouterr().out
    address, token = re.fullmatch(r"The page: http://(127\.0\.0\.1:\d+)/\?token=([0-9a-f]{16})\n", said).groups()
    assert environment["JUPYTER_TOKEN"] == token and not any(token in word for word in command)
    assert (
        command[1:3] == ["-m", "voila"]
        and command[3].endswith(f"/{notebook.name}")
        and "--Voila.auto_token=True" in command
    )
    assert "--Voila.ip=127.0.0.1" in command and f"--Voila.port={address.split(':')[1]}" in command
    assert browse is None


def test_sharing_is_said_in_words(notebook, started, capsys, monkeypatch):
    monkeypatch.setattr(serve, "_address", lambda: "192.0.2.7")
    serve.voila(share=True, browser=False, notebook=notebook)
    said = capsys.readouterr().out
    assert said.startswith("The page: http://192.0.2.7:") and "everyone in this network who has the link" in said
    assert "--Voila.ip=0.0.0.0" in started[0][0]


def test_tokens_differ(notebook, started):
    for _ in range(2):
        serve.voila(notebook=notebook)
    first, second = (environment["JUPYTER_TOKEN"] for _, environment, _ in started)
    assert first != second


def test_settings_are_laid_beside_the_user_s(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "theirs")
    environment = serve.environment(tmp_path)
    assert environment["JUPYTER_CONFIG_PATH"] == f"{tmp_path}{os.pathsep}theirs"
    assert environment["JUPYTER_PREFER_ENV_PATH"] == "1" and "JUPYTER_TOKEN" not in environment
    settings, policy = sorted((path for path in tmp_path.rglob("*") if path.is_file()), key=lambda path: path.name)
    assert policy == tmp_path / "voila.json", "where voila looks for settings"
    (answer,) = json.loads(settings.read_text()).values()
    assert settings.parent.name == "labconfig" and answer == {"fetchNews": "false"}


@pytest.mark.parametrize("start", [serve.lab, serve.voila])
def test_a_missing_notebook_is_named(tmp_path, started, start):
    given = {"notebooks": tmp_path} if start is serve.lab else {"notebook": tmp_path / serve.PAGE}
    with pytest.raises(SpecError, match=rf"there is no notebook {tmp_path}.*\.ipynb; run this from a checkout"):
        start(**given)
    assert started == []


# --- ports --------------------------------------------------------------------------------------------------------


def test_a_taken_port_gives_way_to_the_next_and_is_named(capsys):
    with socket.create_server((serve.LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        other = serve.free_port(port)
    assert port < other <= port + serve.PORTS_TRIED
    assert capsys.readouterr().out == f"Port {port} is taken; this is port {other}.\n"
    assert serve.free_port(other) == other and capsys.readouterr().out == ""


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port_is_refused(port):
    with pytest.raises(SpecError, match=rf"port must be an integer in \[1, 65535\], but got {port}\."):
        serve.free_port(port)


@pytest.mark.parametrize(
    "number, said",
    [(errno.EACCES, "one that you may open, but got 80: Permission denied"), (errno.EADDRINUSE, "free .* up to 130")],
)
def test_a_port_that_cannot_be_had_is_refused(monkeypatch, number, said):
    def refuse(*given):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(SpecError, match=f"port must be a? ?{said}"):
        serve.free_port(80)


# --- running ------------------------------------------------------------------------------------------------------


def test_ctrl_c_is_the_server_s_affair():
    def pressed(server):
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    script = "import signal, sys; sys.exit(7 if signal.getsignal(signal.SIGINT) is signal.default_int_handler else 1)"
    assert serve.run([sys.executable, "-c", script], dict(os.environ), pressed) == 7
    assert signal.getsignal(signal.SIGINT) is before


def test_a_kill_is_passed_on():
    servers = []

    def killed(server):
        servers.append(server)
        raise KeyboardInterrupt  # what the command line makes of a kill

    with pytest.raises(KeyboardInterrupt):
        serve.run([sys.executable, "-c", "import time; time.sleep(600)"], dict(os.environ), killed)
    assert servers[0].returncode == -signal.SIGTERM


def test_the_browser_waits_for_the_server(monkeypatch):
    opened = []
    monkeypatch.setattr(serve.webbrowser, "open", opened.append)
    port = serve.free_port(20000)
    script = f"import socket; socket.create_server(('127.0.0.1', {port})).accept()"
    assert serve.run([sys.executable, "-c", script], dict(os.environ), lambda s: serve._browse("page", port, s)) == 0
    assert opened == ["page"]
    assert serve.run([sys.executable, "-c", "1"], dict(os.environ), lambda s: serve._browse("page", port, s)) == 0
    assert opened == ["page"], "a server that has ended is not waited for"


def status(url: str) -> int:
    """Status of a page after redirects; 0 where nothing listens."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except urllib.error.URLError:
        return 0


def ask(url: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of a page, following no redirect."""
    _, _, host, path = url.split("/", 3)
    connection = http.client.HTTPConnection(host, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode(errors="replace")


def listening(process: subprocess.Popen) -> set[str]:
    """The addresses at which a process and those that it started can be reached."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    found = [one for member in family for one in member.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    return {one.laddr.ip for one in found}


async def visit(url: str, kernel: str, code: str) -> list[str]:
    """Ask a kernel to run code, then who it is; the kinds of messages that come back until it has answered that."""
    host, token = re.fullmatch(r"http://([^/]+)/\?token=(\w+)", url).groups()
    line = await websocket_connect(f"ws://{host}/api/kernels/{kernel}/channels?token={token}")

    def message(kind: str, content: dict) -> str:
        header = {"msg_id": kind, "msg_type": kind, "session": "s", "username": "u", "version": "5.3", "date": ""}
        about = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "buffers": []}
        return json.dumps(about | {"channel": "shell"})

    asked = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    await line.write_message(message("execute_request", asked))
    await line.write_message(message("kernel_info_request", {}))
    kinds = []
    while "kernel_info_reply" not in kinds:
        kinds.append(json.loads(await asyncio.wait_for(line.read_message(), 60))["header"]["msg_type"])
    line.close()
    return kinds


def check_the_page_of_a_class(url: str, folder: Path) -> None:
    """It works under its policy but for what it would fetch elsewhere; a visitor can read no file and run no code."""
    _, headers, page = ask(url)
    assert headers["Content-Security-Policy"] == serve.POLICY
    assert not re.search(r"https?:|\*", serve.POLICY), "nothing of other sites"
    blocked = refused(f'<meta http-equiv="Content-Security-Policy" content="{serve.POLICY}">{page}')
    assert {line.partition("@")[0] for line in blocked} <= {"style-src 'https://cdn.jsdelivr.net/npm/"}, "voila's icons"
    assert ask(url.partition("?")[0])[0] == 302, "to the form that asks for the token"
    for path in ("api/contents", "voila/files/voila.json", "voila/files/..%2f..%2fetc/passwd", "files/etc/passwd",
                 "voila/files/room", "api/kernelspecs", "api/terminals", "voila/render/start.ipynb"):  # fmt: skip
        code, headers, _ = ask(url.replace("/?", f"/{path}?"))
        if code == 302:  # to the files beside the notebook
            assert headers["Location"].startswith("/voila/files/"), path
            code = ask(url.replace("/?", f"{headers['Location'].partition('?')[0]}?"))[0]
        assert code in (403, 404), path
    kernel = re.search(r'"kernelId": ?"([\w-]+)"', page)[1]
    kinds = asyncio.run(visit(url, kernel, f"open({str(folder / 'was here')!r}, 'w')"))
    assert not any(kind.startswith("execute") for kind in kinds) and not (folder / "was here").exists()


SCRIPT = """
import functools, pathlib, sys
from kdlab.cli import main, serve
serve.voila = functools.partial(serve.voila, notebook=pathlib.Path(sys.argv.pop()))
main()
"""


@pytest.fixture
def kdlab(tmp_path, notebook):
    """Starts ``kdlab`` in a process of its own, its page being a notebook that needs nothing."""
    with contextlib.ExitStack() as stack:

        def start(*words: str) -> subprocess.Popen:
            places = {f"JUPYTER_{part}_DIR": str(tmp_path / part) for part in ("CONFIG", "DATA", "RUNTIME")}
            environment = os.environ | places | {"HOME": str(tmp_path)}
            process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, *words, str(notebook)], env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
            limit = threading.Timer(180, os.killpg, (process.pid, signal.SIGKILL))
            stack.callback(process.wait)
            stack.callback(process.stdout.close)
            stack.callback(limit.cancel)
            limit.start()
            stack.callback(process.terminate)  # where a test fails before it does so itself
            return process

        yield start


@pytest.mark.parametrize("words", [["lab"], ["lab", "--voila"]])
def test_the_printed_address_opens_to_its_token_alone_and_a_kill_ends_all(kdlab, tmp_path, words):
    process = kdlab(*words, "--no-browser")
    url = next(found[0] for line in process.stdout if (found := re.search(r"http://127\S+token=\w+", line)))
    while not (answer := status(url)) and process.poll() is None:
        time.sleep(0.2)  # voila's address is printed before it serves
    assert answer == 200
    assert listening(process) == {"127.0.0.1"}
    if "--voila" in words:
        check_the_page_of_a_class(url, tmp_path)
    else:
        home = url.partition("?")[0]
        assert status(re.sub(r"/lab/.*", "/api/status", url)) == 403
        assert [ask(re.sub(r"/lab/.*", path, home))[0] for path in ("/lab", "/api/contents", "/files/start.ipynb")] == [
            302, 403, 302]  # fmt: skip
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 130 and status(url) == 0
