"""What a person does in a page: open a notebook and run it, move a slider, see a picture change."""

import contextlib
import json
import re
import time
from collections.abc import Iterator

import pytest

from .servers import WAIT, Server

READY = """async () => {
    const app = window.jupyterapp;
    await app.restored;
    const { context, sessionContext } = app.shell.currentWidget;
    await context.ready;
    await sessionContext.ready;
    await sessionContext.session.kernel.info;
    window.heard = [];  // what callbacks of widgets complain of is in no cell's output
    sessionContext.session.kernel.iopubMessage.connect((_, { header, parent_header, content }) => {
        if (header.msg_type === 'error' && parent_header.msg_type !== 'execute_request')
            window.heard.push(`${parent_header.msg_type}: ${content.ename}: ${content.evalue}`);
        if (header.msg_type === 'stream' && content.name === 'stderr' && content.text.includes('Traceback'))
            window.heard.push(content.text);
    });
}"""
RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
WITHIN = """milliseconds => Promise.race([
    (%s)().then(() => true), new Promise(resolve => setTimeout(() => resolve(false), milliseconds))
])"""
ERRORS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
    .filter(cell => cell.type === 'code' && !(cell.getMetadata('tags') ?? []).includes('raises-exception'))
    .flatMap(cell => cell.outputs.toJSON().filter(output => output.output_type === 'error')
        .map(output => `${cell.id}: ${output.ename}: ${output.evalue}`))
    .concat(window.heard)"""
NOTEBOOK = """() => JSON.stringify([...window.jupyterapp.shell.currentWidget.content.widgets].map(
    cell => [cell.model.id, cell.model.type, cell.model.sharedModel.getSource()]))"""
IDLE = """async () => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    for (let round = 0; round < 3; round++) {  // an answer of the kernel may make a widget send its latest value
        await kernel.requestKernelInfo();
        await new Promise(done => setTimeout(done, 50));
    }
}"""
FAILED = re.compile("Traceback|There was an error when executing cell")
PICTURE = """async element => {
    if (element.tagName !== 'IMG') return [...element.querySelectorAll('.kd-chart, .kd-tiles')].map(
        part => part.dataset.chart ?? part.innerHTML).join();
    await element.decode();
    const canvas = document.createElement('canvas');
    Object.assign(canvas, {width: element.naturalWidth, height: element.naturalHeight});
    canvas.getContext('2d').drawImage(element, 0, 0);  // fetching it again is against a class page's policy
    return canvas.toDataURL();
}"""


class Lab:
    """A page in JupyterLab.

    Args:
        page: the browser's.
        server: a JupyterLab that exposes its application to the page.
    """

    def __init__(self, page, server: Server):
        self.page, self.server = page, server

    def open(self, notebook: str, run: bool = True, limit: float = WAIT) -> None:
        """Open a notebook in a fresh workspace, and run all its cells, or up to the first that fails.

        Args:
            notebook: path below the server's notebooks.
            run: False opens it only; its kernel is ready.
            limit: seconds that the run may take.
        """
        self.page.goto(f"{self.server.link(f'/lab/tree/{notebook}')}&reset")
        self.ready(notebook)
        if run:
            assert self.page.evaluate(WITHIN % RUN_ALL, limit * 1000), f"{notebook} runs for more than {limit:g} s"

    def ready(self, notebook: str) -> None:
        """Wait until a notebook is in front and its kernel answers."""
        current = "path => window.jupyterapp?.shell.currentWidget?.context?.path === path"
        self.page.wait_for_function(current, arg=notebook)
        assert self.page.evaluate(WITHIN % READY, WAIT * 1000), f"{notebook} has no kernel after {WAIT:g} s"

    def errors(self) -> list[str]:
        """Error outputs of all cells but those tagged ``raises-exception``, and what callbacks of widgets raised."""
        return self.page.evaluate(ERRORS)

    def shutdown(self) -> None:
        """Close the page, and end the kernels that were started from it."""
        self.page.close()
        for session in json.loads(self.server.ask("/api/sessions")[1]):
            assert self.server.ask(f"/api/sessions/{session['id']}", "DELETE")[0] == 204


def visit(page, server: Server) -> None:
    """Open the page of a voila server; its cells have run, and none of them failed."""
    page.goto(server.link())  # returns when the whole page has come, and its last cell with it
    failed = page.get_by_text(FAILED).all_inner_texts()
    assert not failed, "\n".join(failed)


def slide(slider, steps: int) -> None:
    """Move a slider as a user without a mouse would.

    Args:
        slider: locator of the widget.
        steps: to the right; negative ones to the left.
    """
    handle = slider.locator(".noUi-handle").first
    handle.focus()
    for _ in range(abs(steps)):
        handle.press("ArrowRight" if steps > 0 else "ArrowLeft")


def picture(image) -> str:
    """What is shown: the pixels of an ``img``, or the charts and images of an explorer."""
    return image.evaluate(PICTURE)


@contextlib.contextmanager
def redrawn(image) -> Iterator[None]:
    """What happens inside must change what an ``img`` or an explorer shows."""
    from playwright.sync_api import Error

    before, deadline = picture(image), time.monotonic() + WAIT
    yield
    while time.monotonic() < deadline:
        with contextlib.suppress(Error):  # it was replaced while it was being read
            if picture(image) != before:
                return
        image.page.wait_for_timeout(100)
    pytest.fail(f"the picture stayed the same for {WAIT:g} s")
