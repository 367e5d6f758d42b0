// The least of a fixed newstyle handshake that opens the default export with NBD_OPT_GO.
#pragma once
#include <stdint.h>

// Leaves the socket in transmission; the export's size in bytes. Ends the program where the server does not agree.
uint64_t negotiate(int fd);
