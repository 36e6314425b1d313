/* The load of the benchmark: holds many streams and counts their events, or sends many requests at a rate.
 *
 * One command per line on stdin, one JSON object per line on stdout. Requests come in files of records: a little-endian
 * uint32 length, then that many bytes.
 *
 *   open FILE PORT AT_ONCE TIMEOUT_S MARKER   opens one stream for each request of FILE, AT_ONCE at the same time;
 *                                             a stream is live when MARKER arrives (in it ~ is a blank, ^ is \n)
 *   expect COUNT TIMEOUT_S                    waits for so many events since the last `zero`
 *   zero                                      resets the counters
 *   dump FILE                                 for each stream: uint64 count, sum and disorder of its event numbers
 *   cut                                       closes all streams
 *   send FILE PORT CONNECTIONS PER_S TIMEOUT_S KIND
 *                                             sends every request of FILE and waits for its answer, PER_S a second
 *                                             (0: as fast as answers arrive); KIND: http, or resp for Redis
 *
 * An event carries "stamp:TTTTTTTTTTTTTTTTTTTT:NNNNNNNNNN:": nanoseconds of the monotonic clock, which `send` fills in,
 * and a number chosen by the sender. With a rate, the stamp is the moment at which the request was due, so a late sender
 * makes latencies longer and not shorter.
 *
 * It must not be the bottleneck: one epoll loop, no allocation per event.
 */
#include "load_c/common.h"

#include "load_c/streams.h"

#include "load_c/send.h"

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
    /* Between two commands, read the streams. */
    struct epoll_event any[1024];
    int n = epoll_wait(poll_fd, any, 1024, 1000), has_command = 0;
    for (int i = 0; i < n; i++) {
      if (any[i].data.u32 == UINT32_MAX) has_command = 1;
      else if (streams[any[i].data.u32].fd >= 0) read_stream(&streams[any[i].data.u32]);
    }
    if (!has_command) continue;
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
