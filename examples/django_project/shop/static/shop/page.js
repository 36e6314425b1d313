/**
 * The page of the shop. {% notifier %} fills the widgets; what is left are two forms, and a word about the connection.
 * What the forms answer is HTML: the messages of django.contrib.messages, which become toasts.
 */

document.addEventListener("notifier:state", ({ detail: { state } }) => {
  const shown = document.getElementById("state");
  shown.dataset.state = shown.textContent = state;
});

for (const form of document.querySelectorAll("form[data-stays]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await fetch(form.action, { method: "POST", body: new FormData(form) });
    if (!answer.ok)
      return void document.dispatchEvent(
        new CustomEvent("notifier:failed", { detail: { message: answer.statusText } }),
      );
    form.reset();
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.body.append(...page.querySelectorAll("notifier-message"));
  });
}
