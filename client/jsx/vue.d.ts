/** The elements in Vue's templates. Types only. */

import type { HTMLAttributes } from "vue";
import type { NotifierAttributes } from "../elements.js";

type Element<Name extends keyof NotifierAttributes> = new () => { $props: HTMLAttributes & NotifierAttributes[Name] };

declare module "vue" {
  interface GlobalComponents {
    NotifierBell: Element<"notifier-bell">;
    NotifierInbox: Element<"notifier-inbox">;
    NotifierLive: Element<"notifier-live">;
    NotifierMessage: Element<"notifier-message">;
    NotifierOutput: Element<"notifier-output">;
    NotifierPresence: Element<"notifier-presence">;
    NotifierProgress: Element<"notifier-progress">;
    NotifierTasks: Element<"notifier-tasks">;
    NotifierToasts: Element<"notifier-toasts">;
  }
}
