/* The floor: the cost of an event to N streams if the kernel's send() is all that is done.
 *
 *   floor PORT
 *
 * GET opens a stream, POST sends its body to every stream: one chunk, framed once, one send() for each. No ids, no
 * history, no tokens, no bound on slow readers: bytes that a send() does not accept are dropped.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 65536

static const char OPEN[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\ntransfer-encoding: chunked\r\n\r\n";
static const char DONE[] = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

static int streams[MOST], place[MOST], count; /* place: a descriptor's index in streams, plus 1 */

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void forget(int fd) {
  if (place[fd]) {
    int last = streams[--count];
    streams[place[fd] - 1] = last;
    place[last] = place[fd];
    place[fd] = 0;
  }
  close(fd);
}

static void broadcast(const char *body, size_t size) {
  static char chunk[70000];
  int head = sprintf(chunk, "%zx\r\nevent: bench\ndata: ", size + 21);
  memcpy(chunk + head, body, size);
  memcpy(chunk + head + size, "\n\n\r\n", 4);
  for (int i = 0; i < count; i++)
    (void)!send(streams[i], chunk, (size_t)head + size + 4, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void answer(int fd, char *request, ssize_t size) {
  request[size] = 0;
  if (!strncmp(request, "GET ", 4)) {
    (void)!send(fd, OPEN, sizeof OPEN - 1, MSG_NOSIGNAL);
    place[fd] = count + 1;
    streams[count++] = fd;
    return;
  }
  char *body = strstr(request, "\r\n\r\n");
  if (body) broadcast(body + 4, (size_t)(request + size - body - 4));
  (void)!send(fd, DONE, sizeof DONE - 1, MSG_NOSIGNAL);
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1, poll_fd = epoll_create1(0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) fail("listen");
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);
  static char request[65536];
  for (;;) {
    struct epoll_event ready[256];
    int n = epoll_wait(poll_fd, ready, 256, -1);
    for (int i = 0; i < n; i++) {
      int fd = ready[i].data.fd;
      if (fd != listener) {
        ssize_t got = recv(fd, request, sizeof request - 1, 0);
        if (got > 0) answer(fd, request, got);
        else if (got == 0 || errno != EAGAIN) forget(fd);
        continue;
      }
      while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MOST) fail("too many streams");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
      }
    }
  }
}
