// The pump with GnuTLS towards the server.
#pragma once

// NBD_OPT_STARTTLS, the handshake of TLS with a server whose certificate is `name`'s, and NBD_OPT_GO for the default
// export, on a connected, blocking socket. Ends the program where that fails. Says on standard error what was agreed.
void open_tls(int far, const char *authority_file, const char *name, const char *priority);

// Until either side ends. Both sockets are nonblocking.
void pump_tls(int near, int far);
