/* Requests at a rate, over a number of connections; latencies of their answers. */

typedef struct {
  int fd;
  int busy;
  uint64_t due;
  uint32_t out, out_size, got;
  char *request;
  char answer[65536];
} Connection;

typedef struct {
  Requests requests;
  Connection *connections;
  uint32_t *idle, idle_count; /* indexes of connections without a request */
  uint32_t connection_count, sent, answered, refused;
  int poll_fd, port, is_resp, first_refusal;
  double per_s; /* 0: as fast as answers arrive */
  uint64_t started;
} Sender;

static void fill_stamps(char *request, uint32_t size, uint64_t due) {
  char digits[21], *at = request, *stamp;
  snprintf(digits, sizeof digits, "%020llu", (unsigned long long)due);
  while ((stamp = memmem(at, size - (size_t)(at - request), STAMP, 6))) {
    memcpy(stamp + 6, digits, 20);
    at = stamp + STAMP_SIZE;
  }
}

/* True if an HTTP answer is complete; its status is stored in `status`. */
static int is_complete(Connection *connection, int *status) {
  connection->answer[connection->got] = 0;
  char *body = strstr(connection->answer, "\r\n\r\n");
  if (!body) return 0;
  *status = atoi(connection->answer + 9);
  body += 4;
  char *length = strcasestr(connection->answer, "\r\ncontent-length:");
  if (length && length < body) return connection->answer + connection->got - body >= atol(length + 17);
  if (strcasestr(connection->answer, "\r\ntransfer-encoding: chunked")) return strstr(body - 2, "\r\n0\r\n\r\n") || !strncmp(body, "0\r\n\r\n", 5);
  return 1;
}

/* The end of one RESP answer; NULL while it is incomplete. */
static const char *resp_end(const char *at, const char *end) {
  const char *line = memmem(at, (size_t)(end - at), "\r\n", 2);
  if (!line) return NULL;
  long n = atol(at + 1);
  line += 2;
  if (*at == '$') return n < 0 ? line : end - line >= n + 2 ? line + n + 2 : NULL;
  if (*at == '*')
    while (n-- > 0 && line) line = resp_end(line, end);
  return line;
}

static int is_complete_resp(Connection *connection, int *status) {
  *status = connection->answer[0] == '-' ? 500 : 200;
  return connection->got && resp_end(connection->answer, connection->answer + connection->got);
}

static void push(Connection *connection) {
  while (connection->out < connection->out_size) {
    ssize_t n = send(connection->fd, connection->request + connection->out, connection->out_size - connection->out, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EAGAIN || errno == ENOTCONN) return;
      fail("send");
    }
    connection->out += (uint32_t)n;
  }
}

static void open_connection(Sender *sender, uint32_t index) {
  int fd = sender->connections[index].fd = connect_from(index, sender->port);
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = index};
  epoll_ctl(sender->poll_fd, EPOLL_CTL_ADD, fd, &event);
}

/* Some servers close the connection after each answer. */
static void reconnect(Sender *sender, uint32_t index) {
  close(sender->connections[index].fd);
  open_connection(sender, index);
}

static uint64_t next_due(const Sender *sender) {
  return sender->per_s > 0 ? sender->started + (uint64_t)((double)sender->sent / sender->per_s * 1e9) : now_ns();
}

/* Sends the requests that are due, while connections are idle. Returns how long to wait for answers, in ms. */
static int send_due(Sender *sender) {
  uint64_t now = now_ns(), due = sender->per_s > 0 ? next_due(sender) : now;
  while (sender->sent < sender->requests.count && sender->idle_count && due <= now) {
    Connection *connection = &sender->connections[sender->idle[--sender->idle_count]];
    connection->busy = 1;
    connection->due = due;
    connection->request = sender->requests.bytes + sender->requests.at[sender->sent];
    connection->out = 0;
    connection->out_size = sender->requests.size[sender->sent];
    connection->got = 0;
    fill_stamps(connection->request, connection->out_size, due);
    push(connection);
    sender->sent++;
    due = next_due(sender);
  }
  if (sender->sent == sender->requests.count || !sender->idle_count) return 100;
  return due > now + 1000000 ? (int)((due - now) / 1000000) : 0;
}

static void read_answer(Sender *sender, uint32_t index) {
  Connection *connection = &sender->connections[index];
  char peeked;
  if (!connection->busy) {
    if (recv(connection->fd, &peeked, 1, MSG_PEEK) == 0) reconnect(sender, index);
    return;
  }
  push(connection);
  ssize_t got;
  while ((got = recv(connection->fd, connection->answer + connection->got, sizeof connection->answer - 1 - connection->got, 0)) > 0)
    connection->got += (uint32_t)got;
  if (got < 0 && errno != EAGAIN && errno != EINTR) got = 0;
  int status = 0;
  if (sender->is_resp ? is_complete_resp(connection, &status) : is_complete(connection, &status)) {
    note(now_ns() - connection->due);
    sender->answered++;
    if ((status < 200 || status > 299) && !sender->refused++) sender->first_refusal = status;
    if (got == 0 || strcasestr(connection->answer, "\r\nconnection: close")) reconnect(sender, index);
    connection->busy = 0;
    sender->idle[sender->idle_count++] = index;
  } else if (got == 0 && !connection->got) { /* the server closed before it read the request */
    reconnect(sender, index);
    connection->out = 0;
  } else if (got == 0) {
    errno = ECONNRESET;
    fail("an answer");
  }
}

static void send_requests(const char *path, int port, uint32_t connection_count, double per_s, double timeout_s, int is_resp) {
  Sender sender = {.requests = load(path), .connection_count = connection_count, .port = port, .is_resp = is_resp, .per_s = per_s};
  sender.connections = calloc(connection_count, sizeof *sender.connections);
  sender.idle = malloc(sizeof *sender.idle * connection_count);
  sender.poll_fd = epoll_create1(0);
  for (uint32_t i = 0; i < connection_count; i++) {
    open_connection(&sender, i);
    sender.idle[sender.idle_count++] = connection_count - 1 - i;
  }
  zero_latencies();
  sender.started = now_ns();
  uint64_t deadline = sender.started + (uint64_t)(timeout_s * 1e9);
  while (sender.answered < sender.requests.count && now_ns() < deadline) {
    int wait_ms = send_due(&sender);
    struct epoll_event ready[256];
    int n = epoll_wait(sender.poll_fd, ready, 256, wait_ms);
    for (int i = 0; i < n; i++) read_answer(&sender, ready[i].data.u32);
  }
  double seconds = (double)(now_ns() - sender.started) / 1e9;
  printf("{\"answered\": %u, \"refused\": %u, \"first_refusal\": %d, \"seconds\": %.6f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, "
         "\"p999_ms\": %.4f, \"max_ms\": %.4f, \"own_cpu_s\": %.3f}\n",
         sender.answered, sender.refused, sender.first_refusal, seconds, percentile_ms(.5), percentile_ms(.99),
         percentile_ms(.999), (double)latency_max / 1e6, cpu_s());
  fflush(stdout);
  for (uint32_t i = 0; i < connection_count; i++) close(sender.connections[i].fd);
  close(sender.poll_fd);
  free(sender.connections);
  free(sender.idle);
  unload(&sender.requests);
}
