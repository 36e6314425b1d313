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
  try {
    const answer = await fetch(form.action, { method: "POST", body: new FormData(form) });
    // The toast names the reason by the status. Without a session, Django redirects to the login page.
    if (!answer.ok || answer.redirected) return fail(answer.redirected ? 401 : answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    form.reset();
    document.body.append(...page.querySelectorAll("notifier-message"));
  } catch {
    fail(0); // no answer
  }
});

function fail(status) {
  document.dispatchEvent(new CustomEvent("notifier:failed", { detail: { status } }));
}
