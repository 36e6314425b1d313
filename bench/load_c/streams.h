/* Streams: open them, read their events, count the events of each. */

#define CARRY 63
#define READ_SIZE (256 * 1024)

typedef struct {
  int fd;
  int live;
  uint32_t request;
  uint32_t carried;
  uint64_t count, sum, last, disorder;
  char carry[CARRY];
} Stream;

static Stream *streams;
static uint32_t stream_count, live_count, closed_count;
static char marker[256];
static int poll_fd;
static char buffer[CARRY + READ_SIZE + 1];

static void zero(void) {
  zero_latencies();
  for (uint32_t i = 0; i < stream_count; i++)
    streams[i].count = streams[i].sum = streams[i].last = streams[i].disorder = 0;
}

static void report(const char *kind, double seconds) {
  uint64_t disorder = 0;
  for (uint32_t i = 0; i < stream_count; i++) disorder += streams[i].disorder;
  printf("{\"%s\": %llu, \"seconds\": %.6f, \"span_s\": %.6f, \"live\": %u, \"closed\": %u, \"disorder\": %llu, "
         "\"p50_ms\": %.4f, \"p99_ms\": %.4f, \"p999_ms\": %.4f, \"max_ms\": %.4f, \"own_cpu_s\": %.3f}\n",
         kind, (unsigned long long)counted, seconds, last_at - first_at, live_count, closed_count,
         (unsigned long long)disorder, percentile_ms(.5), percentile_ms(.99), percentile_ms(.999),
         (double)latency_max / 1e6, cpu_s());
  fflush(stdout);
}

static void close_stream(Stream *s) {
  if (s->fd < 0) return;
  close(s->fd);
  s->fd = -1;
  closed_count++;
  if (s->live) live_count--;
  s->live = 0;
}

static void take(Stream *s, char *data, size_t size, uint64_t at) {
  data[size] = 0;
  if (!s->live && memmem(data, size, marker, strlen(marker))) {
    s->live = 1;
    live_count++;
  }
  if (!s->live && !strncmp(data, "HTTP/1.1 ", 9) && size > 12 && atoi(data + 9) != 200) return close_stream(s);
  char *from = data, *end = data + size, *stamp;
  while ((stamp = memmem(from, (size_t)(end - from), STAMP, 6)) && end - stamp >= STAMP_SIZE) {
    uint64_t sent = 0, number = 0;
    for (int i = 6; i < 26; i++) sent = sent * 10 + (uint64_t)(stamp[i] - '0');
    for (int i = 27; i < 37; i++) number = number * 10 + (uint64_t)(stamp[i] - '0');
    note(at > sent ? at - sent : 0);
    s->count++;
    s->sum += number;
    if (number <= s->last && s->count > 1) s->disorder++;
    s->last = number;
    from = stamp + STAMP_SIZE;
  }
  size_t left = stamp ? (size_t)(end - stamp) : (size_t)(end - from);
  if (left > CARRY) left = CARRY;
  memcpy(s->carry, end - left, left);
  s->carried = (uint32_t)left;
}

static void read_stream(Stream *s) {
  for (;;) {
    memcpy(buffer, s->carry, s->carried);
    ssize_t got = recv(s->fd, buffer + s->carried, READ_SIZE, 0);
    if (got > 0) {
      uint64_t at = now_ns();
      uint64_t before = counted;
      take(s, buffer, s->carried + (size_t)got, at);
      if (counted > before) {
        last_at = (double)at / 1e9;
        if (!first_at) first_at = last_at;
      }
      if (got < READ_SIZE) return;
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      close_stream(s);
      return;
    } else if (errno == EAGAIN) {
      return;
    }
  }
}

static void poll_streams(int timeout_ms) {
  static struct epoll_event ready[1024];
  int n = epoll_wait(poll_fd, ready, 1024, timeout_ms);
  for (int i = 0; i < n; i++)
    if (ready[i].data.u32 != UINT32_MAX && streams[ready[i].data.u32].fd >= 0) read_stream(&streams[ready[i].data.u32]);
}

static void open_streams(const char *path, int port, uint32_t at_once, double timeout_s) {
  Requests requests = load(path);
  double started = now_s();
  uint32_t base = stream_count, done = 0, live_before = live_count, failed_before = closed_count;
  stream_count += requests.count;
  streams = realloc(streams, sizeof *streams * stream_count);
  memset(streams + base, 0, sizeof *streams * requests.count);
  for (uint32_t i = base; i < stream_count; i++) streams[i].fd = -1;
  while (done < requests.count || live_count - live_before + closed_count - failed_before < requests.count) {
    while (done < requests.count && done - (live_count - live_before) - (closed_count - failed_before) < at_once) {
      Stream *s = &streams[base + done];
      s->request = done;
      s->fd = connect_from(done, port);
      struct epoll_event event = {.events = EPOLLOUT, .data.u32 = base + done};
      epoll_ctl(poll_fd, EPOLL_CTL_ADD, s->fd, &event);
      done++;
    }
    static struct epoll_event ready[1024];
    int n = epoll_wait(poll_fd, ready, 1024, 100);
    for (int i = 0; i < n; i++) {
      uint32_t index = ready[i].data.u32;
      if (index == UINT32_MAX || streams[index].fd < 0) continue;
      Stream *s = &streams[index];
      if (index >= base && ready[i].events & EPOLLOUT) {
        uint32_t r = s->request;
        if (send(s->fd, requests.bytes + requests.at[r], requests.size[r], MSG_NOSIGNAL) != (ssize_t)requests.size[r]) {
          close_stream(s);
          continue;
        }
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
        epoll_ctl(poll_fd, EPOLL_CTL_MOD, s->fd, &event);
      }
      if (ready[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) read_stream(s);
    }
    if (now_s() - started > timeout_s) break;
  }
  printf("{\"opened\": %u, \"failed\": %u, \"seconds\": %.6f}\n", live_count - live_before, closed_count - failed_before, now_s() - started);
  fflush(stdout);
  unload(&requests);
}

static void expect(uint64_t count, double timeout_s) {
  double until = now_s() + timeout_s;
  while (counted < count && now_s() < until) poll_streams(50);
  report("events", now_s() - zero_at);
}

static void dump(const char *path) {
  FILE *file = fopen(path, "wb");
  if (!file) fail(path);
  for (uint32_t i = 0; i < stream_count; i++) {
    uint64_t row[3] = {streams[i].count, streams[i].sum, streams[i].disorder};
    fwrite(row, sizeof row, 1, file);
  }
  fclose(file);
  printf("{\"dumped\": %u}\n", stream_count);
  fflush(stdout);
}

static void cut(void) {
  for (uint32_t i = 0; i < stream_count; i++) close_stream(&streams[i]);
  stream_count = live_count = closed_count = 0;
  printf("{\"cut\": true}\n");
  fflush(stdout);
}
