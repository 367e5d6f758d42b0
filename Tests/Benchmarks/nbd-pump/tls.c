// As good as GnuTLS gets in one thread: a pull that takes all that has come with one recv, and a push that gathers all
// records of one turn for one send; what is decrypted in one turn goes on with one send as well.
#define _GNU_SOURCE
#include "tls.h"

#include <endian.h>
#include <err.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// Of a record: what it may hold, and more than it may take on the wire.
enum { BUFFER = 256 << 10, RECORD = 16 << 10, SEALED = RECORD + 512, GREETING = 18, OPTION = 16, REPLY = 20 };
enum { OPT_STARTTLS = 5, OPT_GO = 7, REP_ACK = 1, REP_INFO = 3 };

struct buffer {
  size_t begin, end;
  char bytes[BUFFER];
};

// Plain bytes towards the server and from it; sealed records towards it and from it.
static struct buffer up, down, sealed_up, sealed_down;
static gnutls_session_t session;
static int far_socket, has_ended;

static void empty(struct buffer *buffer, int fd) {
  while (buffer->begin < buffer->end) {
    ssize_t sent = send(fd, buffer->bytes + buffer->begin, buffer->end - buffer->begin, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) exit(0);
    buffer->begin += sent;
  }
  buffer->begin = buffer->end = 0;
}

static ssize_t push(gnutls_transport_ptr_t unused, const void *bytes, size_t count) {
  (void)unused;
  if (BUFFER - sealed_up.end < count) empty(&sealed_up, far_socket);
  if (BUFFER - sealed_up.end < count) {
    gnutls_transport_set_errno(session, EAGAIN);
    return -1;
  }
  memcpy(sealed_up.bytes + sealed_up.end, bytes, count);
  sealed_up.end += count;
  return count;
}

static ssize_t pull(gnutls_transport_ptr_t unused, void *bytes, size_t count) {
  (void)unused;
  if (sealed_down.begin == sealed_down.end) {
    // In the handshake the other side waits for what was pushed.
    empty(&sealed_up, far_socket);
    ssize_t got = recv(far_socket, sealed_down.bytes, BUFFER, 0);
    if (got <= 0) {
      gnutls_transport_set_errno(session, got < 0 ? errno : 0);
      return got;
    }
    sealed_down.begin = 0;
    sealed_down.end = got;
  }
  size_t there = sealed_down.end - sealed_down.begin, part = there < count ? there : count;
  memcpy(bytes, sealed_down.bytes + sealed_down.begin, part);
  sealed_down.begin += part;
  return part;
}

// ---- Before transmission

static void tls_check(int code, const char *what) {
  if (code < 0) errx(1, "%s: %s", what, gnutls_strerror(code));
}

static void plain_read(void *bytes, size_t count) {
  if (recv(far_socket, bytes, count, MSG_WAITALL) != (ssize_t)count) errx(1, "the server closed the connection");
}

static void plain_write(const void *bytes, size_t count) {
  if (send(far_socket, bytes, count, MSG_NOSIGNAL) != (ssize_t)count) err(1, "send");
}

static void tls_read(void *bytes, size_t count) {
  for (char *at = bytes; count > 0;) {
    ssize_t got = gnutls_record_recv(session, at, count);
    if (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED) continue;
    if (got <= 0) errx(1, "the server ended TLS");
    at += got;
    count -= got;
  }
}

// The head of an option: magic, option, length of the data.
static void put_option(unsigned char *bytes, uint32_t option, uint32_t length) {
  uint64_t magic = htobe64(0x49484156454f5054);
  option = htobe32(option);
  length = htobe32(length);
  memcpy(bytes, &magic, 8);
  memcpy(bytes + 8, &option, 4);
  memcpy(bytes + 12, &length, 4);
}

static uint32_t word(const unsigned char *bytes) {
  uint32_t value;
  memcpy(&value, bytes, 4);
  return be32toh(value);
}

static void start_tls(void) {
  unsigned char greeting[GREETING], request[4 + OPTION] = {0, 0, 0, 3}, reply[REPLY];
  plain_read(greeting, sizeof greeting);
  if (memcmp(greeting, "NBDMAGICIHAVEOPT", 16) != 0) errx(1, "not a newstyle NBD server");
  put_option(request + 4, OPT_STARTTLS, 0);
  plain_write(request, sizeof request);
  plain_read(reply, sizeof reply);
  if (word(reply + 12) != REP_ACK) errx(1, "the server answered NBD_OPT_STARTTLS with 0x%x", word(reply + 12));
}

