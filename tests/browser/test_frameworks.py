"""React, Vue and Svelte with the npm package, as `npm pack` makes it, in builds by Vite: recipes of docs/client.md."""

from __future__ import annotations

import json
import mimetypes
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.test_recipes import MODULES, Site, recipe, site
from tests.support import REPOSITORY, subscriber_token, wait_for

__all__ = ["site"]

PLUGINS = {
    "React": "@vitejs/plugin-react",
    "Vue": "@vitejs/plugin-vue",
    "Svelte": "@sveltejs/vite-plugin-svelte",
}
PLUGIN_CALLS = {"React": "plugin.default()", "Vue": "plugin.default()", "Svelte": "plugin.svelte()"}
SVELTE_MAIN = """
import { mount } from "svelte";
import App from "./App.svelte";
mount(App, { target: document.getElementById("app"), props: { getToken, taskId } });
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, unpacked."""
    folder = tmp_path_factory.mktemp("package")
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=120)
    (packed,) = folder.glob("*.tgz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"


@pytest.fixture
def project(package: Path, tmp_path: Path) -> Path:
    """A project's folder, with the package among its modules."""
    modules = tmp_path / "node_modules"
    modules.mkdir()
    for installed in MODULES.iterdir():
        (modules / installed.name).symlink_to(installed.resolve())
    shutil.copytree(package, modules / "sse-notifier-client")
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    return tmp_path


def node(project: Path, *command: str) -> str:
    done = subprocess.run(["node", *command], cwd=project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(project: Path, name: str, files: dict[str, str], markup: str = "") -> Path:
    """What `vite build` makes of a page with `main.jsx` or `main.js`."""
    for path, text in files.items():
        (project / path).write_text(text)
    main = next(path for path in files if path.startswith("main"))
    (project / "index.html").write_text(
        f'<!doctype html><title>{name}</title><div id="app">{markup}</div>'
        f'<script src="/globals.js"></script><script type="module" src="/{main}"></script>'
    )
    (project / "vite.config.js").write_text(
        f"""import * as plugin from "{PLUGINS[name]}";
        export default {{ plugins: [{PLUGIN_CALLS[name]}], base: "/app/", logLevel: "error" }};"""
    )
    node(project, str(project / "node_modules" / "vite" / "bin" / "vite.js"), "build")
    return project / "dist"


def opened(site: Site, pages: Path, task: str) -> Page:
    """The built page in Chromium, at the service's address."""

    def answer(route: Route) -> None:
        path = route.request.url.partition("/app/")[2].partition("?")[0] or "index.html"
        kind = mimetypes.guess_type(path)[0] or "text/plain"
        route.fulfill(body=(pages / path).read_bytes(), content_type=kind)

    site.context.route(f"{site.service.url}/app/**", answer)
    token = json.dumps(subscriber_token(site.user))
    site.serve("/globals.js", f"getToken = () => {token}; taskId = {json.dumps(task)};", "text/javascript")
    return site.open("/app/")


def begin_task(site: Site) -> str:
    with site.service.client() as client:
        body = {"to": [f"user:{site.user}"], "name": "Import", "total": 4}
        return str(client.post("/v1/tasks", json=body).raise_for_status().json()["id"])


def advance(site: Site, task: str, done: int) -> None:
    with site.service.client() as client:
        client.patch(f"/v1/tasks/{task}", json={"done": done}).raise_for_status()


@pytest.mark.parametrize("name", PLUGINS)
def test_a_build_draws_the_store_and_reads_messages(site: Site, project: Path, name: str) -> None:
    files = {
        "React": lambda: {"main.jsx": recipe("React", "jsx")},
        "Vue": lambda: {"main.js": recipe("Vue", "js"), "App.vue": recipe("Vue", "vue")},
        "Svelte": lambda: {"main.js": SVELTE_MAIN, "App.svelte": recipe("Svelte", "svelte")},
    }[name]()
    task = begin_task(site)
    advance(site, task, 1)
    site.publish("First")
    page = opened(site, build(project, name, files), task)
    expect(page.locator("b")).to_have_text("1")
    expect(page.locator("progress")).to_have_js_property("value", 25)
    site.publish("Second")
    expect(page.locator("li")).to_have_text(["Second", "First"])
    advance(site, task, 3)
    expect(page.locator("progress")).to_have_js_property("value", 75)
    page.get_by_text("First").click()
    expect(page.locator("b")).to_have_text("1")
    wait_for(lambda: site.unread() == 1, what="the read mark")


REACT_APP = """
import { NotifierProvider, useInbox, useNotifier, useTask } from "sse-notifier-client/react";
import "sse-notifier-client/widgets";
function Inbox() {
  const { unread, messages } = useInbox();
  return <p>{unread} of {messages.length}, {useNotifier().connectionState.state}, {useTask("7")?.name ?? "no task"}</p>;
}
export function App({ store }) {
  return <NotifierProvider store={store}><Inbox /><notifier-bell class="x" /></NotifierProvider>;
}
"""
REACT_MAIN = """
import { hydrateRoot } from "react-dom/client";
import { connect } from "sse-notifier-client";
import { createStore } from "sse-notifier-client/store";
import { showWidgets } from "sse-notifier-client/widgets";
import { App } from "./App.jsx";
const store = createStore(connect("/", { getToken }));
showWidgets(store);
hydrateRoot(document.getElementById("app"), <App store={store} />, { onRecoverableError: reportError });
"""
REACT_SERVER = """
import { renderToString } from "react-dom/server";
import { App } from "./App.jsx";
console.log(renderToString(<App store={null} />));
"""


def test_a_page_that_react_rendered_on_a_server_is_hydrated_without_a_difference(site: Site, project: Path) -> None:
    (project / "App.jsx").write_text(REACT_APP)
    (project / "server.jsx").write_text(REACT_SERVER)
    esbuild = ["--bundle", "--platform=node", "--format=cjs", "--jsx=automatic", "--outfile=server.cjs"]
    subprocess.run([MODULES / ".bin" / "esbuild", "server.jsx", *esbuild], cwd=project, check=True, capture_output=True)
    markup = node(project, "server.cjs").strip()
    assert "connecting" in markup
    assert '<notifier-bell class="x"></notifier-bell>' in markup
    site.publish("First")
    page = opened(site, build(project, "React", {"main.jsx": REACT_MAIN}, markup), "7")
    expect(page.locator("p")).to_have_text("1 of 1, open, no task")
    expect(page.locator("notifier-bell [part=badge]")).to_have_text("1")


def test_vue_and_svelte_render_the_empty_state_on_a_server(project: Path) -> None:
    code = """
    import { createSSRApp, h } from "vue";
    import { renderToString } from "vue/server-renderer";
    import { get } from "svelte/store";
    import { inboxStore, notifierStore, taskStore } from "sse-notifier-client/svelte";
    import { notifierPlugin, useInbox, useNotifier, useTask } from "sse-notifier-client/vue";
    const app = createSSRApp({ setup() {
      const [state, { inbox }, task] = [useNotifier(), useInbox(), useTask("7")];
      return () => h("p", `${inbox.value.unread} ${task.value} ${state.value.connection}`);
    } });
    const svelte = [get(inboxStore(null)).unread, get(taskStore(null, "7")), get(notifierStore(null)).connection];
    console.log(await renderToString(app.use(notifierPlugin, null)), svelte.join(" "));"""
    (project / "server.js").write_text(code)
    assert node(project, "server.js") == "<p>0 null connecting</p> 0  connecting\n"


def test_the_bundle_finds_the_pictures_of_messages(site: Site, package: Path) -> None:
    for path in (package / "dist").rglob("*.*"):
        kind = mimetypes.guess_type(path)[0] or "text/plain"
        site.serve(f"/{path.relative_to(package)}", path.read_text(), kind)
    site.serve(
        "/bundled",
        f"""<!doctype html><notifier-inbox></notifier-inbox><script type="module">
        import {{ connect, createStore, showWidgets }} from "/dist/js/notifier.js";
        showWidgets(createStore(connect("/", {{ token: "{subscriber_token(site.user)}" }})));</script>""",
    )
    with site.service.client() as client:
        body = {"to": [f"user:{site.user}"], "subject": "Bought", "icon": "cart"}
        client.post("/v1/messages", json=body).raise_for_status()
    page = site.open("/bundled")
    expect(page.locator("notifier-inbox img")).to_have_js_property("complete", value=True)
    expect(page.locator("notifier-inbox img")).not_to_have_js_property("naturalWidth", 0)
    assert any(url.endswith("/dist/icons/cart.svg") for url in site.witness.requests)
