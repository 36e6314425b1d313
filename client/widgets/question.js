/**
 * What a task asks, with its choices or a field for text: in the list of tasks, a bar, a toast.
 *
 * Owns: the question's elements, and the line that says who answered elsewhere. Must not know: which widget has it.
 */

import { el, labelled } from "./dom.js";
import { say } from "./texts.js";

/** @typedef {import("../types.js").Task} Task */

export const QUESTION_CSS = `
  [part=question] { margin-block: 0.35rem; padding: 0.35rem 0.6rem; border-inline-start: 3px solid var(--_accent); }
  [part=question] button { color: var(--_accent); border-color: var(--_line); }
  [part=question] .line { flex-wrap: wrap; }
  [part=question] .line > * { flex: 0 1 auto; overflow-wrap: anywhere; }
  [part=question] .line > :first-child { margin-inline-end: 0; }
  [part=question] input { font: inherit; color: inherit; background: transparent; border: 1px solid var(--_line); border-radius: 6px; padding: 0.15rem 0.4rem; min-inline-size: 0; }`;

/**
 * The question of one task; empty while it has none. In a widget with the attribute `read-only`, it takes no answer.
 *
 * @param {import("./base.js").Widget} widget
 * @param {import("./base.js").Store} store
 * @param {string} id  of the task
 */
export function questionOf(widget, store, id) {
  const text = el("p", { class: "text" });
  const ways = el("div", { class: "line" });
  const first = el("p", { class: "muted text", role: "status" }); // who answered first
  const box = el("div", { part: "question", role: "group" }, text, ways, first);
  let shown = "";
  /** @type {import("../types.js").Question | null} */
  let known = null; // the newest question
  box.hidden = true;

  /** @param {Partial<import("../types.js").Answer>} answer  one that was not given on this page */
  const tell = ({ by, value }) => {
    const choice = known?.choices?.find((other) => other.value === value);
    box.hidden = false;
    first.textContent = say("answered", { name: by ? (by.name ?? by.id) : "–", value: choice?.text ?? value ?? "–" });
  };

  /** @param {string} value */
  const give = (value) => {
    const asked = shown; // a retry does not answer the next question
    widget.attempt("notAnswered", async () => {
      await store.answer(id, asked, value).catch((error) => {
        if (error.status !== 409 || error.problem?.value === undefined) throw error;
        if (shown && shown !== asked) return;
        tell(error.problem);
        ways.replaceChildren();
      });
    });
  };

  /** @param {Task} task */
  function update({ question, answer }) {
    if (question ? question.id === shown : !shown) return;
    if (!question && answer?.by && answer.question === shown && !store.answersHere(id, shown)) tell(answer);
    shown = question?.id ?? "";
    ways.replaceChildren();
    box.hidden = !question && !first.textContent;
    if (!question) return;
    known = question;
    first.textContent = "";
    text.textContent = question.text;
    box.ariaLabel = question.text;
    if (widget.hasAttribute("read-only")) return;
    if (question.choices) {
      ways.append(...question.choices.map((choice) => labelled(choice.text, () => give(choice.value))));
      return;
    }
    const field = el("input", { "aria-label": question.text, maxlength: "2000", autocomplete: "off" });
    field.addEventListener("keydown", ({ key, isComposing }) => {
      if (key === "Enter" && !isComposing && field.value) void give(field.value);
    });
    ways.append(
      field,
      labelled(say("send"), () => field.value && give(field.value)),
    );
  }

  return { box, update };
}
