/**
 * `<notifier-message level="success">Saved</notifier-message>`: a text that the server wrote into the page, as a toast.
 *
 * Where there are no toasts, or no scripts, it stays where it is, as text.
 *
 * Owns: that. Must not know: the service; it needs no connection.
 */

import { NotifierToasts } from "./toasts.js";

export class NotifierMessage extends HTMLElement {
  connectedCallback() {
    queueMicrotask(() => {
      // a swap may bring the toasts along, after this one
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

customElements.get("notifier-message") ?? customElements.define("notifier-message", NotifierMessage);
