/**
 * The page of the shop. {% notifier %} fills the widgets; this file has the forms, and the state of the connection.
 * The answers to the forms are HTML: the messages of django.contrib.messages, which become toasts.
 */

document.addEventListener("notifier:state", ({ detail: { state } }) => {
  const label = document.getElementById("state");
  label.dataset.state = label.textContent = state;
});

// On the document: the board's forms come anew with each change of an order.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form[data-stays]")) return;
  event.preventDefault();
  const answer = await fetch(form.action, { method: "POST", body: new FormData(form) });
  if (!answer.ok)
    return void document.dispatchEvent(new CustomEvent("notifier:failed", { detail: { message: answer.statusText } }));
  form.reset();
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.body.append(...page.querySelectorAll("notifier-message"));
});
