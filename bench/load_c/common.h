/* What all parts of the load program use: time, errors, latencies, files of requests, connections. */
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
#define SOURCES 16 /* loopback addresses to connect from: a single address has too few ports for all streams of a run */

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

/* Latencies in a histogram: 64 exponents of 32 steps each, an error of 3 %. */
#define STEPS 32
static uint64_t histogram[64 * STEPS], counted, latency_max;
static double first_at, last_at, zero_at;


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
static void zero_latencies(void) {
  memset(histogram, 0, sizeof histogram);
  counted = latency_max = 0;
  first_at = last_at = 0;
  zero_at = now_s();
}
static double cpu_s(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* Files of requests */

typedef struct {
  char *bytes;
  uint32_t *at, *size, count;
} Requests;

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
