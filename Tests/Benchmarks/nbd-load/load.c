// As the kernel's driver does it: one sendmsg for each request, and one thread, which waits for replies in recv. What the
// driver does for free, finding replies in what has arrived, costs one recv for all that is there.
#define _GNU_SOURCE
#include "load.h"

#include <endian.h>
#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "connect.h"

enum { READ = 0, WRITE = 1, DISC = 2, LARGEST_REQUEST = 4 << 20, INPUT = 1 << 20 };

struct __attribute__((packed)) request {
  uint32_t magic;
  uint16_t flags, command;
  uint64_t cookie, offset;
  uint32_t length;
};
struct __attribute__((packed)) reply {
  uint32_t magic, error;
  uint64_t cookie;
};

struct slot {
  uint64_t began;
  uint32_t generation;
  int is_read, is_busy;
};

struct state {
  int fd;
  const struct load *load;
  struct outcome *outcome;
  struct slot *slots;
  uint64_t random, next_offset;
  // Of the request that did not fit whole: what is still to go.
  struct request header;
  size_t unsent, unsent_total;
  // Of the reply that is being received.
  struct reply reply;
  size_t reply_have, payload_left;
  uint64_t measured_from, measured_to;
  // The watched process's clock; 0 for none.
  clockid_t processor;
  double processor_from, processor_to;
};

static unsigned char payload[LARGEST_REQUEST];
static unsigned char input[INPUT];

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static double processor_time(struct state *state) {
  struct timespec time;
  if (state->processor == 0 || clock_gettime(state->processor, &time) < 0) return 0;
  return time.tv_sec + time.tv_nsec / 1e9;
}

static struct request make_request(int command, uint64_t cookie, uint64_t offset, uint32_t length) {
  return (struct request){htobe32(0x25609513), 0, htobe16(command), htobe64(cookie), htobe64(offset), htobe32(length)};
}

// xorshift64*
static uint64_t draw(struct state *state) {
  state->random ^= state->random >> 12;
  state->random ^= state->random << 25;
  state->random ^= state->random >> 27;
  return state->random * 0x2545f4914f6cdd1d;
}

