// Speaks NBD's transmission phase for a while and prints what came of it as one line of JSON.
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "connect.h"
#include "handshake.h"
#include "load.h"

static const char usage[] =
    "usage: nbd-load [OPTION...] unix:PATH|tcp:HOST:PORT|descriptor:N\n"
    "       nbd-load [OPTION...] -- PROGRAM [ARGUMENT...]\n"
    "The second form starts a program with one end of a socket pair as its descriptor 3, and loads the other end.\n"
    "  --operation read|write|mixed   default: read\n"
    "  --size BYTES                   of a request; default: 4096\n"
    "  --depth N                      requests under way; default: 1\n"
    "  --sequential                   offsets one after the other; default: by chance\n"
    "  --duration, --warm-up SECONDS  default: 1 and 0.1\n"
    "  --negotiated BYTES             the connection is in transmission already, of an export of that size\n"
    "  --socket-buffer BYTES          of both ends of the socket pair; default: the system's\n"
    "  --watch PID                    measure the processor time of this process; default: the program's own\n"
    "  --fill                         only write the whole export once\n";

struct peer {
  int fd;
  pid_t pid;
};

static struct peer start_program(char **words, int buffer) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) err(1, "socketpair");
  for (int end = 0; end < 2 && buffer > 0; end++) {
    // Past the system's limit where that is allowed.
    if (setsockopt(ends[end], SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer) < 0)
      setsockopt(ends[end], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
  }
  pid_t pid = fork();
  if (pid < 0) err(1, "fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (ends[1] == 3) fcntl(3, F_SETFD, 0);
    else dup2(ends[1], 3);
    execvp(words[0], words);
    err(127, "%s", words[0]);
  }
  close(ends[1]);
  return (struct peer){ends[0], pid};
}

// Closes the connection, and waits for the program, which should end of itself.
static void end_program(struct peer peer) {
  shutdown(peer.fd, SHUT_RDWR);
  close(peer.fd);
  int pidfd = syscall(SYS_pidfd_open, peer.pid, 0);
  struct pollfd polled = {pidfd, POLLIN, 0};
  if (pidfd < 0 || poll(&polled, 1, 2000) != 1) {
    warnx("the program does not end; it is killed");
    kill(peer.pid, SIGKILL);
  }
  while (waitpid(peer.pid, NULL, 0) < 0 && errno == EINTR) {
  }
}

int main(int count, char **words) {
  static struct outcome outcome;
  struct load load = {.operation = OPERATION_READ, .request_size = 4096, .depth = 1, .warm_up = 0.1, .duration = 1};
  int fills = 0, buffer = 0;
  uint64_t negotiated = 0;
  enum { OPERATION = 1, SIZE, DEPTH, SEQUENTIAL, DURATION, WARM_UP, NEGOTIATED, BUFFER, WATCH, FILL, HELP };
  static const struct option options[] = {
      {"operation", 1, 0, OPERATION}, {"size", 1, 0, SIZE},         {"depth", 1, 0, DEPTH},
      {"sequential", 0, 0, SEQUENTIAL}, {"duration", 1, 0, DURATION}, {"warm-up", 1, 0, WARM_UP},
      {"negotiated", 1, 0, NEGOTIATED}, {"socket-buffer", 1, 0, BUFFER}, {"watch", 1, 0, WATCH},
      {"fill", 0, 0, FILL},           {"help", 0, 0, HELP},         {0},
  };
  for (int option; (option = getopt_long(count, words, "+", options, 0)) >= 0;) {
    switch (option) {
      case OPERATION:
        if (strcmp(optarg, "read") == 0) load.operation = OPERATION_READ;
        else if (strcmp(optarg, "write") == 0) load.operation = OPERATION_WRITE;
        else if (strcmp(optarg, "mixed") == 0) load.operation = OPERATION_MIXED;
        else errx(64, "no operation is called %s", optarg);
        break;
      case SIZE: load.request_size = strtoul(optarg, 0, 10); break;
      case DEPTH: load.depth = atoi(optarg); break;
      case SEQUENTIAL: load.is_sequential = 1; break;
      case DURATION: load.duration = atof(optarg); break;
      case WARM_UP: load.warm_up = atof(optarg); break;
      case NEGOTIATED: negotiated = strtoull(optarg, 0, 10); break;
      case BUFFER: buffer = atoi(optarg); break;
      case WATCH: load.watched = atoi(optarg); break;
      case FILL: fills = 1; break;
      case HELP: fputs(usage, stdout); return 0;
      default: fputs(usage, stderr); return 64;
    }
  }
  if (optind >= count) {
    fputs(usage, stderr);
    return 64;
  }

  struct peer peer = {0};
  if (is_target(words[optind])) peer.fd = connect_to(words[optind]);
  else peer = start_program(words + optind, buffer);
  load.export_size = negotiated ? negotiated : negotiate(peer.fd);
  if (fills) {
    fill_export(peer.fd, load.export_size);
    return 0;
  }
  if (peer.pid != 0 && load.watched == 0) load.watched = peer.pid;
  run_load(peer.fd, &load, &outcome);
  if (peer.pid != 0) end_program(peer);

  double rate = outcome.requests / outcome.seconds;
  double processor = outcome.requests ? outcome.processor_seconds / outcome.requests * 1e6 : 0;
  printf("{\"requestsPerSecond\":%.1f,\"megabytesPerSecond\":%.2f,\"medianMicroseconds\":%.2f,"
         "\"p99Microseconds\":%.2f,\"processorMicrosecondsPerRequest\":%.3f}\n",
         rate, rate * load.request_size / 1e6, histogram_quantile(&outcome.latencies, 0.5) / 1e3,
         histogram_quantile(&outcome.latencies, 0.99) / 1e3, processor);
  return 0;
}
