/**
 * `<notifier-message level="success">Saved</notifier-message>`: a text of the server's page, shown as a toast.
 *
 * Without `<notifier-toasts>`, or without scripts, the text stays in the page.
 *
 * Must not know: the service; it needs no connection.
 */

import { BaseElement, define } from "./element.js";
import { NotifierToasts } from "./toasts.js";

export class NotifierMessage extends BaseElement {
  connectedCallback() {
    queueMicrotask(() => {
      // the same swap may insert the toasts after this element
      const toasts = document.querySelector("notifier-toasts");
      if (!this.isConnected || !(toasts instanceof NotifierToasts)) return;
      this.remove();
      toasts.show(
        /** @type {import("../types.js").Level} */ (this.getAttribute("level") ?? "info"),
        this.textContent?.trim() ?? "",
      );
    });
  }
}

define("notifier-message", NotifierMessage);
