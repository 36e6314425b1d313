/** Russian. */

/** @type {import("../types.js").Texts} */
export default {
  lang: "ru",
  messages: "Сообщения",
  unread: {
    one: "{n} непрочитанное сообщение", few: "{n} непрочитанных сообщения",
    many: "{n} непрочитанных сообщений", other: "{n} непрочитанного сообщения",
  },
  none: "Сообщений нет",
  system: "Система",
  isUnread: "Не прочитано.",
  read: "Отметить прочитанным: {name}",
  readAll: "Прочитать все",
  remove: "Удалить: {name}",
  more: "Ещё сообщения",
  open: "Открыть",
  close: "Закрыть",
  notifications: "Уведомления",
  away: {
    one: "Пока вас не было: {n} сообщение", few: "Пока вас не было: {n} сообщения",
    many: "Пока вас не было: {n} сообщений", other: "Пока вас не было: {n} сообщения",
  },
  notify: "Уведомлять, когда я в другом окне",
  failed: "Не получилось",
  tasks: "Задачи",
  noTasks: "Задач нет",
  overall: {
    one: "Выполняется {n} задача", few: "Выполняются {n} задачи",
    many: "Выполняется {n} задач", other: "Выполняется {n} задачи",
  },
  cancel: "Отменить",
  cancelOne: "Отменить: {name}",
  dismiss: "Убрать: {name}",
  soFar: "Сделано: {n}",
  left: "осталось {time}",
  status: {
    pending: "Ожидает", running: "Выполняется", cancelling: "Отменяется", stalled: "Зависла",
    succeeded: "Готово", failed: "Ошибка", cancelled: "Отменена",
  },
};
