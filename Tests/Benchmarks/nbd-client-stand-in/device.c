// Stands in for /dev/nbdX, so that nbd-client's own TLS proxy can be loaded without a kernel that has nbd.
//
// nbd-client (3.24) runs its TLS in a child, and gives the kernel one end of a socket pair whose other end the child has. Loaded
// with LD_PRELOAD, this catches the opening of the device and the ioctls on it: NBD_SET_SOCK leaves the socket here, and
// NBD_DO_IT runs the program that NBD_STAND_IN_PROGRAM names (words separated by spaces), with that socket as descriptor
// 3 and the words `--watch PID descriptor:3` behind its own, where PID is the child with the TLS. When it ends, the device
// is disconnected. All else in nbd-client is as it is on a machine with a device.
//
//   LD_PRELOAD=./stand-in.so NBD_STAND_IN_PROGRAM='nbd-load --negotiated SIZE …'
//     nbd-client -nofork -nonetlink -enable-tls … HOST PORT /dev/nbd0
#define _GNU_SOURCE
#include <dlfcn.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/nbd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_WORDS = 64 };

static int device = -1, kernel_socket = -1, status = 1;
static pid_t proxy;

int open64(const char *path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  int mode = va_arg(list, int);
  va_end(list);
  int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
  if (strncmp(path, "/dev/nbd", 8) != 0) return real(path, flags, mode);
  return device = real("/dev/null", O_RDWR);
}

// The first child is the proxy. The second one, which would have the kernel read the partition table once there is a
// device, is not made.
pid_t fork(void) {
  pid_t (*real)(void) = dlsym(RTLD_NEXT, "fork");
  if (proxy != 0) return proxy;
  pid_t parent = getpid(), child = real();
  if (child > 0) proxy = child;
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
  }
  return child;
}

// The proxy stays the child that is known: it would go on in a child of its own.
int daemon(int stays, int keeps) {
  (void)stays, (void)keeps;
  return 0;
}

static int run_program(void) {
  static char text[4096], watched[32];
  const char *program = getenv("NBD_STAND_IN_PROGRAM");
  if (!program || strlen(program) >= sizeof text || kernel_socket < 0) return -1;
  strcpy(text, program);
  char *words[MOST_WORDS + 4];
  int count = 0;
  for (char *word = strtok(text, " "); word && count < MOST_WORDS; word = strtok(NULL, " ")) words[count++] = word;
  snprintf(watched, sizeof watched, "%d", proxy);
  words[count++] = "--watch";
  words[count++] = watched;
  words[count++] = "descriptor:3";
  words[count] = NULL;

  pid_t (*real)(void) = dlsym(RTLD_NEXT, "fork");
  pid_t child = real();
  if (child < 0) return -1;
  if (child == 0) {
    unsetenv("LD_PRELOAD");
    if (kernel_socket == 3) fcntl(3, F_SETFD, 0);
    else dup2(kernel_socket, 3);
    execvp(words[0], words);
    err(127, "%s", words[0]);
  }
  int result = 0;
  while (waitpid(child, &result, 0) < 0 && errno == EINTR) {
  }
  status = WIFEXITED(result) ? WEXITSTATUS(result) : 1;
  return 0;
}

int ioctl(int fd, unsigned long request, ...) {
  va_list list;
  va_start(list, request);
  unsigned long argument = va_arg(list, unsigned long);
  va_end(list);
  if (fd != device || device < 0) {
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(fd, request, argument);
  }
  if (request == NBD_SET_SOCK) kernel_socket = argument;
  if (request == NBD_DO_IT) {
    if (run_program() < 0) warnx("the stand-in can't run its program");
    // The proxy has nothing to say any more, and nbd-client would wait for it or connect again.
    if (proxy > 0) {
      kill(proxy, SIGKILL);
      waitpid(proxy, NULL, 0);
    }
    _exit(status);
  }
  return 0;
}
