// Only what Swift can't import: function-like macros (_IO), variadic functions, and GNU prototypes that the
// Glibc module hides because it is built without _GNU_SOURCE (restated: no wrapper, no cost). Header only.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/nbd.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <unistd.h>

static const unsigned long K_NBD_SET_SOCK = NBD_SET_SOCK;
static const unsigned long K_NBD_SET_BLKSIZE = NBD_SET_BLKSIZE;
static const unsigned long K_NBD_SET_SIZE_BLOCKS = NBD_SET_SIZE_BLOCKS;
static const unsigned long K_NBD_SET_FLAGS = NBD_SET_FLAGS;
static const unsigned long K_NBD_SET_TIMEOUT = NBD_SET_TIMEOUT;
static const unsigned long K_NBD_DO_IT = NBD_DO_IT;
static const unsigned long K_NBD_CLEAR_SOCK = NBD_CLEAR_SOCK;
static const unsigned long K_NBD_CLEAR_QUE = NBD_CLEAR_QUE;
static const unsigned long K_NBD_DISCONNECT = NBD_DISCONNECT;
static const unsigned long K_BLKROSET = BLKROSET;
static const unsigned long K_BLKGETSIZE64 = BLKGETSIZE64;

// poll.h has it under _GNU_SOURCE only.
static const int K_POLLRDHUP = 0x2000;

// fcntl.h has it under _GNU_SOURCE only.
static const int K_O_DIRECT = __O_DIRECT;

// sys/mman.h and fcntl.h have these under _GNU_SOURCE only, and MFD_NOEXEC_SEAL is of Linux 6.3.
static const unsigned K_MFD_CLOEXEC = 1, K_MFD_ALLOW_SEALING = 2, K_MFD_NOEXEC_SEAL = 8;
static const int K_F_ADD_SEALS = 1033, K_F_GET_SEALS = 1034;
static const int K_F_SEAL_SEAL = 1, K_F_SEAL_SHRINK = 2, K_F_SEAL_GROW = 4, K_F_SEAL_WRITE = 8;
int memfd_create(const char *name, unsigned flags);

// 0 or more, or -errno: Swift needs no second look at errno.
static inline long k_ioctl(int fd, unsigned long request, unsigned long argument) {
  long result = ioctl(fd, request, argument);
  return result < 0 ? -errno : result;
}

// prctl is variadic. 0, or an errno.
static inline int k_set_io_flusher(void) { return prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0 ? errno : 0; }

// sys/mman.h has MCL_ONFAULT for some architectures only.
#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif
static const int K_LOCK_TOUCHED = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT;

static inline int k_gettid(void) { return (int)syscall(SYS_gettid); }

static inline unsigned k_major(unsigned long long device) { return major(device); }
static inline unsigned k_minor(unsigned long long device) { return minor(device); }

int pipe2(int ends[2], int flags);
ssize_t splice(int from, off_t *from_offset, int to, off_t *to_offset, size_t count, unsigned flags);
// fcntl.h has them under _GNU_SOURCE only; include/uapi/linux/fcntl.h, include/linux/splice.h.
static const int K_F_SETPIPE_SZ = 1024 + 7;
static const unsigned K_SPLICE_F_MOVE = 1, K_SPLICE_F_NONBLOCK = 2;
int pthread_setname_np(pthread_t thread, const char *name);
int syncfs(int fd);