// Sends what is left of the request under way; false when the socket takes no more now.
static int send_rest(struct state *state) {
  while (state->unsent > 0) {
    size_t done = state->unsent_total - state->unsent, header = sizeof state->header;
    size_t data_done = done > header ? done - header : 0;
    struct iovec parts[2] = {
        {(char *)&state->header + (done < header ? done : header), done < header ? header - done : 0},
        {payload + data_done, state->unsent_total - header - data_done},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent = sendmsg(state->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) return 0;
    if (sent < 0 && errno != EINTR) err(1, "sendmsg");
    if (sent > 0) state->unsent -= sent;
  }
  return 1;
}

static void begin_request(struct state *state, int index) {
  const struct load *load = state->load;
  struct slot *slot = &state->slots[index];
  uint64_t offset;
  if (load->is_sequential) {
    offset = state->next_offset;
    state->next_offset = (offset + load->request_size) % load->export_size;
  } else {
    offset = draw(state) % (load->export_size / load->request_size) * load->request_size;
  }
  slot->is_read = load->operation == OPERATION_READ || (load->operation == OPERATION_MIXED && draw(state) >> 63);
  slot->is_busy = 1;
  slot->generation++;
  uint64_t cookie = (uint64_t)slot->generation << 32 | (uint32_t)index;
  state->header = make_request(slot->is_read ? READ : WRITE, cookie, offset, load->request_size);
  state->unsent = state->unsent_total = sizeof state->header + (slot->is_read ? 0 : load->request_size);
  slot->began = now();
  send_rest(state);
}

static int end_request(struct state *state, uint64_t time) {
  uint64_t cookie = be64toh(state->reply.cookie);
  uint32_t index = cookie;
  if (index >= (uint32_t)state->load->depth || !state->slots[index].is_busy ||
      state->slots[index].generation != cookie >> 32)
    errx(1, "a reply to no request");
  struct slot *slot = &state->slots[index];
  slot->is_busy = 0;
  if (time >= state->measured_from && time < state->measured_to) {
    state->outcome->requests++;
    histogram_add(&state->outcome->latencies, time - slot->began);
  }
  return index;
}

// Looks for replies in what has arrived. The slots that have become free are in `freed`; how many.
static int take_replies(struct state *state, size_t count, uint64_t time, int *freed) {
  int freed_count = 0;
  for (size_t at = 0; at < count;) {
    if (state->payload_left > 0) {
      size_t part = count - at < state->payload_left ? count - at : state->payload_left;
      state->payload_left -= part;
      at += part;
    } else {
      size_t wanted = sizeof state->reply - state->reply_have;
      size_t part = count - at < wanted ? count - at : wanted;
      memcpy((char *)&state->reply + state->reply_have, input + at, part);
      state->reply_have += part;
      at += part;
      if (state->reply_have < sizeof state->reply) break;
      if (be32toh(state->reply.magic) != 0x67446698) errx(1, "a reply without its magic");
      if (state->reply.error != 0) errx(1, "the server answered with error %u", be32toh(state->reply.error));
      uint32_t index = be64toh(state->reply.cookie);
      if (index < (uint32_t)state->load->depth && state->slots[index].is_read)
        state->payload_left = state->load->request_size;
    }
    if (state->payload_left == 0) {
      freed[freed_count++] = end_request(state, time);
      state->reply_have = 0;
    }
  }
  return freed_count;
}

static size_t receive(struct state *state) {
  for (;;) {
    if (state->unsent > 0) {
      struct pollfd polled = {state->fd, POLLIN | POLLOUT, 0};
      poll(&polled, 1, -1);
      if (polled.revents & POLLOUT) send_rest(state);
      if (!(polled.revents & ~POLLOUT)) continue;
    }
    ssize_t got = recv(state->fd, input, sizeof input, 0);
    if (got > 0) return got;
    if (got == 0) errx(1, "the peer closed the connection");
    if (errno != EINTR) err(1, "recv");
  }
}

static void read_once(int fd) {
  struct request request = make_request(READ, ~0ull, 0, 4096);
  write_all(fd, &request, sizeof request);
  unsigned char reply[sizeof(struct reply) + 4096];
  read_all(fd, reply, sizeof reply);
  if (((struct reply *)reply)->error != 0) errx(1, "the server can't read its first bytes");
}

void run_load(int fd, const struct load *load, struct outcome *outcome) {
  if (load->request_size == 0 || load->request_size > LARGEST_REQUEST || load->request_size > load->export_size ||
      load->depth < 1)
    errx(64, "that size and depth make no load");
  struct state state = {.fd = fd, .load = load, .outcome = outcome, .random = 88172645463325252};
  state.slots = calloc(load->depth, sizeof *state.slots);
  int *waiting = calloc(load->depth, sizeof *waiting);
  int *freed = calloc(load->depth, sizeof *freed);
  if (!state.slots || !waiting || !freed) err(1, "calloc");
  read_once(fd);

  state.measured_from = now() + load->warm_up * 1e9;
  state.measured_to = state.measured_from + load->duration * 1e9;
  if (load->watched != 0 && clock_getcpuclockid(load->watched, &state.processor) != 0)
    errx(1, "there is no process %d", load->watched);
  int waiting_count = load->depth, busy = 0;
  for (int index = 0; index < load->depth; index++) waiting[index] = index;
  for (uint64_t time = now(); busy > 0 || time < state.measured_to;) {
    // One that did not fit has the others wait: requests are never mixed.
    while (waiting_count > 0 && state.unsent == 0 && time < state.measured_to) {
      begin_request(&state, waiting[--waiting_count]);
      busy++;
    }
    if (busy == 0) break;
    size_t count = receive(&state);
    time = now();
    if (state.processor_from == 0 && time >= state.measured_from) state.processor_from = processor_time(&state);
    if (state.processor_to == 0 && time >= state.measured_to) state.processor_to = processor_time(&state);
    int freed_count = take_replies(&state, count, time, freed);
    for (int index = 0; index < freed_count; index++) waiting[waiting_count++] = freed[index];
    busy -= freed_count;
  }
  outcome->seconds = load->duration;
  outcome->processor_seconds = state.processor_to - state.processor_from;
  struct request farewell = make_request(DISC, 0, 0, 0);
  send(fd, &farewell, sizeof farewell, MSG_NOSIGNAL);
  free(state.slots);
  free(waiting);
  free(freed);
}

void fill_export(int fd, uint64_t size) {
  for (uint64_t offset = 0; offset < size; offset += LARGEST_REQUEST) {
    uint32_t length = size - offset < LARGEST_REQUEST ? size - offset : LARGEST_REQUEST;
    // What is not zero has to be kept.
    memset(payload, 0xa5, length);
    struct request request = make_request(WRITE, offset, offset, length);
    struct reply reply;
    write_all(fd, &request, sizeof request);
    write_all(fd, payload, length);
    read_all(fd, &reply, sizeof reply);
    if (reply.error != 0) errx(1, "the server refuses to be filled: error %u", be32toh(reply.error));
  }
}