static void go(void) {
  // No name, and no information asked for.
  unsigned char request[OPTION + 6] = {0}, reply[REPLY], data[4096];
  put_option(request, OPT_GO, 6);
  if (gnutls_record_send(session, request, sizeof request) != (ssize_t)sizeof request) errx(1, "gnutls_record_send");
  empty(&sealed_up, far_socket);
  for (;;) {
    tls_read(reply, sizeof reply);
    uint32_t type = word(reply + 12), length = word(reply + 16);
    if (length > sizeof data) errx(1, "an option reply of %u bytes", length);
    tls_read(data, length);
    if (type == REP_ACK) return;
    if (type != REP_INFO) errx(1, "the server answered NBD_OPT_GO with 0x%x", type);
  }
}

void open_tls(int far, const char *authority_file, const char *name, const char *priority) {
  far_socket = far;
  start_tls();
  gnutls_certificate_credentials_t credentials;
  tls_check(gnutls_certificate_allocate_credentials(&credentials), "credentials");
  tls_check(gnutls_certificate_set_x509_trust_file(credentials, authority_file, GNUTLS_X509_FMT_PEM), authority_file);
  tls_check(gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL), "gnutls_init");
  tls_check(gnutls_priority_set_direct(session, priority, NULL), priority);
  tls_check(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials), "credentials");
  gnutls_session_set_verify_cert(session, name, 0);
  gnutls_transport_set_push_function(session, push);
  gnutls_transport_set_pull_function(session, pull);
  int code;
  do code = gnutls_handshake(session);
  while (code < 0 && !gnutls_error_is_fatal(code));
  tls_check(code, "handshake");
  empty(&sealed_up, far_socket);
  go();
  char *agreed = gnutls_session_get_desc(session);
  if (getenv("NBD_PUMP_VERBOSE")) fprintf(stderr, "nbd-pump: %s\n", agreed);
  gnutls_free(agreed);
}

// ---- Transmission

// Seals what there is, and sends it.
static void pump_up(void) {
  while (up.begin < up.end && BUFFER - sealed_up.end >= SEALED) {
    ssize_t taken = gnutls_record_send(session, up.bytes + up.begin, up.end - up.begin);
    if (taken == GNUTLS_E_INTERRUPTED) continue;
    if (taken < 0) errx(1, "gnutls_record_send: %s", gnutls_strerror(taken));
    up.begin += taken;
  }
  if (up.begin == up.end) up.begin = up.end = 0;
  empty(&sealed_up, far_socket);
}

// Opens what there is, and sends it.
static void pump_down(int near) {
  while (BUFFER - down.end >= RECORD) {
    ssize_t got = gnutls_record_recv(session, down.bytes + down.end, BUFFER - down.end);
    if (got == GNUTLS_E_AGAIN) break;
    if (got == GNUTLS_E_INTERRUPTED) continue;
    if (got <= 0) {
      has_ended = 1;
      break;
    }
    down.end += got;
  }
  empty(&down, near);
}

static int has_input(void) {
  return sealed_down.begin < sealed_down.end || gnutls_record_check_pending(session) > 0;
}

void pump_tls(int near, int far) {
  while (!has_ended || down.begin < down.end) {
    int takes_up = up.end < BUFFER && sealed_up.end == 0, takes_down = BUFFER - down.end >= RECORD && !has_ended;
    struct pollfd polled[2] = {{near, 0, 0}, {far, 0, 0}};
    if (takes_up) polled[0].events |= POLLIN;
    if (takes_down) polled[1].events |= POLLIN;
    if (sealed_up.end > 0) polled[1].events |= POLLOUT;
    if (down.end > 0) polled[0].events |= POLLOUT;
    int waits = !(takes_down && has_input()) && !(up.end > 0 && sealed_up.end == 0);
    if (poll(polled, 2, waits ? -1 : 0) < 0) continue;
    if (polled[0].revents & POLLOUT) empty(&down, near);
    if (polled[1].revents & POLLOUT) empty(&sealed_up, far);
    if (polled[0].revents & (POLLIN | POLLHUP | POLLERR) && takes_up) {
      ssize_t got = recv(near, up.bytes + up.end, BUFFER - up.end, 0);
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return;
      if (got > 0) up.end += got;
    }
    if (up.end > 0 && sealed_up.end == 0) pump_up();
    if (takes_down && (polled[1].revents & (POLLIN | POLLHUP | POLLERR) || has_input())) pump_down(near);
  }
}
