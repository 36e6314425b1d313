// The admin's list of tasks: the bars of unfinished tasks follow the page's stream, which hears the group of all tasks.
// It is no module, so that it listens before the stream opens.
"use strict";

(() => {
  const put = (row, column, text) => {
    const cell = row?.querySelector(`.field-${column}`);
    if (cell) cell.textContent = text;
  };

  function show(task) {
    const place = document.querySelector(`[data-notifier-task="${CSS.escape(task.id)}"]`);
    if (!place) return;
    const { statuses, open } = JSON.parse(document.getElementById("notifier-task-texts").textContent);
    const row = place.closest("tr");
    if (task.percent === null) place.textContent = String(task.done);
    else {
      const bar = place.querySelector("progress") ?? Object.assign(document.createElement("progress"), { max: 100 });
      bar.value = task.percent;
      place.replaceChildren(bar, ` ${task.percent} %`);
    }
    put(row, "status", statuses[task.status] ?? task.status);
    put(row, "state", task.error ?? task.state);
    const cell = row?.querySelector(".field-result");
    const link = { className: "button", href: task.url, textContent: task.url_text ?? open }; // checked by the service
    if (task.url) cell?.replaceChildren(Object.assign(document.createElement("a"), link));
    if (task.ended_at) delete place.dataset.notifierTask;
  }

  for (const name of ["hello", "reset"])
    document.addEventListener(`notifier:${name}`, ({ detail }) => detail.tasks.forEach(show));
  document.addEventListener("notifier:task", ({ detail }) => show(detail));
})();
