/**
 * The shapes that cross the wire and the shapes of `connect`, as types only: no code, and no page ever loads this file.
 *
 * Owns: names of fields, as the wire contract (v1) has them. Must not know: how anything is fetched or shown.
 */

/**
 * @typedef {object} WireEvent  One event as it stood on the wire.
 * @property {string} event  its name; `message` when it had none
 * @property {string} data   the data lines, joined; JSON, not read yet
 * @property {string} id     the last event id of the stream when it came
 */

/** @typedef {"debug" | "info" | "success" | "warning" | "error"} Level */

/**
 * @typedef {object} Message
 * @property {string} id
 * @property {string} to       the channel it came by: `user:42`, `group:staff`, `all`
 * @property {{id?: string, name?: string} | null} from  null: the system
 * @property {string} subject
 * @property {string} text
 * @property {string} sent_at  ISO 8601, UTC
 * @property {Level} level
 * @property {string | null} url  http, https or relative
 * @property {string | null} [icon]  a name from icons/, or the URL of a picture
 * @property {Record<string, unknown>} data
 * @property {boolean} [read]  only in an inbox page
 */

/** @typedef {"pending" | "running" | "succeeded" | "failed" | "cancelling" | "cancelled" | "stalled"} TaskStatus */

/**
 * @typedef {object} Task
 * @property {string} id
 * @property {string} name
 * @property {TaskStatus} status
 * @property {string} state            what it is at, in words
 * @property {number} done
 * @property {number | null} total     null: unknown
 * @property {number | null} percent   0-100, whole; 100 once it succeeded; else null while the total is unknown
 * @property {number | null} eta_s     seconds left, a guess
 * @property {string} started_at
 * @property {string} updated_at
 * @property {string | null} ended_at
 * @property {string | null} error
 */

/**
 * @typedef {object} Hello  The stream is open. A tab that joins another tab's stream makes one of its own.
 * @property {number} v
 * @property {boolean} recovered  nothing is missing since the cursor, or none was given
 * @property {number} replayed    messages that follow from history
 * @property {number} unread
 * @property {Task[]} tasks       all tasks there are: others are gone
 * @property {number} [heartbeat_s]  not in one that a tab made
 * @property {string} [time]
 */

/**
 * @typedef {object} Reset  Something may be missing: drop what you hold, take this, list the inbox again.
 * @property {string} reason
 * @property {number} unread
 * @property {Task[]} tasks
 */

/**
 * @typedef {object} InboxChange  The read state changed, here or in another tab or device.
 * @property {string[]} read
 * @property {string[]} deleted
 * @property {number} unread
 */

/**
 * @typedef {object} InboxPage
 * @property {Message[]} messages  newest first
 * @property {boolean} more        there are older ones
 * @property {number} unread
 * @property {string} cursor
 */

/**
 * @typedef {"connecting" | "live" | "degraded" | "offline"} State
 *   connecting: on the way, or the next attempt follows soon ·
 *   live: everything arrives ·
 *   degraded: the stream is open, and the service has lost its broker for now ·
 *   offline: the last attempt failed (it goes on trying), or the connection has ended for good
 */

/**
 * @typedef {object} StateDetail  Why the state is what it is.
 * @property {string} reason  `handover` (another tab had the stream) · `network` · `silent` (no byte in time) · `closed` (by the page) · `stopped` (204) ·
 *   `refused` (403) · `unauthorized` (no token to be had) · `status 503` and the like · the reason of a `bye`
 * @property {boolean} final  it will not try again
 */

/**
 * @typedef {object} StoreState  What a user has. It is never changed: a change makes a new one.
 * @property {Message[]} messages  newest first, with `read`
 * @property {number} unread       of all, also of those that are not listed yet
 * @property {boolean} more        there are older ones
 * @property {boolean} loaded      the list was fetched once
 * @property {Task[]} tasks        newest first
 * @property {State} connection
 */

/**
 * @typedef {{kind: "message", message: Message} | {kind: "task", task: Task}} News
 *   A message came, or a task began or ended, while the page was open.
 */

/** @typedef {Record<string, string>} Plural  by the names of `Intl.PluralRules`; `other` is always there */

/**
 * @typedef {object} Texts  The widgets' words in one language; see i18n/en.js.
 * @property {string} lang  BCP 47
 * @property {Plural} unread
 * @property {Plural} away
 * @property {Plural} overall
 * @property {Record<TaskStatus, string>} status
 * @property {string} messages
 * @property {string} none
 * @property {string} system
 * @property {string} isUnread
 * @property {string} read
 * @property {string} readAll
 * @property {string} remove
 * @property {string} more
 * @property {string} open
 * @property {string} close
 * @property {string} notifications
 * @property {string} notify
 * @property {string} failed
 * @property {string} tasks
 * @property {string} noTasks
 * @property {string} cancel
 * @property {string} cancelOne
 * @property {string} dismiss
 * @property {string} soFar
 * @property {string} left
 */

/** @typedef {string | {token: string, expires_in?: number}} TokenAnswer  `expires_in` in seconds */

/**
 * @typedef {object} Options
 * @property {string} [token]  the subscriber's token; it goes in a header, never in an address
 * @property {() => TokenAnswer | null | Promise<TokenAnswer | null>} [getToken]
 *   asked for a token when there is none, before one ends and after a 401; null: no user is logged in
 * @property {string} [cursor]  the last event id that is already known; such a tab has a stream of its own
 * @property {boolean} [shared]  one stream for all tabs of this user (the default), or one for each tab. Tabs share
 *   where the browser has Web Locks and BroadcastChannel and the user is known: by the token's `sub`, or by `user`
 * @property {string} [user]  who listens, where a cookie is the token: a word that differs from user to user
 * @property {typeof globalThis.fetch} [fetch]  used for everything, the stream too
 * @property {(message: Message, event: WireEvent) => void} [onMessage]
 * @property {(task: Task, event: WireEvent) => void} [onTask]
 * @property {(hello: Hello, event: WireEvent) => void} [onHello]
 * @property {(reset: Reset, event: WireEvent) => void} [onReset]
 * @property {(change: InboxChange, event: WireEvent) => void} [onInbox]
 * @property {(state: State, detail: StateDetail) => void} [onState]
 * @property {(event: WireEvent) => void} [onEvent]  every event, as it stood on the wire
 */

export {};
