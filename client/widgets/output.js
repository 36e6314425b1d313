/**
 * `<notifier-output task="ID">`: the output of one task, as plain text that grows; an empty box until there is some. It follows its end unless the reader
 * has scrolled up. A module of its own: pages that show no output do not load it.
 *
 * Owns: which pieces it has, the text, its scrolling. Must not know: what the text means.
 */

import { Widget } from "./base.js";
import { connectionNote } from "./connection.js";
import { el, labelled } from "./dom.js";
import { define } from "./element.js";
import { createPieces } from "./pieces.js";
import { PLACEHOLDER_CSS, placeholder } from "./placeholder.js";
import { say } from "./texts.js";

/** @typedef {import("../types.js").TaskOutput} TaskOutput */

const NEAR_PX = 24; // of the end: the reader follows it
const BLOCK_CHARS = 4096; // of a block: what is laid out again when text is appended
const MOST_CHARS = 4 * BLOCK_CHARS; // of a block without an end of a line
const SLICE_CHARS = 8 * BLOCK_CHARS; // added in one frame: more would hold the page up
const SHOWN_CHARS = 1 << 20; // on the page, until the reader asks for all

export class NotifierOutput extends Widget {
  static css = `
    [part=text] { margin: 0; padding: 0.6rem 0.75rem; max-block-size: var(--notifier-output-height, 24rem); min-block-size: 2lh; overflow: auto; overflow-anchor: none;
      border: 1px solid var(--_line); border-radius: 8px; background: var(--_surface); font: 0.8125rem/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
    [part=text]:focus-visible { outline: 2px solid var(--_accent); outline-offset: 1px; }
    [part=text] > div { content-visibility: auto; contain-intrinsic-block-size: auto 10rem; unicode-bidi: plaintext; }
    [part=text] > div:last-child { content-visibility: visible; }
    .line { justify-content: end; }`;
  static observedAttributes = ["task"];

  attributeChangedCallback() {
    if (this.isConnected) this.begin();
  }

  /** @param {import("./base.js").Store} store */
  start(store) {
    const id = this.getAttribute("task") ?? "";
    const text = el("div", {
      part: "text",
      tabindex: "0",
      role: "log",
      "aria-live": "off",
      "aria-label": say("output"),
    });
    const gone = el("span", { part: "truncated", class: "muted" });
    const copied = el("span", { class: "muted", role: "status" });
    const copy = labelled(say("copy"), async () => {
      // Pages without TLS have no clipboard: the text is selected, to be copied by the keyboard.
      if (!navigator.clipboard) return getSelection()?.selectAllChildren(text);
      await navigator.clipboard.writeText(text.textContent ?? "");
      copied.textContent = say("copied");
    });
    const all = labelled(say("showAll"), () =>
      this.attempt("notMore", async () => {
        const { text: kept } = await store.notifier.output(id);
        all.hidden = true;
        if (kept.length < view.length) return; // the service keeps less than the page has
        view.most = Infinity;
        pieces.again();
      }),
    );
    const tools = el("div", { class: "line" }, gone, copied, all, copy);
    tools.hidden = all.hidden = true;
    let isRead = false; // once: later reads show no skeleton
    const retry = () => (store.state.tasksFailed && !isRead ? store.reload() : pieces.retry());
    const { box, show } = placeholder("none", "tasks", retry, text, 2);
    /** @param {boolean} isLoaded @param {boolean} hasFailed */
    const showState = (isLoaded, hasFailed) => {
      isRead ||= isLoaded;
      show(isRead && !hasFailed, hasFailed, 1);
      text.hidden = !isRead;
    };
    this.adopt(PLACEHOLDER_CSS);
    this.root.append(connectionNote(this, store), tools, text, box);
    const view = createView(text, all);
    const pieces = createPieces(
      async (after) =>
        /** @type {Promise<{n: number, text: string, truncated: boolean}>} */ (store.notifier.output(id, after)),
      (added, isTruncated) => {
        showState(true, false);
        if (isTruncated) gone.textContent = say("outputGone");
        view.add(added);
        tools.hidden = false;
        copied.textContent = "";
      },
      () => {
        view.clear();
        gone.textContent = "";
      },
      showState,
    );
    this.ends.push(
      store.notifier.on("task.output", (/** @type {TaskOutput} */ piece) => {
        if (piece.id === id) pieces.receive(piece);
      }),
      // Each snapshot, and each event of the task, has the number of the newest piece.
      store.subscribe(({ tasks, tasksLoaded, tasksFailed }) => {
        const task = tasks.find((other) => other.id === id);
        if (task?.output) pieces.expect(task.output.n);
        else if (!isRead) showState(tasksLoaded, tasksFailed && !tasksLoaded);
      }),
      pieces.close,
      view.close,
    );
  }
}

/**
 * The text on the page. What arrives during a frame is added together; a block ends at a line's end, or after MOST_CHARS
 * without one, so that little is laid out again.
 *
 * @param {HTMLElement} area
 * @param {HTMLElement} all  shown when the oldest text has left the page
 */
function createView(area, all) {
  /** @type {string[]} */
  let waiting = [];
  let isFollowing = true;
  /** @type {number | undefined} */
  let frame;
  area.addEventListener("scroll", () => {
    isFollowing = area.scrollHeight - area.scrollTop - area.clientHeight < NEAR_PX;
  });
  /** The length of the text on the page, with what waits; and the most of it. */
  const view = { add, clear, close, length: 0, most: SHOWN_CHARS };
  return view;

  /** @param {string} text */
  function add(text) {
    waiting.push(text);
    view.length += text.length;
    // A hidden page has no frames; its text must not wait for ever.
    if (document.hidden) draw();
    else frame ??= requestAnimationFrame(draw);
  }

  function draw() {
    close();
    let text = waiting.join("");
    waiting = [];
    if (text.length > SLICE_CHARS && !document.hidden) {
      const cut = wholeChars(text, SLICE_CHARS);
      waiting.push(text.slice(cut));
      text = text.slice(0, cut);
      frame = requestAnimationFrame(draw);
    }
    while (text) {
      const block = /** @type {Text} */ (area.lastChild?.firstChild ?? newBlock());
      const room = Math.max(0, BLOCK_CHARS - block.length);
      const rest = MOST_CHARS - block.length;
      let end = text.indexOf("\n", room) + 1 || text.length;
      if (end > rest) end = wholeChars(text, rest);
      block.appendData(text.slice(0, end));
      text = text.slice(end);
      if (block.length >= MOST_CHARS - 1 || (block.length > BLOCK_CHARS && block.data.endsWith("\n"))) newBlock();
    }
    while (view.length > view.most && area.firstChild !== area.lastChild) {
      const oldest = /** @type {HTMLElement} */ (area.firstChild);
      view.length -= oldest.textContent?.length ?? 0;
      oldest.remove();
      all.hidden = false;
    }
    if (isFollowing) area.scrollTop = area.scrollHeight;
  }

  function newBlock() {
    const block = document.createTextNode("");
    area.append(el("div", {}, block));
    return block;
  }

  function clear() {
    waiting = [];
    view.length = 0;
    area.replaceChildren();
  }

  function close() {
    if (frame !== undefined) cancelAnimationFrame(frame);
    frame = undefined;
  }
}

/**
 * The end of a part of a text that is not inside a character.
 *
 * @param {string} text
 * @param {number} most
 */
function wholeChars(text, most) {
  return /[\ud800-\udbff]/.test(text[most - 1]) ? most - 1 : most;
}

define("notifier-output", NotifierOutput);
