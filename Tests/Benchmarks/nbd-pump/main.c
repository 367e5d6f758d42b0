// A dumb byte pump: descriptor 3 to a server and back, in one thread with poll, as good as that gets without knowing
// anything of NBD. What a relay is measured against. With --tls the way to the server is encrypted.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tls.h"

enum { BUFFER = 256 << 10 };

struct direction {
  int from, to;
  size_t begin, end;
  int has_ended;
  char bytes[BUFFER];
};

static struct direction up, down;

static int connect_to(const char *target) {
  struct sockaddr_un path = {.sun_family = AF_UNIX};
  struct sockaddr_in address = {.sin_family = AF_INET};
  char host[64];
  unsigned port;
  int fd = -1, one = 1;
  if (strncmp(target, "unix:", 5) == 0 && strlen(target + 5) < sizeof path.sun_path) {
    strcpy(path.sun_path, target + 5);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&path, sizeof path) < 0) err(1, "%s", target);
  } else if (sscanf(target, "tcp:%63[^:]:%u", host, &port) == 2 && inet_pton(AF_INET, host, &address.sin_addr) == 1) {
    address.sin_port = htons(port);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) err(1, "%s", target);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  } else {
    errx(64, "%s: neither unix:PATH nor tcp:HOST:PORT", target);
  }
  return fd;
}

static void pump_out(struct direction *direction) {
  while (direction->begin < direction->end) {
    ssize_t sent = send(direction->to, direction->bytes + direction->begin, direction->end - direction->begin,
                        MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) exit(0);
    direction->begin += sent;
  }
  direction->begin = direction->end = 0;
}

// Takes what there is once and sends it on; poll says whether there is more.
static void pump(struct direction *direction) {
  if (direction->end < BUFFER) {
    ssize_t got = recv(direction->from, direction->bytes + direction->end, BUFFER - direction->end, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) direction->has_ended = 1;
    if (got > 0) direction->end += got;
  }
  pump_out(direction);
}

static const char usage[] =
    "usage: nbd-pump [--tls CA-FILE NAME PRIORITY] unix:PATH|tcp:HOST:PORT\n"
    "  --tls   open the default export over TLS: NAME is what the certificate must be for, PRIORITY as GnuTLS has it";

int main(int count, char **words) {
  int with_tls = count == 6 && strcmp(words[1], "--tls") == 0;
  if (count != 2 && !with_tls) errx(64, "%s", usage);
  int near = 3, far = connect_to(words[count - 1]);
  fcntl(near, F_SETFL, O_NONBLOCK);
  if (with_tls) {
    open_tls(far, words[2], words[3], words[4]);
    fcntl(far, F_SETFL, O_NONBLOCK);
    pump_tls(near, far);
    return 0;
  }
  fcntl(far, F_SETFL, O_NONBLOCK);
  up.from = down.to = near;
  down.from = up.to = far;
  while (!(up.has_ended || down.has_ended) || up.begin < up.end || down.begin < down.end) {
    struct pollfd polled[2] = {{near, 0, 0}, {far, 0, 0}};
    if (!up.has_ended && up.end < BUFFER) polled[0].events |= POLLIN;
    if (!down.has_ended && down.end < BUFFER) polled[1].events |= POLLIN;
    if (up.begin < up.end) polled[1].events |= POLLOUT;
    if (down.begin < down.end) polled[0].events |= POLLOUT;
    if (poll(polled, 2, -1) < 0) continue;
    if (polled[0].revents & (POLLIN | POLLHUP | POLLERR)) pump(&up);
    if (polled[1].revents & (POLLIN | POLLHUP | POLLERR)) pump(&down);
    if (polled[1].revents & POLLOUT) pump_out(&up);
    if (polled[0].revents & POLLOUT) pump_out(&down);
  }
  return 0;
}
