// The admin's list of tasks: updates the bars of unfinished tasks. It polls the admin, since an administrator's stream
// does not contain other users' tasks. It stops when none is unfinished, and pauses while the page is hidden.
"use strict";

(() => {
  const EVERY_MS = 2000;
  const MOST_IDS = 80; // servers refuse longer addresses, gunicorn those over 4094 bytes

  const running = () => [...document.querySelectorAll("[data-notifier-task]")];

  const put = (row, column, text) => {
    const cell = row?.querySelector(`.field-${column}`);
    if (cell) cell.textContent = text;
  };

  function show(place, task) {
    const row = place.closest("tr");
    const bar = place.querySelector("progress");
    if (bar && task.percent !== null) {
      bar.value = task.percent;
      bar.nextSibling.textContent = ` ${task.percent} %`;
    } else if (!bar) {
      place.textContent = String(task.done);
    }
    put(row, "status", task.label);
    put(row, "state", task.state);
    const [href, textContent] = task.link; // checked by the server
    const cell = row?.querySelector(".field-result");
    if (href)
      cell?.replaceChildren(Object.assign(document.createElement("a"), { className: "button", href, textContent }));
    if (task.ended_at) delete place.dataset.notifierTask;
  }

  async function refresh() {
    const places = new Map(running().map((place) => [place.dataset.notifierTask, place]));
    if (!places.size) return;
    if (!document.hidden) {
      const ids = [...places.keys()];
      try {
        while (ids.length) {
          const query = new URLSearchParams(ids.splice(0, MOST_IDS).map((id) => ["id", id]));
          const answer = await fetch(new URL(`live/?${query}`, location.href.split(/[?#]/)[0]));
          if (answer.status === 403) return;
          if (answer.ok) for (const task of (await answer.json()).tasks) show(places.get(task.id), task);
        }
      } catch {
        // The server cannot be reached: retried after the next interval.
      }
    }
    setTimeout(refresh, EVERY_MS);
  }

  document.addEventListener("DOMContentLoaded", refresh);
})();
