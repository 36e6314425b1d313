/**
 * The shapes that cross the wire and the shapes of `connect`, as types only: there is no code here, and no page loads this file.
 *
 * Owns: names of fields, as the wire contract (v1) has them. Must not know: how data is fetched or shown.
 */

/**
 * @typedef {object} WireEvent  One event as it stood on the wire.
 * @property {string} event  its name; `message` by default
 * @property {string} data   the data lines, joined; JSON, not parsed
 * @property {string} id     the stream's last event id at this event
 */

/** @typedef {"debug" | "info" | "success" | "warning" | "error"} Level */

/**
 * @typedef {object} Action
 * @property {string} text
 * @property {string} url     POST: a path of the page's site
 * @property {"GET" | "POST"} method  GET: a link
 */

/**
 * @typedef {object} Message
 * @property {string} id
 * @property {string} to       the channel: `user:42`, `group:staff`, `all`
 * @property {{id?: string, name?: string} | null} from  null: the system
 * @property {string} subject
 * @property {string} text
 * @property {string} sent_at  ISO 8601, UTC
 * @property {Level} level
 * @property {string | null} url  http, https or relative
 * @property {string | null} [icon]  a name from icons/, or the URL of a picture
 * @property {Action[] | null} [actions]  its buttons, at most three
 * @property {Record<string, unknown>} data
 * @property {string | null} [key]  a later message with the same key replaces this one
 * @property {string} [replaces]  the id of the message that this one replaces
 * @property {boolean} [edited]  it was corrected after it was published
 * @property {boolean} [read]  only in an inbox page
 */

/** @typedef {"pending" | "running" | "succeeded" | "failed" | "waiting" | "cancelling" | "cancelled" | "stalled"} TaskStatus */

/**
 * @typedef {object} Task
 * @property {string} id
 * @property {string} name
 * @property {TaskStatus} status
 * @property {string} state            what the task is doing, in words
 * @property {number} done
 * @property {number | null} total     null: unknown
 * @property {number | null} percent   0-100, whole; 100 once it succeeded; else null while the total is unknown
 * @property {number | null} eta_s     estimated seconds left
 * @property {string} started_at
 * @property {string} updated_at
 * @property {string | null} ended_at
 * @property {string | null} error
 * @property {string | null} [url]       where the result is, once it has ended. Absent: an older service
 * @property {string | null} [url_text]  the text of the button that leads there
 * @property {Question | null} [question]  what it asks; null while nothing
 * @property {Answer | null} [answer]  to its newest closed question. Absent: an older service
 * @property {{n: number, chars: number} | null} [output]  its newest piece of output, and the characters of all
 * @property {boolean | null} [cancellable]  whether this user may cancel it; null: not known. Absent: an older service
 */

/**
 * @typedef {object} Problem  An error of the service.
 * @property {string} [title]
 * @property {string} [detail]
 * @property {string} [field]
 * @property {string | null} [value]  of the answer that was first
 * @property {{id: string, name: string | null} | null} [by]
 */

/**
 * @typedef {object} TaskOutput  The next output of a task.
 * @property {string} id
 * @property {number} n         number of the piece; of the last, if several are joined
 * @property {number} [from]    number of the first of several
 * @property {string} text
 */

/**
 * @typedef {object} Question  What a task asks the users who watch it.
 * @property {string} id
 * @property {string} text
 * @property {{value: string, text: string}[] | null} choices
 * @property {"text" | null} input     any text is an answer
 * @property {string} asked_at
 * @property {string} expires_at
 */

/**
 * @typedef {object} Answer  The first answer to a question, or its default after the timeout.
 * @property {string} question     its id
 * @property {string | null} value
 * @property {{id: string, name: string | null} | null} by  null after the timeout
 * @property {string} answered_at
 */

/**
 * @typedef {object} Hello  The stream is open. A tab that joins another tab's stream makes one of its own.
 * @property {number} v
 * @property {boolean} recovered  nothing is missing since the cursor, or none was given
 * @property {number} replayed    messages that follow from history
 * @property {number} unread
 * @property {Task[]} tasks       all tasks; others no longer exist
 * @property {number} [heartbeat_s]  not in a hello that a tab made
 * @property {string} [connection]  the id of the stream, for `POST /v1/stream/topics`; not in a hello that a tab made
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
 * @property {boolean} more        older messages exist
 * @property {number} unread
 * @property {string} cursor
 */

/**
 * @typedef {"connecting" | "live" | "degraded" | "offline"} State
 *   connecting: an attempt is running or follows soon ·
 *   live: events arrive ·
 *   degraded: the stream is open, but the service has no broker ·
 *   offline: the last attempt failed (others follow), or the connection has ended
 */

/**
 * @typedef {object} StateDetail  Why the state is what it is.
 * @property {string} reason  `handover` (another tab had the stream) · `network` · `silent` (no byte in time) · `closed` (by the page) · `stopped` (204) ·
 *   `refused` (403) · `unauthorized` (no token) · `status 503` and the like · the reason of a `bye`
 * @property {boolean} final  no attempt follows
 */

