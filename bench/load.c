/* The load of the benchmark: holds many streams and counts what comes, or sends many requests at a rate.
 *
 * One command a line on stdin, one JSON object a line on stdout. Requests are made by whoever starts this program and
 * handed over in files of records: a little-endian uint32 length, then that many bytes.
 *
 *   open FILE PORT AT_ONCE TIMEOUT_S MARKER   opens one stream for each request of FILE, so many at the same time;
 *                                             a stream is live when MARKER came (blanks in it written as ~, \n as ^)
 *   expect COUNT TIMEOUT_S                    waits for so many events since the last `zero`
 *   zero                                      forgets what was counted
 *   dump FILE                                 for each stream: uint64 count, sum and disorder of its event numbers
 *   cut                                       closes all streams
 *   send FILE PORT CONNECTIONS PER_S TIMEOUT_S KIND
 *                                             sends every request of FILE and waits for its answer, so many a second
 *                                             (0: as fast as answers come); KIND: http, or resp for Redis
 *
 * An event carries "stamp:TTTTTTTTTTTTTTTTTTTT:NNNNNNNNNN:": nanoseconds of the monotonic clock, which `send` fills in,
 * and a number that is the sender's. With a rate the stamp is the moment at which the request was due, so that a late
 * sender makes latencies longer and not shorter.
 *
 * It must not be the bottleneck: one epoll loop, no allocation per event.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STAMP "stamp:"
#define STAMP_SIZE (6 + 20 + 1 + 10 + 1)
#define CARRY 63
#define READ_SIZE (256 * 1024)
#define SOURCES 16 /* loopback addresses to connect from: one has too few ports for all streams of a run */

typedef struct {
  int fd;
  int live;
  uint32_t request;
  uint32_t carried;
  uint64_t count, sum, last, disorder;
  char carry[CARRY];
} Stream;

typedef struct {
  char *bytes;
  uint32_t *at, *size, count;
} Requests;

/* Latencies in a histogram: 64 exponents of 32 steps each, an error of 3 %. */
#define STEPS 32
static uint64_t histogram[64 * STEPS], counted, latency_max;
static double first_at, last_at, zero_at;

static Stream *streams;
static uint32_t stream_count, live_count, closed_count;
static char marker[256];
static int poll_fd;
static char buffer[CARRY + READ_SIZE + 1];

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}
static double now_s(void) { return (double)now_ns() / 1e9; }

static void fail(const char *what) {
  printf("{\"error\": \"%s: %s\"}\n", what, strerror(errno));
  fflush(stdout);
  exit(1);
}

/* Histogram */

static uint32_t bin_of(uint64_t value) {
  if (value < STEPS) return (uint32_t)value;
  uint32_t exponent = 63 - (uint32_t)__builtin_clzll(value);
  return (exponent - 4) * STEPS + (uint32_t)((value >> (exponent - 5)) & (STEPS - 1));
}
static uint64_t value_of(uint32_t bin) {
  if (bin < 2 * STEPS) return bin;
  uint32_t exponent = bin / STEPS + 4;
  return (((uint64_t)STEPS + bin % STEPS) << (exponent - 5)) + (1ull << (exponent - 5)) / 2;
}
static double percentile_ms(double share) {
  uint64_t below = 0, target = (uint64_t)((double)counted * share);
  for (uint32_t i = 0; i < 64 * STEPS; i++)
    if ((below += histogram[i]) > target) return (double)value_of(i) / 1e6;
  return (double)latency_max / 1e6;
}
static void note(uint64_t latency) {
  uint32_t bin = bin_of(latency);
  histogram[bin]++;
  counted++;
  if (latency > latency_max) latency_max = latency;
}
static void zero(void) {
  memset(histogram, 0, sizeof histogram);
  counted = latency_max = 0;
  first_at = last_at = 0;
  zero_at = now_s();
  for (uint32_t i = 0; i < stream_count; i++)
    streams[i].count = streams[i].sum = streams[i].last = streams[i].disorder = 0;
}
static double cpu_s(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
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

/* Files of requests */

static Requests load(const char *path) {
  Requests r = {0};
  FILE *file = fopen(path, "rb");
  if (!file) fail(path);
  fseek(file, 0, SEEK_END);
  long total = ftell(file);
  rewind(file);
  r.bytes = malloc((size_t)total + 1);
  if (fread(r.bytes, 1, (size_t)total, file) != (size_t)total) fail(path);
  fclose(file);
  for (long at = 0; at < total; r.count++) {
    uint32_t size;
    memcpy(&size, r.bytes + at, 4);
    at += 4 + (long)size;
  }
  r.at = malloc(sizeof *r.at * r.count);
  r.size = malloc(sizeof *r.size * r.count);
  uint32_t at = 0;
  for (uint32_t i = 0; i < r.count; i++) {
    memcpy(&r.size[i], r.bytes + at, 4);
    r.at[i] = at + 4;
    at += 4 + r.size[i];
  }
  return r;
}
static void unload(Requests *r) {
  free(r->bytes);
  free(r->at);
  free(r->size);
}

static int connect_from(uint32_t source, int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  if (fd < 0) fail("socket");
  struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002u + source % SOURCES)};
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(0x7f000001u)};
  setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  setsockopt(fd, SOL_TCP, TCP_NODELAY, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&from, sizeof from)) fail("bind");
  if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) fail("connect");
  return fd;
}

