// GnuTLS, and how the kernel takes its keys. gnutls_free is a global function pointer, which Swift 6 refuses.
#pragma once
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/socket.h>
#include <gnutls/x509.h>
#include <linux/tls.h>
#include <netinet/tcp.h>

static inline void shim_gnutls_free(void *p) { gnutls_free(p); }