/**
 * @typedef {object} ConnectionState  What to show of the connection.
 * @property {"connecting" | "open" | "reconnecting" | "polling" | "offline" | "refused"} state
 *   connecting: no stream was open yet ·
 *   open: events arrive at once ·
 *   reconnecting: the stream was lost, or the service has no broker; another attempt runs or follows ·
 *   polling: a proxy holds streams back, so the client asks for events ·
 *   offline: the device has no network, or the page closed the connection ·
 *   refused: no attempt follows
 * @property {string} reason   as in StateDetail; of `refused`: `unauthorized`, `refused` or `stopped`
 * @property {number} since     when it was opened, or else when it was last open (at first: when it began); ms since 1970
 * @property {number} nextTryAt  when the next attempt starts, in ms since 1970; 0: it runs, or none follows
 */

/**
 * @typedef {object} StoreState  What a user has. It is never changed: a change makes a new one.
 * @property {Message[]} messages  newest first, with `read`
 * @property {number} unread       of all messages, also of those not listed
 * @property {boolean} more        there are older ones
 * @property {boolean} loaded      the list was fetched once
 * @property {boolean} failed      the last fetch of the list failed; the next `hello` or `reload()` fetches it again
 * @property {Task[]} tasks        newest first
 * @property {boolean} tasksLoaded  the tasks are known
 * @property {boolean} tasksFailed  the last fetch of the tasks failed, and they are not known
 * @property {State} connection
 * @property {ConnectionState} connectionState
 */

/**
 * @typedef {{kind: "message", message: Message} | {kind: "task", task: Task}} News
 *   A message arrived, or a task began or ended, while the page was open.
 */

/** @typedef {Record<string, string>} Plural  by the names of `Intl.PluralRules`; `other` is always there */

/**
 * @typedef {object} Texts  The widgets' words in one language; see i18n/en.js.
 * @property {string} lang  BCP 47
 * @property {Plural} unread
 * @property {Plural} away
 * @property {Plural} overall
 * @property {Record<TaskStatus, string>} status
 * @property {string} notAnswered
 * @property {string} answered
 * @property {string} send
 * @property {string} alsoHere
 * @property {Plural} editing
 * @property {Plural} others
 * @property {string} output
 * @property {string} outputGone
 * @property {string} copy
 * @property {string} copied
 * @property {string} showAll
 * @property {string} messages
 * @property {string} none
 * @property {string} nothing
 * @property {string} all
 * @property {string} unreadOnly
 * @property {string} archived
 * @property {string} earlier
 * @property {string} system
 * @property {string} isUnread
 * @property {string} read
 * @property {string} readAll
 * @property {string} remove
 * @property {string} removed
 * @property {string} archive
 * @property {string} undo
 * @property {string} menu
 * @property {string} more
 * @property {string} open
 * @property {string} close
 * @property {string} notifications
 * @property {string} notify
 * @property {string} preferences
 * @property {string} popUps
 * @property {string} failed
 * @property {string} connecting
 * @property {string} reconnecting
 * @property {string} nextTry
 * @property {string} retryNow
 * @property {string} offline
 * @property {string} polling
 * @property {string} signedOut
 * @property {string} notAllowed
 * @property {string} stopped
 * @property {string} loading
 * @property {string} notLoaded
 * @property {string} retry
 * @property {string} notRead
 * @property {string} notRemoved
 * @property {string} notMore
 * @property {string} notCancelled
 * @property {string} notDismissed
 * @property {string} unreachable
 * @property {string} broken
 * @property {string} busy
 * @property {string} forbidden
 * @property {string} gone
 * @property {string} reloadPage
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
 *   called when there is no token, before the token expires and after a 401; null: no user is logged in
 * @property {string} [cursor]  the last event id that the page has; such a tab has its own stream
 * @property {boolean} [shared]  one stream for all tabs of this user (the default), or one for each tab. Tabs share
 *   where the browser has Web Locks and BroadcastChannel and the user is known: by the token's `sub`, or by `user`
 * @property {string} [user]  the user, if the token is a cookie: any string that differs between users
 * @property {typeof globalThis.fetch} [fetch]  used for all requests, also for the stream
 * @property {(message: Message, event: WireEvent) => void} [onMessage]
 * @property {(task: Task, event: WireEvent) => void} [onTask]
 * @property {(hello: Hello, event: WireEvent) => void} [onHello]
 * @property {(reset: Reset, event: WireEvent) => void} [onReset]
 * @property {(change: InboxChange, event: WireEvent) => void} [onInbox]
 * @property {(state: State, detail: StateDetail) => void} [onState]
 * @property {(state: ConnectionState) => void} [onConnectionState]
 * @property {(event: WireEvent) => void} [onEvent]  every event, as it was received
 */

/**
 * @typedef {object} TopicOptions
 * @property {string} [since]  the cursor at which the page was rendered; without it, the page's present one
 * @property {(grants: string[]) => Promise<Renewed>} [renew]  asked before a grant ends
 * @property {(names: string[]) => void} [onStale]  to be fetched again; once a minute for what the stream has no room for
 * @property {(names: string[], reason: Ended) => void} [onEnded]
 */

/** @typedef {"denied" | "expired" | "refused"} Ended  `refused`: the service refused two grants of the topic in a row, or the connection has ended for good */

/** @typedef {{grants: string[], denied?: string[], unknown?: string[]}} Renewed  `unknown`: fetch again what shows it */

export {};