/* Streams */

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
  char *from = data, *end = data + size, *found;
  while ((found = memmem(from, (size_t)(end - from), STAMP, 6)) && end - found >= STAMP_SIZE) {
    uint64_t sent = 0, number = 0;
    for (int i = 6; i < 26; i++) sent = sent * 10 + (uint64_t)(found[i] - '0');
    for (int i = 27; i < 37; i++) number = number * 10 + (uint64_t)(found[i] - '0');
    note(at > sent ? at - sent : 0);
    s->count++;
    s->sum += number;
    if (number <= s->last && s->count > 1) s->disorder++;
    s->last = number;
    from = found + STAMP_SIZE;
  }
  size_t left = found ? (size_t)(end - found) : (size_t)(end - from);
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

/* Sending requests */

typedef struct {
  int fd;
  int busy;
  uint64_t due;
  uint32_t out, out_size, got;
  char *request;
  char answer[65536];
} Lane;

static void fill_stamps(char *request, uint32_t size, uint64_t due) {
  char digits[21], *at = request, *found;
  snprintf(digits, sizeof digits, "%020llu", (unsigned long long)due);
  while ((found = memmem(at, size - (size_t)(at - request), STAMP, 6))) {
    memcpy(found + 6, digits, 20);
    at = found + STAMP_SIZE;
  }
}

/* Whether an HTTP answer is whole; its status is put into `status`. */
static int is_whole(Lane *lane, int *status) {
  lane->answer[lane->got] = 0;
  char *body = strstr(lane->answer, "\r\n\r\n");
  if (!body) return 0;
  *status = atoi(lane->answer + 9);
  body += 4;
  char *length = strcasestr(lane->answer, "\r\ncontent-length:");
  if (length && length < body) return lane->answer + lane->got - body >= atol(length + 17);
  if (strcasestr(lane->answer, "\r\ntransfer-encoding: chunked")) return strstr(body - 2, "\r\n0\r\n\r\n") || !strncmp(body, "0\r\n\r\n", 5);
  return 1;
}

/* The end of one RESP answer, or NULL while it is not whole. */
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

static int is_whole_resp(Lane *lane, int *status) {
  *status = lane->answer[0] == '-' ? 500 : 200;
  return lane->got && resp_end(lane->answer, lane->answer + lane->got);
}

static void push(Lane *lane) {
  while (lane->out < lane->out_size) {
    ssize_t n = send(lane->fd, lane->request + lane->out, lane->out_size - lane->out, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EAGAIN || errno == ENOTCONN) return;
      fail("send");
    }
    lane->out += (uint32_t)n;
  }
}

/* For a server that closes after each answer. */
static void reconnect(Lane *lane, int lanes_fd, uint32_t index, int port) {
  close(lane->fd);
  lane->fd = connect_from(index, port);
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = index};
  epoll_ctl(lanes_fd, EPOLL_CTL_ADD, lane->fd, &event);
}

