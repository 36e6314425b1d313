/**
 * The elements and their attributes, for `document.querySelector`, templates and JSX (see jsx/). Types only.
 *
 * Must not know: frameworks.
 */

import type { Level } from "./types.js";
import type { NotifierBell } from "./widgets/bell.js";
import type { NotifierInbox } from "./widgets/inbox.js";
import type { NotifierLive } from "./widgets/live.js";
import type { NotifierMessage } from "./widgets/message.js";
import type { NotifierOutput } from "./widgets/output.js";
import type { NotifierPresence } from "./widgets/presence.js";
import type { NotifierProgress } from "./widgets/progress.js";
import type { NotifierTasks } from "./widgets/tasks.js";
import type { NotifierToasts } from "./widgets/toasts.js";

/** Of an attribute without a value. */
type Present = boolean | "";

/** The element of each name. */
export interface NotifierElements {
  "notifier-bell": NotifierBell;
  "notifier-inbox": NotifierInbox;
  "notifier-live": NotifierLive;
  "notifier-message": NotifierMessage;
  "notifier-output": NotifierOutput;
  "notifier-presence": NotifierPresence;
  "notifier-progress": NotifierProgress;
  "notifier-tasks": NotifierTasks;
  "notifier-toasts": NotifierToasts;
}

/** Its attributes, beside those of every element. */
export interface NotifierAttributes {
  "notifier-bell": { "title-count"?: Present; "favicon-count"?: Present };
  "notifier-inbox": object;
  "notifier-live": { src?: string; "data-live-topic"?: string };
  "notifier-message": { level?: Level };
  "notifier-output": { task?: string };
  "notifier-presence": {
    topic?: string;
    /** A selector of the form in which an input is the state "editing". */
    editing?: string;
    /** A question before that form is submitted while others edit. */
    warning?: string;
    /** The URL of pictures, with `{id}`. */
    avatars?: string;
    "data-live-topic"?: string;
  };
  "notifier-progress": { task?: string; "read-only"?: Present };
  "notifier-tasks": object;
  "notifier-toasts": {
    native?: Present;
    /** Present: a tone. A URL: that file. */
    sound?: boolean | string;
    position?: "top" | "top-start" | "top-end" | "bottom" | "bottom-start" | "bottom-end";
    /** Kinds of messages, separated by spaces. */
    preferences?: string;
  };
}

declare global {
  interface HTMLElementTagNameMap extends NotifierElements {}
}
