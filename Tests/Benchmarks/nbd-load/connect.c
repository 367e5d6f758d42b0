#include "connect.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_unix(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) errx(1, "%s: too long", path);
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) err(1, "%s", path);
  return fd;
}

static int connect_tcp(const char *target) {
  char host[64];
  unsigned port;
  if (sscanf(target, "%63[^:]:%u", host, &port) != 2) errx(64, "%s: not HOST:PORT", target);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) errx(64, "%s: not an IPv4 address", host);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) err(1, "%s", target);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

int connect_to(const char *target) {
  if (strncmp(target, "unix:", 5) == 0) return connect_unix(target + 5);
  if (strncmp(target, "tcp:", 4) == 0) return connect_tcp(target + 4);
  if (strncmp(target, "descriptor:", 11) == 0) return atoi(target + 11);
  errx(64, "%s: not unix:PATH, tcp:HOST:PORT or descriptor:N", target);
}

int is_target(const char *word) {
  return strncmp(word, "unix:", 5) == 0 || strncmp(word, "tcp:", 4) == 0 || strncmp(word, "descriptor:", 11) == 0;
}

void read_all(int fd, void *bytes, unsigned long count) {
  for (char *at = bytes; count > 0;) {
    ssize_t got = read(fd, at, count);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) errx(1, "the peer closed the connection");
    at += got;
    count -= got;
  }
}

void write_all(int fd, const void *bytes, unsigned long count) {
  for (const char *at = bytes; count > 0;) {
    ssize_t put = send(fd, at, count, MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) err(1, "send");
    at += put;
    count -= put;
  }
}