static void send_requests(const char *path, int port, uint32_t lane_count, double per_s, double timeout_s, int resp) {
  Requests requests = load(path);
  Lane *lanes = calloc(lane_count, sizeof *lanes);
  int lanes_fd = epoll_create1(0);
  uint32_t *free_lanes = malloc(sizeof *free_lanes * lane_count), free_count = 0;
  for (uint32_t i = 0; i < lane_count; i++) {
    lanes[i].fd = connect_from(i, port);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = i};
    epoll_ctl(lanes_fd, EPOLL_CTL_ADD, lanes[i].fd, &event);
    free_lanes[free_count++] = lane_count - 1 - i;
  }
  stream_count = 0;
  zero();
  uint64_t started = now_ns(), deadline = started + (uint64_t)(timeout_s * 1e9);
  uint32_t sent = 0, answered = 0, refused = 0;
  int first_refusal = 0;
  while (answered < requests.count && now_ns() < deadline) {
    uint64_t now = now_ns();
    uint64_t due = per_s > 0 ? started + (uint64_t)((double)sent / per_s * 1e9) : now;
    while (sent < requests.count && free_count && due <= now) {
      Lane *lane = &lanes[free_lanes[--free_count]];
      lane->busy = 1;
      lane->due = due;
      lane->request = requests.bytes + requests.at[sent];
      lane->out = 0;
      lane->out_size = requests.size[sent];
      lane->got = 0;
      fill_stamps(lane->request, lane->out_size, due);
      push(lane);
      sent++;
      due = per_s > 0 ? started + (uint64_t)((double)sent / per_s * 1e9) : now_ns();
    }
    int wait_ms = sent < requests.count && free_count ? (due > now + 1000000 ? (int)((due - now) / 1000000) : 0) : 100;
    struct epoll_event ready[256];
    int n = epoll_wait(lanes_fd, ready, 256, wait_ms);
    for (int i = 0; i < n; i++) {
      Lane *lane = &lanes[ready[i].data.u32];
      ssize_t got;
      if (!lane->busy) {
        if (recv(lane->fd, buffer, 1, MSG_PEEK) == 0) reconnect(lane, lanes_fd, ready[i].data.u32, port);
        continue;
      }
      push(lane);
      while ((got = recv(lane->fd, lane->answer + lane->got, sizeof lane->answer - 1 - lane->got, 0)) > 0)
        lane->got += (uint32_t)got;
      if (got < 0 && errno != EAGAIN && errno != EINTR) got = 0;
      int status = 0;
      if (resp ? is_whole_resp(lane, &status) : is_whole(lane, &status)) {
        note(now_ns() - lane->due);
        answered++;
        if (status < 200 || status > 299) {
          if (!refused++) first_refusal = status;
        }
        if (got == 0 || strcasestr(lane->answer, "\r\nconnection: close")) reconnect(lane, lanes_fd, ready[i].data.u32, port);
        lane->busy = 0;
        free_lanes[free_count++] = ready[i].data.u32;
      } else if (got == 0 && !lane->got) { /* it had closed before it read this */
        reconnect(lane, lanes_fd, ready[i].data.u32, port);
        lane->out = 0;
      } else if (got == 0) {
        errno = ECONNRESET;
        fail("an answer");
      }
    }
  }
  double seconds = (double)(now_ns() - started) / 1e9;
  printf("{\"answered\": %u, \"refused\": %u, \"first_refusal\": %d, \"seconds\": %.6f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, "
         "\"p999_ms\": %.4f, \"max_ms\": %.4f, \"own_cpu_s\": %.3f}\n",
         answered, refused, first_refusal, seconds, percentile_ms(.5), percentile_ms(.99), percentile_ms(.999), (double)latency_max / 1e6, cpu_s());
  fflush(stdout);
  for (uint32_t i = 0; i < lane_count; i++) close(lanes[i].fd);
  close(lanes_fd);
  free(lanes);
  free(free_lanes);
  unload(&requests);
}

int main(void) {
  char line[4096], file[3000], word[256];
  unsigned count, port, rows;
  double timeout_s, per_s;
  poll_fd = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
  epoll_ctl(poll_fd, EPOLL_CTL_ADD, 0, &event);
  setvbuf(stdin, NULL, _IONBF, 0);
  zero();
  for (;;) {
    /* Streams are read while no command is there. */
    struct epoll_event any[1024];
    int n = epoll_wait(poll_fd, any, 1024, 1000), asked = 0;
    for (int i = 0; i < n; i++) {
      if (any[i].data.u32 == UINT32_MAX) asked = 1;
      else if (streams[any[i].data.u32].fd >= 0) read_stream(&streams[any[i].data.u32]);
    }
    if (!asked) continue;
    if (!fgets(line, sizeof line, stdin)) return 0;
    if (sscanf(line, "open %2999s %u %u %lf %255s", file, &port, &count, &timeout_s, word) == 5) {
      for (char *c = word; *c; c++) *c = *c == '~' ? ' ' : *c == '^' ? '\n' : *c;
      strcpy(marker, word);
      open_streams(file, (int)port, count, timeout_s);
    } else if (sscanf(line, "expect %u %lf", &count, &timeout_s) == 2) {
      expect(count, timeout_s);
    } else if (!strncmp(line, "zero", 4)) {
      zero();
      printf("{\"zero\": true}\n");
      fflush(stdout);
    } else if (sscanf(line, "dump %2999s", file) == 1) {
      dump(file);
    } else if (!strncmp(line, "cut", 3)) {
      cut();
    } else if (sscanf(line, "send %2999s %u %u %lf %lf %255s", file, &port, &rows, &per_s, &timeout_s, word) == 6) {
      send_requests(file, (int)port, rows, per_s, timeout_s, !strcmp(word, "resp"));
    } else {
      printf("{\"error\": \"no such command\"}\n");
      fflush(stdout);
    }
  }
}
