/** All widgets in one import; each file of `widgets/` may be imported alone. */

export { showWidgets } from "./widgets/base.js";
export { NotifierBell } from "./widgets/bell.js";
export { NotifierInbox } from "./widgets/inbox.js";
export { NotifierMessage } from "./widgets/message.js";
export { NotifierProgress } from "./widgets/progress.js";
export { NotifierTasks } from "./widgets/tasks.js";
export { NotifierToasts } from "./widgets/toasts.js";
