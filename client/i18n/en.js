/** English. Another language is a file like this one; forms of a plural are those of `Intl.PluralRules`. */

/** @type {import("../types.js").Texts} */
export default {
  lang: "en",
  messages: "Messages",
  unread: { one: "{n} unread message", other: "{n} unread messages" },
  none: "No messages",
  system: "System",
  isUnread: "Unread.",
  read: "Mark as read: {name}",
  readAll: "Mark all read",
  remove: "Delete: {name}",
  more: "More messages",
  open: "Open",
  close: "Close",
  notifications: "Notifications",
  away: { one: "{n} message while you were away", other: "{n} messages while you were away" },
  notify: "Notify me when I am elsewhere",
  failed: "That did not work",
  tasks: "Tasks",
  noTasks: "No tasks",
  overall: { one: "{n} task is running", other: "{n} tasks are running" },
  cancel: "Cancel",
  cancelOne: "Cancel: {name}",
  dismiss: "Dismiss: {name}",
  soFar: "{n} so far",
  left: "{time} left",
  status: {
    pending: "Waiting", running: "Running", cancelling: "Cancelling", stalled: "Stalled",
    succeeded: "Done", failed: "Failed", cancelled: "Cancelled",
  },
};
